"""What the Langevin kernels refuse before any compute, and what they warn of after it."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from deepgen import checks
from deepgen.inference.langevin.dynamics import Dynamics, event_ndim


class DivergenceWarning(UserWarning):
    """Chains left for infinity, or moved nowhere because each proposal was thrown out."""


class Plan(NamedTuple):
    """What a warm-up learns."""

    adapt_step_size: bool
    adapt_mass_matrix: bool
    dense_mass: bool
    target_accept_prob: float


def plan(
    dynamics: Dynamics,
    *,
    adapt_step_size: bool | None = None,
    adapt_mass_matrix: bool | None = None,
    dense_mass: bool = False,
    target_accept_prob: float | None = None,
) -> Plan:
    """What the warm-up learns; None is what the dynamics can: all where there is an acceptance test, else nothing.

    Args:
        dynamics: the kernel.
        adapt_step_size: whether the step size is learned.
        adapt_mass_matrix: whether the metric is learned.
        dense_mass: whether the metric is a full matrix.
        target_accept_prob: in (0, 1), or None for the dynamics' own.

    Returns:
        The plan.

    Raises:
        ValueError: asked of dynamics that cannot do it, or a probability that is none.
    """
    own = dynamics.target_accept_prob
    if adapt_step_size and own is None:
        raise checks.problem(
            "adapt_step_size",
            got="True for a kernel without an acceptance probability to adapt a step size to",
            expected="False or None",
            fix="Choose step_size yourself, or take a Metropolis-adjusted kernel.",
        )
    if (adapt_mass_matrix or dense_mass) and not dynamics.metric:
        raise checks.problem(
            "dense_mass" if dense_mass else "adapt_mass_matrix",
            got="True for a kernel that has no mass matrix",
            expected="False or None",
            fix="Leave it out.",
        )
    if target_accept_prob is not None and not 0 < target_accept_prob < 1:
        raise checks.problem(
            "target_accept_prob",
            got=target_accept_prob,
            expected="a number strictly between 0 and 1",
            fix=f"{own or 0.574} is a good one for this kernel.",
        )
    learned = own is not None
    return Plan(
        learned if adapt_step_size is None else adapt_step_size,
        dynamics.metric and (learned if adapt_mass_matrix is None else adapt_mass_matrix),
        dense_mass,
        (own or 0.574) if target_accept_prob is None else target_accept_prob,
    )


def check_functions(adjusted: bool, *, potential_fn: Any, score_fn: Any) -> None:
    """Refuse a target that is not there, or a score alone where an acceptance test needs the energy.

    Args:
        adjusted: whether the kernel has an acceptance test.
        potential_fn: a callable or None.
        score_fn: a callable or None.

    Raises:
        ValueError: neither is given; or a score alone for an adjusted kernel.
    """
    if potential_fn is None and score_fn is None:
        raise checks.problem(
            "potential_fn",
            got="neither potential_fn nor score_fn",
            expected="at least one of them",
            fix="Pass potential_fn, (n, *event) -> (n,), minus the log density, or score_fn, its gradient.",
        )
    if potential_fn is None and adjusted:
        raise checks.problem(
            "score_fn",
            got="a score alone for a kernel with an acceptance test",
            expected="potential_fn too, whose differences the test needs",
            fix="Pass potential_fn as well, or take an unadjusted kernel such as ULA.",
        )


def check_run(
    dynamics: Dynamics,
    shape: tuple[int, ...],
    floating: bool,
    *,
    num_warmup: int,
    num_samples: int,
    thinning: int,
    step_size: np.ndarray,
) -> None:
    """Refuse what a run cannot use.

    Args:
        dynamics: the kernel.
        shape: of the position, (n, *event).
        floating: whether the position is of floating dtype.
        num_warmup: at least 0.
        num_samples: at least 1.
        thinning: at least 1.
        step_size: a number or (n,), positive.

    Raises:
        ValueError: naming the argument, what it got and what it needs.
    """
    axes = 1 + event_ndim(dynamics)
    if len(shape) < axes or 0 in shape:
        raise checks.problem(
            "position",
            got=f"shape {shape}",
            expected=f"(n, *event) with at least {axes} axes, none empty",
            fix="Add an axis of chains in front: position[None]."
            + (" One-hot states are (n, ..., categories)." if axes > 2 else ""),
        )
    if not floating:
        raise checks.problem(
            "position",
            got="a dtype that is not floating",
            expected="floating numbers, also for discrete states (zeros and ones)",
            fix="Convert it to float32.",
        )
    for name, value, least in [
        ("num_warmup", num_warmup, 0),
        ("num_samples", num_samples, 1),
        ("thinning", thinning, 1),
    ]:
        if value < least:
            raise checks.problem(
                name, got=value, expected=f"an integer >= {least}", fix=f"Set {name} to such a number."
            )
    check_step_size(step_size, shape[0])


def check_step_size(step_size: np.ndarray, size: int) -> None:
    """Refuse step sizes that are not finite and positive, or are not one or one a chain.

    Args:
        step_size: a number or an array.
        size: the number of chains.

    Raises:
        ValueError: with the shape, or with the values.
    """
    if step_size.shape not in ((), (1,), (size,)):
        raise checks.problem(
            "step_size",
            got=f"shape {step_size.shape}",
            expected=f"a number, or one for each of {size} elements",
            fix="Pass one number for all.",
        )
    if not (np.isfinite(step_size) & (step_size > 0)).all():
        raise checks.problem(
            "step_size",
            got=f"{step_size}",
            expected="finite numbers > 0",
            fix="It is a leapfrog step, the square root of the Langevin step; 0.1 is a start.",
        )


def check_states(dynamics: Dynamics, position: np.ndarray) -> None:
    """Refuse a position that is no state of discrete dynamics.

    Args:
        dynamics: the kernel.
        position: (n, *event).

    Raises:
        ValueError: other values than zeros and ones, or rows that are not one-hot.
    """
    if dynamics.kind is None:
        return
    if not np.isin(position, (0, 1)).all():
        raise checks.problem(
            "position",
            got=f"values such as {position[~np.isin(position, (0, 1))][0]}",
            expected="zeros and ones: the states of a discrete kernel",
            fix="Take a kernel for real numbers, such as MALA, or start at discrete states.",
        )
    if event_ndim(dynamics) == 2 and not (position.sum(-1) == 1).all():
        raise checks.problem(
            "position",
            got="rows of the last axis that are not one-hot",
            expected="exactly one 1 along the last axis",
            fix="Encode category c of k as row c of the identity matrix of size k.",
        )


def check_value(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse what a target's function returned, if its shape is wrong.

    Args:
        name: of the function.
        got: the shape that it returned.
        expected: the shape that it should.

    Raises:
        ValueError: with both shapes.
    """
    if got != expected:
        kinds = {
            (): ("one number", "Sum over all axes."),
            expected[:1]: ("one number for each position", "Sum over all axes but the first."),
        }
        gradient = "the gradient at each position", "Return an array of the position's shape."
        meaning, fix = gradient if name == "score_fn" else kinds[expected]
        raise checks.problem(name, got=f"a result of shape {got}", expected=f"{meaning}, shape {expected}", fix=fix)


