"""What energy-based programs take, and what their chains say of a fit, apart from any engine."""

from collections.abc import Callable
from typing import Any

import numpy as np

from deepgen import checks
from deepgen.likelihoods.laws import is_missing, refuse_missing

IMPUTERS = ("clamped",)
KERNELS = ("hamiltonian", "flips", "block-gibbs")
DIAGNOSED, ROUNDS, ROUND = 200, 8, 50
"""How many chains from the base and from the data a fit's diagnosis runs, its rounds at most, and their iterations."""


class ShortRunWarning(UserWarning):
    """The chains that train or draw from an energy are not long enough to be samples of its density."""


def check_x(
    x: Any,
    event_shape: tuple[int, ...],
    discrete: bool,
    *,
    missing: bool = False,
    observed: np.ndarray | None = None,
) -> np.ndarray:
    """Data as an energy-based program takes them: floats, NaN where missing.

    Args:
        x: (n, *event_shape) numbers; a masked array's mask says what is missing.
        event_shape: of a datum.
        discrete: whether they have to be zeros and ones.
        missing: whether missing entries are allowed.
        observed: booleans of x's shape, or None where NaN (of integers a negative one) says what is missing.

    Raises:
        ValueError: wrong dtype or shape, empty, not finite, other values than zeros and ones where these are needed,
            missing where it may not be, or a row of which nothing is observed.
    """
    x, observed = checks.with_mask(x, observed)
    array = checks.data("x", x, event_shape, missing=missing, observed=observed)
    present = ~is_missing(array) if discrete or array.dtype.kind == "f" else np.ones(array.shape, dtype=bool)
    present = present if observed is None else present & observed
    refuse_missing(present, missing)
    if discrete and not np.isin(array[present], (0, 1)).all():
        wrong = array[present][~np.isin(array[present], (0, 1))][0]
        raise checks.problem(
            "x",
            got=f"the value {wrong}",
            expected="zeros and ones, which the base 'bernoulli' is of",
            fix="Binarise the data, or build the program with base='diagonal'.",
        )
    dtype = array.dtype if array.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    return np.where(present, array, np.nan).astype(dtype)


def size(event_shape: tuple[int, ...]) -> int:
    """How many entries a datum has."""
    return int(np.prod(event_shape))


def kernel_name(kernel: str | None, base: str) -> str:
    """The kernel's name, by default what suits the base.

    Args:
        kernel: one of ``KERNELS``, or None.
        base: the kind of the base.

    Raises:
        ValueError: an unknown kernel.
    """
    if kernel is None:
        return "flips" if base == "bernoulli" else "hamiltonian"
    checks.one_of("kernel", kernel, KERNELS)
    return kernel


def check_rbm(energy: Any, kind: type) -> None:
    """Refuse what is no restricted Boltzmann machine, where an exact sum is asked for.

    Raises:
        ValueError: naming what it is.
    """
    if not isinstance(energy, kind):
        raise checks.problem(
            "program",
            got=f"a {type(energy).__name__}",
            expected="a restricted Boltzmann machine",
            fix="Estimate the constant with log_partition.",
        )


def check_base(batch_shape: tuple[int, ...]) -> None:
    """Refuse a base that is several laws.

    Args:
        batch_shape: of the base.

    Raises:
        ValueError: it is not empty.
    """
    if batch_shape:
        raise checks.problem(
            "base",
            got=f"batch shape {batch_shape}",
            expected="one law of a whole datum, without batch axes",
            fix="Mark the axes of a datum with .to_event(...).",
        )


def check_energies(values: tuple[int, ...], rows: int) -> None:
    """Refuse a network of the user's own that does not give one number a row.

    Args:
        values: the shape of what it gave.
        rows: how many rows it was shown.

    Raises:
        ValueError: another shape.
    """
    checks.one_a_row("energy", values, rows, "Sum over the entries, or wrap a network of one output in NetworkEnergy.")


def check_factors(programs: Any) -> None:
    """Refuse a product of nothing, or of programs of different data.

    Args:
        programs: what is to be multiplied.

    Raises:
        ValueError: fewer than two, or events of several shapes or kinds.
    """
    kinds = {(tuple(program.event_shape), program.base.kind == "bernoulli") for program in programs}
    if len(programs) < 2 or len(kinds) > 1:
        raise checks.problem(
            "programs",
            got=f"{len(programs)} of {len(kinds)} kinds of data",
            expected="at least two programs of data of one shape, all of numbers or all of zeros and ones",
            fix="Build them with the same event_shape and kind of base.",
        )


def no_draws(kernel: Any, engine: str) -> str:
    """Why an unnormalised law has no ``sample``, and what to do.

    Args:
        kernel: of the law.
        engine: ``"numpyro"`` or ``"pyro"``.
    """
    start = (
        ""
        if engine == "numpyro"
        else " NUTS starts with init_strategy=init_to_value(values={site: law.base.sample()}) and a max_plate_nesting."
    )
    return (
        "sample: got an EnergyBased law, whose density is known up to a constant; expected one that can be drawn from. "
        f"Run chains: law.kernel.run ({type(kernel).__name__}), or sample(program, ...) of an EnergyBasedModel." + start
    )


def diagnose(from_base: np.ndarray, from_data: np.ndarray, steps: int) -> list[Warning]:
    """A warning where chains that began at the base and at the data have not come to the same energies.

    The score is the difference of the two means in units of its standard error over the chains; chains of one law, run
    long enough, exceed 4 by chance once in fifteen thousand.

    Args:
        from_base: (chains,) energies -log f of the ends of chains that began at draws of the base, nats.
        from_data: (chains,) of chains that began at data.
        steps: how many iterations they took.

    Returns:
        At most one warning.
    """
    away, error = _apart(from_base, from_data)
    if away <= 4 * error:
        return []
    return [
        ShortRunWarning(
            f"after {steps} iterations chains from the base have a mean energy of {from_base.mean():.4g} nats, chains "
            f"from the data of {from_data.mean():.4g}, {away:.2g} ± {error:.1g} apart: "
            "chains as short as this are no samples of the density, and "
            "sample and log_prob are not to be trusted. Train longer or with more steps a chain, or add data noise."
        )
    ]


def watch(advance: Callable[[], tuple[np.ndarray, np.ndarray]]) -> list[Warning]:
    """`diagnose` of chains after each round, until they agree or will not come to do so.

    That is, not even if the distance goes on to shrink at the rate of the last round to the end of the last: slower
    modes come later, so that most often it shrinks less.

    Args:
        advance: moves the chains by a round, and gives the energies -log f of those that began at draws of the base
            and of those that began at data, (chains,) each, nats.

    Returns:
        At most one warning.
    """
    before, found = np.inf, []
    for i in range(1, ROUNDS + 1):
        from_base, from_data = advance()
        found = diagnose(from_base, from_data, i * ROUND)
        away, error = _apart(from_base, from_data)
        # twice what is allowed, since the rate has an error
        if not found or not away * (away / before) ** (ROUNDS - i) <= 8 * error:
            break
        before = away
    return found


def _apart(from_base: np.ndarray, from_data: np.ndarray) -> tuple[float, float]:
    """The distance of two means, and its standard error."""
    error = np.hypot(from_base.std() / np.sqrt(len(from_base)), from_data.std() / np.sqrt(len(from_data)))
    return abs(float(from_base.mean() - from_data.mean())), max(float(error), 1e-6)
