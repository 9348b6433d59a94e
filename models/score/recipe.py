"""What a score model is made of, checked once for both engines."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from deepgen import checks
from deepgen.inference.langevin import ladder
from deepgen.likelihoods.laws import is_missing
from deepgen.models.score import sdes
from deepgen.nn import arguments

METHODS = ("ode", "sde", "predictor-corrector", "annealed-langevin")
STEPS = {"ode": 0, "sde": 500, "predictor-corrector": 200, "annealed-langevin": 100}
"""How many levels of noise a method goes through by default; the solver of the flow chooses its own steps."""
GRADIENTS = ("flow", "score", "score alone")
"""What the derivative of a density by its value may be."""
SLOPE = "slope"
"""The score alone, beside zero in place of NaN."""
EXACT_SIZE = 16
"""Up to so many entries a density takes the exact trace; beyond, random probes."""
PROBES = 4
"""How many fixed probes it takes then."""
ESTIMATES = 8
"""How many random ones the verb ``log_prob`` takes."""
FEWEST_LEVELS = 10
"""Of a ladder that is chosen by the data: in few dimensions levels overlap that are far from each other."""
FARTHEST = 1000
"""Among so many rows the largest distance is looked for."""


@runtime_checkable
class HasDensity(Protocol):
    """A network that knows the density whose scores it gives, up to a constant."""

    def log_density(self, x: Any, rho: Any, context: Any = None) -> Any:
        """log p of rows of data plus noise of standard deviations ρ, (n,) nats up to a constant for each ρ."""


def judge(network: Any, num_probes: int) -> str:
    """By what density completions are corrected, see `inference.imputation.corrected`.

    Args:
        network: of the scores.
        num_probes: of the flow's density.
    """
    if isinstance(network, HasDensity):
        return "energy"
    return "probability flow by probes" if num_probes else "probability flow"


def check_score(found: tuple[int, ...], x: tuple[int, ...]) -> None:
    """Refuse a network that does not give a number for each entry that it is shown.

    Args:
        found: the shape of what it gave.
        x: of what it was shown.

    Raises:
        ValueError: another shape.
    """
    if found != x:
        raise checks.problem(
            "network",
            got=f"a result of shape {found}",
            expected=f"scores of the shape of x, {x}",
            fix="Give the network's last layer one output for each entry of a datum.",
        )


@runtime_checkable
class Derived(Protocol):
    """A network of a program that was made from another one for the sake of its draws."""

    made_by: str


def check_own(network: Any, verb: str) -> None:
    """Refuse to fit or save what was made from another program.

    Args:
        network: of the program.
        verb: what is asked of it.

    Raises:
        ValueError: it was.
    """
    if isinstance(network, Derived):
        raise checks.problem(
            "program",
            got=f"one made by {network.made_by}(...)",
            expected="one that stands by itself",
            fix=f"To {verb} it, {verb} the program that it was made from, and call {network.made_by} again.",
        )


def check_density(values: tuple[int, ...], rows: int) -> None:
    """Refuse a density that does not give one number a row.

    Args:
        values: the shape of what it gave.
        rows: how many rows it was shown.

    Raises:
        ValueError: another shape.
    """
    checks.one_a_row("log_prob", values, rows, "Sum over the entries of a datum.")


def check_shape(event_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a datum as a tuple.

    Raises:
        ValueError: not one or more positive integers.
    """
    return checks.event_shape(tuple(event_shape) if isinstance(event_shape, list) else event_shape)


def check_network(
    event_shape: Sequence[int], features: Any, scale: Any, context_dim: Any
) -> tuple[tuple[int, ...], int, float, int]:
    """The arguments that all networks of scores have.

    Raises:
        ValueError: naming the argument.
    """
    if arguments.whole("features", features, least=2) % 2:
        raise checks.problem(
            "features", got=features, expected="an even number: cosines and sines", fix=f"Pass {features + 1}."
        )
    checks.positive("scale", scale)
    return check_shape(event_shape), int(features), float(scale), arguments.whole("context_dim", context_dim, least=0)


