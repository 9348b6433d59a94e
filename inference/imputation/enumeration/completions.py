r"""All completions of rows, and draws of them by their probabilities.

.. math:: p(x_\mathrm{missing} \mid x_\mathrm{observed}) = p(x) / \sum_{x'_\mathrm{missing}} p(x'), \qquad
    p(x_\mathrm{observed}) = \sum_{x'_\mathrm{missing}} p(x')
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from deepgen import checks
from deepgen.inference.imputation import result

MOST = 4096
"""How many completions of a row are weighed at most."""


def count(observed: Bool[np.ndarray, "n ..."], num_values: int) -> np.ndarray:
    """How many completions each row has, as floats lest they overflow."""
    missing = (~observed).reshape(len(observed), -1).sum(1)
    with np.errstate(over="ignore"):
        return float(num_values) ** missing


def refuse(observed: Bool[np.ndarray, "n ..."], values: np.ndarray | None) -> None:
    """Refuse what cannot be enumerated.

    Raises:
        ValueError: entries that are not discrete, or rows with too many completions.
    """
    if values is None:
        raise checks.problem(
            "method",
            got="'enumerate' for entries that are not discrete",
            expected="a law of finitely many values, such as 'bernoulli' or 'categorical'",
            fix="Take method='smc'.",
        )
    counts = count(observed, len(values))
    if (counts > MOST).any():
        raise checks.problem(
            "x",
            got=f"{int((counts > MOST).sum())} of {len(counts)} rows with more than {MOST} completions, the first at "
            f"{int(np.argmax(counts > MOST))}",
            expected=f"at most {MOST} completions of a row: {len(values)} to the power of its missing entries",
            fix="Take method='smc' or method='auto'.",
        )


class Weighed(NamedTuple):
    """The completions of all rows, one row behind the other.

    Attributes:
        log_p: (m,) nats.
        starts: (n + 1,) where each row begins, and the end.
    """

    log_p: np.ndarray
    starts: np.ndarray

    def evidence(self) -> np.ndarray:
        """(n,) the exact log p(x_observed) of each row, nats."""
        largest = np.maximum.reduceat(self.log_p, self.starts[:-1])
        anchor = np.where(np.isfinite(largest), largest, 0)
        total = np.add.reduceat(np.exp(self.log_p - np.repeat(anchor, np.diff(self.starts))), self.starts[:-1])
        with np.errstate(divide="ignore"):
            return anchor + np.log(total)


def weigh(
    log_prob: Callable[[np.ndarray, np.ndarray], Any],
    x: np.ndarray,
    observed: Bool[np.ndarray, "n ..."],
    values: np.ndarray,
) -> Weighed:
    """The log density of every completion.

    Args:
        log_prob: complete rows (m, *event_shape), and of which row each is, to their log p (m,).
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        values: those that an entry can take.

    Returns:
        The densities.
    """
    flat, seen = x.reshape(len(x), -1), observed.reshape(len(x), -1)
    starts = np.concatenate([[0], np.cumsum(count(observed, len(values)).astype(int))])
    weights = np.empty(starts[-1])
    chunk = max(1, min(int(starts[-1]), 2**22 // max(flat.shape[1], 64)))
    for first in range(0, int(starts[-1]), chunk):
        # the last chunk is filled up, so that all are of one shape
        index = np.minimum(np.arange(first, first + chunk), starts[-1] - 1)
        owner = np.searchsorted(starts, index, side="right") - 1
        rows = fill(flat, seen, values, owner, index - starts[owner]).reshape(-1, *x.shape[1:])
        weights[index] = np.asarray(log_prob(rows, owner), dtype=float)
    return Weighed(weights, starts)


def draws(
    weighed: Weighed,
    x: np.ndarray,
    observed: Bool[np.ndarray, "n ..."],
    values: np.ndarray,
    uniforms: np.ndarray,
) -> result.Draws:
    """Independent draws of the missing entries by their exact conditional probabilities.

    Args:
        weighed: of `weigh`.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        values: those that an entry can take.
        uniforms: (chains, draws, n) in [0, 1).

    Returns:
        The draws; ``log_evidence`` is the exact log p(x_observed).
    """
    flat, seen = x.reshape(len(x), -1), observed.reshape(len(x), -1)
    drawn = np.empty((*uniforms.shape, flat.shape[1]), x.dtype)
    evidence, sizes = weighed.evidence(), np.diff(weighed.starts)
    for i in range(len(x)):
        own = weighed.log_p[weighed.starts[i] : weighed.starts[i + 1]]
        cumulative = np.cumsum(np.exp(own - evidence[i]))
        chosen = np.searchsorted(cumulative / cumulative[-1], uniforms[..., i].reshape(-1), side="right")
        chosen = np.minimum(chosen, sizes[i] - 1)
        rows = np.full(len(chosen), i)
        drawn[:, :, i] = fill(flat, seen, values, rows, chosen).reshape(*uniforms.shape[:2], -1)
    stats = {"log_evidence": (("row",), evidence), "num_completions": (("row",), sizes)}
    return result.Draws(drawn.reshape(*uniforms.shape, *x.shape[1:]), {}, stats, {})


def fill(flat: np.ndarray, seen: np.ndarray, values: np.ndarray, owner: Any, number: Any) -> np.ndarray:
    """Rows with their missing entries set by the digits of a completion's number.

    Args:
        flat: (n, D).
        seen: booleans of its shape.
        values: K of them.
        owner: (m,) of which row each is.
        number: (m,) from 0 to K to the power of the row's missing entries.

    Returns:
        (m, D).
    """
    rank = np.cumsum(~seen, axis=1)[owner] - 1
    digit = (number[:, None] // len(values) ** np.where(seen[owner], 0, rank)) % len(values)
    return np.where(seen[owner], flat[owner], values[digit].astype(flat.dtype))
