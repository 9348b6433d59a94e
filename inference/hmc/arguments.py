"""What a run refuses before any compute."""

import numpy as np

from deepgen import checks


def check_run(
    shape: tuple[int, ...],
    floating: bool,
    *,
    num_warmup: int,
    num_samples: int,
    num_steps: int,
    jitter: float,
    target_accept_prob: float,
    thinning: int,
) -> None:
    """Refuse what a run cannot use.

    Args:
        shape: of the position.
        floating: whether the position is of floating dtype.
        num_warmup: at least 0.
        num_samples: at least 1.
        num_steps: at least 1.
        jitter: in [0, 1].
        target_accept_prob: in (0, 1).
        thinning: at least 1.

    Raises:
        ValueError: naming the argument, what it got and what it needs.
    """
    if len(shape) < 2 or 0 in shape or not floating:
        raise checks.problem(
            "position",
            got=f"shape {shape}" if floating else "a dtype that is not floating",
            expected="floating numbers (chains, ..., d), no axis empty",
            fix="Add an axis of chains in front: position[None].",
        )
    for name, value, least in [
        ("num_warmup", num_warmup, 0),
        ("num_samples", num_samples, 1),
        ("num_steps", num_steps, 1),
        ("thinning", thinning, 1),
    ]:
        if value < least:
            raise checks.problem(
                name, got=value, expected=f"an integer >= {least}", fix=f"Set {name} to such a number."
            )
    if not 0 <= jitter <= 1:
        raise checks.problem(
            "jitter",
            got=jitter,
            expected="a number from 0 to 1",
            fix="0 fixes the length of trajectories, 0.5 is the default.",
        )
    if not 0 < target_accept_prob < 1:
        raise checks.problem(
            "target_accept_prob",
            got=target_accept_prob,
            expected="a number strictly between 0 and 1",
            fix="0.8 is a good one; go up to 0.95 where trajectories diverge.",
        )


def check_step_size(step_size: np.ndarray, batch_shape: tuple[int, ...]) -> None:
    """Refuse step sizes that are not finite and positive, or do not fit the batch.

    Args:
        step_size: a number or an array.
        batch_shape: of the position, without its last axis.

    Raises:
        ValueError: with the shapes, or with the values.
    """
    fits = len(step_size.shape) <= len(batch_shape) and all(
        have in (1, want) for have, want in zip(step_size.shape[::-1], batch_shape[::-1], strict=False)
    )
    if not fits:
        raise checks.problem(
            "step_size",
            got=f"shape {step_size.shape}",
            expected=f"a number, or a shape that broadcasts to {batch_shape}",
            fix="Pass one number for all, or one an element.",
        )
    if not (np.isfinite(step_size) & (step_size > 0)).all():
        raise checks.problem(
            "step_size",
            got=f"{step_size}",
            expected="finite numbers > 0",
            fix="0.1 is a start that the warm-up adapts.",
        )


def check_log_density(value_shape: tuple[int, ...], batch_shape: tuple[int, ...]) -> None:
    """Refuse a log density that does not return one number an element.

    Raises:
        ValueError: with both shapes.
    """
    if value_shape != batch_shape:
        raise checks.problem(
            "log_density",
            got=f"a result of shape {value_shape}",
            expected=f"one number for each position, shape {batch_shape}",
            fix="Sum over the last axis, and over nothing else.",
        )


def check_finite(finite: np.ndarray) -> None:
    """Refuse a start at which the log density or its gradient is not finite.

    Args:
        finite: (*batch) booleans.

    Raises:
        ValueError: with the number of such elements and the first of them.
    """
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise checks.problem(
            "position",
            got=f"a log density or gradient that is not finite at {int((~finite).sum())} of {finite.size} elements, "
            f"the first at {where}",
            expected="a start inside the support",
            fix="Start elsewhere (the guide's mean, a draw from the prior), or look for NaN in the data or parameters.",
        )
