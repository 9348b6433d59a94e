"""What a program promises, how it is saved (`files`), and what an engine does with any (`numpyro`, `pyro`)."""

from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from deepgen import checks

LikelihoodKind = Literal["exact", "bound", "estimate", "none"]


@runtime_checkable
class Program(Protocol):
    """A deep generative model as a pair of probabilistic programs.

    A program is an ``equinox.Module`` in NumPyro and a ``torch.nn.Module`` in Pyro. Its ``model`` declares the
    latents and the site ``"x"`` inside the plate ``"data"`` (dim -1), its ``guide`` the latents in the same plate.
    Every network is declared under the name of the program's field that holds it.
    """

    family: ClassVar[str]
    likelihood: ClassVar[LikelihoodKind]
    imputers: ClassVar[tuple[str, ...]]
    event_shape: tuple[int, ...]

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """p(latents, x) of the rows of ``x``, or of ``size`` rows to be drawn."""

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """q(latents | x); empty where the likelihood is exact. Missing entries of ``x`` are allowed."""

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it, or a ``ValueError`` that says what is wrong with it."""

    def diagnose(self, x: Any) -> list[Warning]:
        """What a user should hear of a program just fitted to ``x``; empty when all is well."""

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which the family's ``build`` makes a program of the same shape."""


@runtime_checkable
class TakesData(Protocol):
    """What every verb asks of a program."""

    def model(self, *args: Any, **kwargs: Any) -> Any:
        """As `Program`."""

    def guide(self, *args: Any, **kwargs: Any) -> Any:
        """As `Program`."""

    def check_data(self, *args: Any, **kwargs: Any) -> Any:
        """As `Program`."""


@runtime_checkable
class ModelsMissingness(Protocol):
    """A program whose model takes data with holes as they are, and says itself why an entry is missing.

    Its latents count the completed rows, at the site ``"x_missing"``, which its guide proposes too. Its `log_prob` is
    that of what is observed together with which entries those are, log p(x_observed, mask).
    """

    program: Any
    """Whose law of x it is."""
    mechanism: Any
    """From complete rows to the logit of each entry's being observed."""


@runtime_checkable
class TakesHoles(Protocol):
    """A program whose model takes data with holes as they are: its density is that of the observed entries."""

    takes_holes: ClassVar[bool]
    """True."""


class Densities(NamedTuple):
    """By what ways `log_prob` and all that ask for densities find those of a program's rows.

    Attributes:
        whole: of complete rows: ``"guide"``, p(x, z) / q(z | x) over the guide's draws, which is p(x) itself where
            there are no latents; ``"estimates"``, by an `Estimates` program; ``"partition"``, of an unnormalised law
            whose constant is estimated; or ``"own"``, by the program itself, `OwnDensity`.
        holes: of rows with missing entries: ``"guide"``, the missing ones left out of p(x, z); ``"completions"``,
            weighted ones of an invertible program; ``"steps"``, of one that decides step by step; ``"own"``; or None
            where the program takes complete rows alone.
    """

    whole: str = "guide"
    holes: str | None = "guide"


@runtime_checkable
class HasDensities(Protocol):
    """A program that names the ways of its densities; those of any other are ``Densities()``."""

    @property
    def densities(self) -> tuple[str, str | None]:
        """The ways."""


@runtime_checkable
class OwnDensity(Protocol):
    """A program that finds the densities of its rows itself, where its ``densities`` name ``"own"``."""

    def own_log_prob(self, *args: Any, **kwargs: Any) -> Any:
        """(Key of NumPyro, checked x (n, *event_shape), y, number of particles or None) to value, stderr and kind."""


@runtime_checkable
class Draws(Protocol):
    """A program that draws data by itself, such as by Markov chains, and not by running its model."""

    def draw(self, *args: Any, **kwargs: Any) -> Any:
        """Draws of x: (key of NumPyro, how many)."""


@runtime_checkable
class HasObjective(Protocol):
    """A program that says what `fit` minimises by default; that of any other is the `ELBO`."""

    def objective(self) -> Any:
        """What `fit` minimises by default."""


@runtime_checkable
class Clamps(Protocol):
    """A program that draws data some of whose entries are known."""

    def sample_given(self, *args: Any, **kwargs: Any) -> Any:
        """Draws whose known entries are clamped: (key of NumPyro, x, what of it is observed)."""


@runtime_checkable
class HasSamplers(Protocol):
    """A program that knows several ways to draw from its law."""

    samplers: ClassVar[tuple[str, ...]]

    def with_options(self, **options: Any) -> Any:
        """The program with another ``method`` of drawing, or another number of its steps, ``num_steps``."""


@runtime_checkable
class Estimates(Protocol):
    """A program whose log density is an average over random numbers; its ``densities`` name ``"estimates"``."""

    @property
    def probes(self) -> int:
        """How many estimates `log_prob` averages by default; 0 where there are none, and its density is exact."""

    def estimate(self, *args: Any, **kwargs: Any) -> Any:
        """(Key of NumPyro, x (n, *event_shape), k) to k estimates of log p(x), (k, n); (n,) where none is random."""


@runtime_checkable
class Labelled(Protocol):
    """What a program of data with class labels promises besides: a latent site ``"y"``, 0 … num_classes - 1.

    Its ``model`` and ``guide`` take the labels after the data, integers (n,), -1 where the class is not known. Its
    ``classifiers`` are the ways in which `classify` finds p(y | x), the default first.
    """

    num_classes: int
    classifiers: ClassVar[tuple[str, ...]]

    def check_labels(self, y: Any, rows: int) -> np.ndarray:
        """Labels (rows,) as this program takes them, or a ``ValueError`` that says what is wrong with them."""

    def given(self, y: Any) -> Any:
        """The program's ``model`` and ``guide`` as functions of x alone, given what is known of the labels."""

    def objective(self) -> Any:
        """What `fit` minimises by default."""