def context_size(context_dim: int) -> int:
    """How many numbers a network is told of a context: those and whether it is shown."""
    return context_dim + 1 if context_dim else 0


OPTIONS = ("context_dim", "drop", "guidance", "method", "num_steps", "num_probes", "tolerance")
"""What a program says of its law beside network, diffusion and shape."""


def options(program: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A program's options, some of them changed.

    Args:
        program: the program.
        changes: options and their values.

    Raises:
        ValueError: an option that there is not.
    """
    for name in changes:
        checks.one_of("option", name, OPTIONS[1:])
    return {name: changes.get(name, getattr(program, name)) for name in OPTIONS}


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a description says."""
    return {name: config[name] for name in OPTIONS if name in config}


def spec(program: Any, networks: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a program.

    Raises:
        ValueError: it was made from another one.
    """
    check_own(program.network, "save")
    known = isinstance(program.network, tuple(networks.values()))
    return {
        "event_shape": list(program.event_shape),
        "sde": sdes.spec(program.sde),
        "network": program.network.spec() if known else {"network": "custom"},
        **{name: getattr(program, name) for name in OPTIONS},
    }


class Ends(NamedTuple):
    """What a constructor found.

    Attributes:
        event_shape: of a datum.
        sde: the diffusion.
        scale: the standard deviation of the data; 1 where there are none.
    """

    event_shape: tuple[int, ...]
    sde: Any
    scale: float


def ends(event_shape: Sequence[int], sde: Any, levels: Any, data: Any) -> Ends:
    r"""The arguments that all constructors have, checked, and what the data say.

    With ``levels``, or with data and ``sde="ve"``, σ_max is the largest distance between two of (at most a thousand)
    data, and ``levels="auto"`` takes so many that neighbouring levels overlap (Song & Ermon 2020), at least ten.

    Args:
        event_shape: of a datum.
        sde: a diffusion, or its name.
        levels: how many discrete levels of a variance-exploding diffusion; None for continuous time.
        data: (n, *event_shape), NaN where missing, or None.

    Raises:
        ValueError: one of them is not acceptable.
    """
    shape = check_shape(event_shape)
    if levels is not None and sde not in ("ve", None):
        raise checks.problem(
            "levels",
            got=f"{levels!r} with sde={sde!r}",
            expected='levels with sde="ve" alone, which a ladder of noise is a discrete form of',
            fix='Leave sde out, pass sde="ve", or pass sde=VE(sigma_min, sigma_max, levels=...).',
        )
    named = "ve" if levels is not None else "vp" if sde is None else sde
    chosen = sdes.check(named)
    if data is None:
        if levels == "auto":
            raise checks.problem("levels", got="'auto' without data", expected="data to choose by", fix="Pass data=x.")
        if levels is not None:
            chosen = sdes.VE(levels=arguments.whole("levels", levels, least=2))
        return Ends(shape, chosen, 1.0)
    rows = checks.data("data", data, shape, missing=True).reshape(len(data), -1).astype(np.float64)
    scale = max(float(np.sqrt(np.nanmean((rows - np.nanmean(rows, axis=0)) ** 2))), 1e-3)
    if named == "ve":
        complete = rows[~np.isnan(rows).any(1)][:FARTHEST]
        farthest = ladder.largest_distance(complete) if len(complete) > 1 else 50 * scale
        sigma_min = 0.01 * scale
        sigma_max = max(farthest, 10 * sigma_min)
        overlapping = max(FEWEST_LEVELS, ladder.num_levels(sigma_max, sigma_min, rows.shape[1]))
        count = overlapping if levels == "auto" else levels
        chosen = sdes.VE(sigma_min, sigma_max, levels=None if count is None else arguments.whole("levels", count))
    return Ends(shape, chosen, scale)


def check_x(
    x: Any, event_shape: tuple[int, ...], *, missing: bool = False, observed: np.ndarray | None = None
) -> np.ndarray:
    """Data as a score model takes them: floats, NaN where missing.

    Args:
        x: (n, *event_shape) numbers; a masked array's mask says what is missing.
        event_shape: of a datum.
        missing: whether missing entries are allowed.
        observed: booleans of x's shape, or None where NaN says what is missing.

    Raises:
        ValueError: wrong dtype or shape, empty, not finite, missing where it may not be.
    """
    x, observed = checks.with_mask(x, observed)
    array = checks.data("x", x, event_shape, missing=missing, observed=observed)
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
    array = array if observed is None else np.where(observed, array, np.nan).astype(array.dtype)
    if not missing and is_missing(array).any():
        raise checks.problem(
            "x", got="missing entries", expected="complete data", fix="Fill these rows, or complete them with impute."
        )
    return array


def check_sampling(method: str | None, num_steps: int | None) -> tuple[str, int]:
    """How to draw, the defaults filled in.

    Raises:
        ValueError: an unknown method, steps for the flow, or no positive number of them.
    """
    name = METHODS[0] if method is None else method
    checks.one_of("method", name, METHODS)
    if num_steps is None:
        return name, STEPS[name]
    if name == "ode":
        raise checks.problem(
            "num_steps", got=num_steps, expected="none for method='ode'", fix="Its solver chooses its own steps."
        )
    return name, arguments.whole("num_steps", num_steps, least=2)


def check_guidance(guidance: Any, drop: Any, context_dim: int) -> None:
    """Refuse a weight or a share that means nothing.

    Raises:
        ValueError: naming the argument.
    """
    checks.positive("guidance", guidance, zero=True)
    if not 0 <= drop < 1:
        raise checks.problem("drop", got=drop, expected="a share in [0, 1)", fix="0.1 is usual.")
    if guidance and not context_dim:
        raise checks.problem(
            "guidance",
            got=f"{guidance} without a context",
            expected="a conditional model",
            fix="Make it with context_dim, or leave guidance at 0.",
        )


def fixed_probes(event_shape: tuple[int, ...], count: int) -> np.ndarray:
    """Signs for `transport` that are the same at each call and in each engine.

    Args:
        event_shape: of a datum.
        count: k.

    Returns:
        (k, *event_shape) of plus and minus one, float32.
    """
    return np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.float32), size=(count, *event_shape))


def probes(num_probes: int | None, event_shape: tuple[int, ...]) -> int:
    """How many probes a density takes: none for few entries, else `PROBES`, where nobody says.

    Raises:
        ValueError: a negative number.
    """
    if num_probes is None:
        return 0 if math.prod(event_shape) <= EXACT_SIZE else PROBES
    return arguments.whole("num_probes", num_probes, least=0)


def check_context(context_dim: int, shape: tuple[int, ...] | None) -> None:
    """Refuse a context of another size than a model takes.

    Args:
        context_dim: its size; 0 where there is none.
        shape: of the context, or None where it is unknown.

    Raises:
        ValueError: naming what came and what is wanted.
    """
    if shape is not None and (not context_dim or len(shape) != 2 or shape[1] != context_dim):
        raise checks.problem(
            "context",
            got=f"shape {tuple(shape)}",
            expected=f"(n, {context_dim})" if context_dim else "none",
            fix="Pass one row of numbers for each datum; make the model with context_dim.",
        )


def context_rows(context: Any, rows: int, context_dim: int) -> np.ndarray:
    """A context for each of the rows, checked.

    Args:
        context: (rows, context_dim), or (context_dim,) for all.
        rows: how many.
        context_dim: C.

    Raises:
        ValueError: another shape, another number of rows, or values that are not finite.
    """
    array = np.asarray(context)
    array = np.broadcast_to(array, (rows, *array.shape)) if array.ndim == 1 else array
    check_context(context_dim, array.shape)
    if len(array) != rows:
        raise checks.problem(
            "context",
            got=f"{len(array)} rows",
            expected=f"{rows}, one for each row that is given or drawn",
            fix="Pass as many of each.",
        )
    array = checks.data("context", array, (context_dim,))
    # a copy: torch warns of views that may not be written to
    return np.array(array, dtype=array.dtype if array.dtype.kind == "f" else np.float32)
