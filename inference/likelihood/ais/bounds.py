"""What the log weights of annealed chains say of log p(x)."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from deepgen import checks
from deepgen.inference.likelihood import streaming
from deepgen.program import ModelsMissingness

STARTS = ("prior", "guide")
FEWEST_CHAINS = 8
"""Of fewer chains it says nothing that one of them outweighs the others."""


class Bracket(NamedTuple):
    """Stochastic bounds of the mean log p(x) of rows that the model itself drew.

    Attributes:
        lower: the mean over the rows of what forward chains give, nats: in expectation at most the truth.
        lower_stderr: its standard error over the rows.
        upper: the mean of what reverse chains give, nats: in expectation at least the truth.
        upper_stderr: its standard error.
        gap: ``upper - lower``: in expectation, how far either is from the truth at most.
        gap_stderr: its standard error; the rows are paired, so what they differ in drops out.
        row_lower: (n,) of each row.
        row_upper: (n,).
        x: (n, *event_shape) the rows.
    """

    lower: float
    lower_stderr: float
    upper: float
    upper_stderr: float
    gap: float
    gap_stderr: float
    row_lower: np.ndarray
    row_upper: np.ndarray
    x: np.ndarray


def log_mean(log_weights: Float[np.ndarray, "chains n"]) -> tuple[np.ndarray, np.ndarray]:
    """log of the mean weight of a row's chains, with its standard error by the delta method.

    Args:
        log_weights: (chains, n) nats.

    Returns:
        Both, (n,) nats.
    """
    sums = streaming.add(streaming.empty(log_weights[0]), log_weights)
    return streaming.log_mean(sums, len(log_weights))


def judged(log_weights: Float[np.ndarray, "chains n"], start: str) -> tuple[np.ndarray, np.ndarray]:
    """`log_mean`, with a warning where single chains carry most rows: the chains have not reached the posterior.

    Args:
        log_weights: (chains, n) nats.
        start: where the chains started.

    Returns:
        As `log_mean`.

    Warns:
        UserWarning: where of at least `FEWEST_CHAINS` chains less than two are effective in more than half of the rows.
    """
    value, stderr = log_mean(log_weights)
    effective = 1 / (stderr**2 + 1 / len(log_weights))
    carried = int((effective < 2).sum())
    if len(log_weights) >= FEWEST_CHAINS and 2 * carried > len(value):
        other = "Raise num_temperatures" + (", or start the chains at the guide." if start == "prior" else ".")
        warnings.warn(
            f"in {carried} of {len(value)} rows one of the {len(log_weights)} annealed chains outweighs all others: "
            f"their log p is likely too small, by more than the standard error says. {other}",
            stacklevel=3,
        )
    return value, stderr


def bracket(forward: Float[np.ndarray, "chains n"], reverse: Float[np.ndarray, "chains n"], x: np.ndarray) -> Bracket:
    r"""Bounds from both directions.

    .. math:: \log \frac1K \sum_k w_k \quad\text{and}\quad -\log \frac1K \sum_k \frac1{\bar w_k}

    A forward weight is unbiased for p(x), the inverse of a reverse weight for 1 / p(x): by Jensen's inequality a lower
    and an upper bound of log p(x) in expectation.

    Args:
        forward: (chains, n) log weights of chains from the start.
        reverse: (chains, n) log weights of chains from an exact posterior draw, the same draw for each chain of a row.
        x: (n, *event_shape) the rows.

    Returns:
        The bounds. The errors are those of means over independent rows: the chains of a row share a posterior draw.
    """
    lower, upper = log_mean(forward.astype(float))[0], -log_mean(-reverse.astype(float))[0]
    gap = upper - lower
    return Bracket(*_mean(lower), *_mean(upper), *_mean(gap), row_lower=lower, row_upper=upper, x=x)


def check_run(num_chains: int, num_temperatures: int, num_steps: int, start: str) -> None:
    """Refuse what a run cannot use.

    Args:
        num_chains: at least 2, for there is no standard error of one.
        num_temperatures: at least 2.
        num_steps: at least 1.
        start: one of ``STARTS``.

    Raises:
        ValueError: naming the argument.
    """
    checks.at_least("num_chains", num_chains, 2)
    checks.at_least("num_temperatures", num_temperatures, 2)
    checks.at_least("num_steps", num_steps, 1)
    checks.one_of("start", start, STARTS)


def check_latents(names: list[str], discrete: list[str]) -> None:
    """Refuse a program without latents, or with some along which there is no gradient.

    Args:
        names: of all latents.
        discrete: of those that are discrete.

    Raises:
        ValueError: saying which.
    """
    if not names:
        raise checks.problem(
            "program",
            got="one without latents",
            expected="latents to be integrated out",
            fix="Call log_prob, which needs none.",
        )
    if discrete:
        raise checks.problem(
            f"latent {discrete[0]!r}",
            got="a discrete law",
            expected="a continuous one: Hamiltonian transitions follow gradients",
            fix="Call log_prob, which needs no gradient; where it is the class of each row and all are known, pass y.",
        )


def check_program(program: Any) -> None:
    """Refuse a program whose latents count the missing entries.

    Raises:
        ValueError: it models which entries are observed.
    """
    if isinstance(program, ModelsMissingness):
        raise checks.problem(
            "program",
            got=f"a {type(program).__name__}, whose latents count the missing entries",
            expected="a program that integrates these out",
            fix="Call log_prob, or pass the program that it wraps, program.program.",
        )


def check_known(labels: np.ndarray) -> np.ndarray:
    """Labels all of which are known, as they are.

    Raises:
        ValueError: some are unknown: along a class there is no gradient.
    """
    if (labels < 0).any():
        raise checks.problem(
            "y",
            got=f"{int((labels < 0).sum())} unknown labels",
            expected="the class of each row: Hamiltonian transitions follow gradients",
            fix="Pass the rows whose class is known, or call log_prob, which sums the others' out.",
        )
    return labels


def chunk_rows(rows: int, chains: int, event_size: int) -> int:
    """How many rows to anneal at a time, all their chains together.

    Args:
        rows: how many rows in all.
        chains: how many chains a row has, over all legs.
        event_size: how many numbers a datum has.

    Returns:
        The number of rows.
    """
    return streaming.chunk_sizes(rows, 1, chains * max(event_size, 64))[0]


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