def check_score(got: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a score of another structure than the state's.

    Args:
        got: the shape of each array of the score.
        expected: of each array of the state.

    Raises:
        ValueError: with both.
    """
    if dict(got) != dict(expected):

        def say(shapes: Mapping[str, tuple[int, ...]]) -> str:
            return ", ".join(f"{name}: {shape}" if name else f"{shape}" for name, shape in shapes.items())

        raise checks.problem(
            "score_fn",
            got=f"a result of shape {say(got)}",
            expected=f"the gradient by each array of the state, {say(expected)}",
            fix="Return what the state is, each array of the same shape.",
        )


def check_finite(finite: np.ndarray) -> None:
    """Refuse a start at which energy or score are not finite.

    Args:
        finite: (n,) booleans.

    Raises:
        ValueError: with the number of such elements and the first of them.
    """
    if not finite.all():
        raise checks.problem(
            "position",
            got=f"an energy or a score that is not finite at {int((~finite).sum())} of {finite.size} elements, "
            f"the first at {int(np.argmin(finite))}",
            expected="a start inside the support",
            fix="Start elsewhere, or look for NaN in the data or parameters.",
        )


def check_ladder(
    sigmas: np.ndarray, *, num_steps: int, step_size: float | None = None, snr: float | None = None
) -> None:
    """Refuse a noise ladder that does not descend, or steps on it that are none.

    Args:
        sigmas: (L,) standard deviations, from the largest to the smallest.
        num_steps: at least 1.
        step_size: positive, or None.
        snr: positive, or None; exactly one of the two is given.

    Raises:
        ValueError: naming the argument, what it got and what it needs.
    """
    descends = sigmas.ndim == 1 and sigmas.size >= 2 and bool((np.diff(sigmas) < 0).all() and sigmas[-1] > 0)
    if not descends:
        raise checks.problem(
            "sigmas",
            got=f"{sigmas}" if sigmas.size < 8 else f"an array of shape {sigmas.shape}",
            expected="at least two positive numbers, each below the one before",
            fix="Take ladder.geometric(sigma_max, sigma_min, num_levels).",
        )
    checks.at_least("num_steps", num_steps, 1)
    if (step_size is None) == (snr is None):
        raise checks.problem(
            "step_size",
            got="both step_size and snr" if snr is not None else "neither step_size nor snr",
            expected="one of them",
            fix="step_size gives annealed Langevin dynamics, snr the predictor-corrector.",
        )
    checks.positive("snr" if step_size is None else "step_size", float(snr if step_size is None else step_size))  # type: ignore[arg-type]


def warn_of_divergence(
    dynamics: Dynamics, divergences: np.ndarray, iterations: int, *, stopped: tuple[int, int, int] | None = None
) -> None:
    """Warn where a kernel without an acceptance test diverged, or where one with a test found hardly anything else.

    Args:
        dynamics: the kernel.
        divergences: (n,) diverging steps of each chain, after the warm-up.
        iterations: how many steps there were.
        stopped: where the run was given up: the steps made, those asked for, and the draws kept; else None.
    """
    # a single rejected proposal says nothing of a step size: ten say something
    bad = divergences > max(iterations // 2, 9) if dynamics.adjusted else divergences > 0
    bad = bad | (stopped is not None)
    if bad.any():
        rest = "" if stopped else ", but not finite from there on"
        what = (
            f"{int(bad.sum())} of {bad.size} chains had most of their proposals thrown out as divergent"
            if dynamics.adjusted
            else f"{int(bad.sum())} of {bad.size} chains diverged; their draws are kept{rest}"
        )
        if stopped:
            what += f"; the run stopped after {stopped[0]} of {stopped[1]} steps with {stopped[2]} draws"
        warnings.warn(
            f"{what}: step_size is too large for this target. Make it smaller by a factor of 3, or scale the variables "
            "to similar spreads.",
            DivergenceWarning,
            stacklevel=3,
        )