@runtime_checkable
class Conditional(Protocol):
    """What a program of a density given a context promises besides, such as a conditional flow.

    Its ``model`` and ``guide`` take the context after the data, (n, context_dim). The verbs take it as ``y``. Some take
    a context that differs from place to place as well, (n, context_dim, ...).
    """

    context_dim: int

    def check_context(self, context: Any, rows: int) -> np.ndarray:
        """A context of these rows as this program takes it, or a ``ValueError`` that says what is wrong."""

    def given(self, context: Any) -> Any:
        """The program's ``model`` and ``guide`` as functions of x alone, given the context of the rows."""


def check_program(program: Any, expected: str = "a program, such as VAE.mlp makes") -> None:
    """Refuse what is no program, such as a model of one, a pair (model, guide), or a key in its place.

    Args:
        program: what was passed as one.
        expected: for the message.

    Raises:
        TypeError: naming the argument.
    """
    if isinstance(program, type) or not isinstance(program, TakesData):
        raise checks.wrong_type(
            "program", program, expected=expected, fix="Pass the program itself, and not its class, model or guide."
        )


def takes_labels(program: Any, what: str = "y") -> Labelled:
    """The program, where it takes labels.

    Args:
        program: any program.
        what: the argument that asks for it, for the message.

    Raises:
        ValueError: it takes none.
    """
    if not isinstance(program, Labelled):
        raise checks.problem(
            what,
            got=f"a {type(program).__name__}, which has no classes",
            expected="a program with classes, such as ClassVAE",
            fix="Take one, or leave y out; the labels of a pair (model, guide) belong into its data.",
        )
    return program


def check_given(program: Any, y: Any, rows: int) -> np.ndarray:
    """What a program is told beside the data: the labels or the context of its rows, checked.

    Args:
        program: any program.
        y: labels (rows,) or a context (rows, context_dim), or one for all rows.
        rows: how many rows there are.

    Returns:
        One of the two for each row.

    Raises:
        ValueError: what the program does not take.
    """
    if isinstance(program, Conditional):
        return program.check_context(y, rows)
    return takes_labels(program).check_labels(y, rows)


def given(program: Any, y: Any, rows: int) -> Any:
    """The program given its rows' labels or context, or as it is where ``y`` is None.

    Args:
        program: any program.
        y: (rows,) labels, -1 where unknown, or (rows, context_dim) a context, one for all rows, or None.
        rows: how many rows there are.

    Returns:
        What has ``model`` and ``guide``.

    Raises:
        ValueError: labels or a context that the program does not take.
    """
    if y is None:
        return program
    told = check_given(program, y, rows)
    return program.given(told)


def drawn_by(program: Any, method: str | None, num_steps: int | None) -> Any:
    """The program as it is drawn from.

    Args:
        program: any program.
        method: of drawing; None for its own.
        num_steps: of that method; None for its usual number.

    Returns:
        A program.

    Raises:
        ValueError: a program with one way to draw, an unknown method, or a number of steps that it does not take.
    """
    options = {name: value for name, value in (("method", method), ("num_steps", num_steps)) if value is not None}
    if not options:
        return program
    if not isinstance(program, HasSamplers):
        raise checks.problem(
            " and ".join(options),
            got=f"{options} for a {type(program).__name__}, which has one way to draw",
            expected="a program with several, such as ScoreModel",
            fix="Leave them out.",
        )
    return program.with_options(**options)


def known(program: Any, x: Any, rows: int, y: Any = None) -> np.ndarray:
    """Data of which some entries are known, one datum or ``rows`` of them, as rows that the program takes.

    Args:
        program: any program.
        x: (rows, *event_shape) or (*event_shape), NaN (negative integers, a masked array's mask) where missing.
        rows: how many rows there are.
        y: what was said of labels, or the context of the rows.

    Returns:
        (rows, *event_shape).

    Raises:
        ValueError: a program that does not clamp known entries, labels beside them, another number of rows, or data
            that the program does not take.
    """
    told = y is not None and not isinstance(program, Conditional)
    if not isinstance(program, Clamps) or told:
        raise checks.problem(
            "given",
            got=f"known entries of a {type(program).__name__}" + (" beside labels" if told else ""),
            expected="a program that decides entry after entry, such as AutoregressiveModel",
            fix="Draw what is missing with impute.",
        )
    own: Any = program
    array, seen = checks.with_mask(x, None)
    if array.shape == tuple(own.event_shape):
        array = np.repeat(array[None], rows, axis=0)
        seen = None if seen is None else np.repeat(seen[None], rows, axis=0)
    try:
        array = own.check_data(array, missing=True, observed=seen)
    except ValueError as error:
        raise ValueError(f"given: {str(error).removeprefix('x: ')}") from None
    if len(array) != rows:
        raise checks.problem(
            "given",
            got=f"{len(array)} rows for num_samples={rows}",
            expected=f"one datum, or {rows} rows",
            fix="Pass as many rows as there are to be samples; np.repeat them for several draws of each.",
        )
    return array


class LogProb(NamedTuple):
    """log p(x) of each row, with what it is worth.

    Attributes:
        value: (n,) nats: log p(x_observed); of a program that models which entries are observed, such as `MNAR`,
            log p(x_observed, mask), which is not to be compared with the former.
        stderr: (n,) the Monte Carlo standard error of each value; zero where it is exact.
        kind: ``"exact"``, ``"bound"`` (a lower bound in expectation, never a likelihood) or ``"estimate"``.
    """

    value: np.ndarray
    stderr: np.ndarray
    kind: LikelihoodKind
