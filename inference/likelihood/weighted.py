"""log p of what is observed: the way in which a program's is found, and what the weights of completions give."""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from deepgen import checks
from deepgen.inference.imputation import importance
from deepgen.inference.likelihood import streaming
from deepgen.likelihoods.laws import is_missing
from deepgen.program import Densities, HasDensities, LogProb

WAYS = ("guide", "estimates", "partition", "completions", "steps", "own")


def rows_and_way(program: Any, x: Any) -> tuple[np.ndarray, str]:
    """Data as the program takes them, and by what way their densities are found.

    Args:
        program: any program.
        x: (n, *event_shape).

    Returns:
        x as a NumPy array, and one of ``WAYS``, see `deepgen.program.Densities`.

    Raises:
        ValueError: data that the program does not take, an unknown way that it names, or none where its guide does not
            give its likelihood.
    """
    if not isinstance(program, HasDensities) and program.likelihood not in ("exact", "bound"):
        raise checks.problem(
            "program",
            got=f"a {type(program).__name__}, whose likelihood is {program.likelihood!r} and which names no densities",
            expected="the way in which they are found",
            fix="Give it the attribute densities, see deepgen.program.Densities.",
        )
    ways = Densities(*program.densities) if isinstance(program, HasDensities) else Densities()
    array = program.check_data(x, missing=ways.holes is not None)
    way = ways.holes if ways.holes is not None and is_missing(array).any() else ways.whole
    checks.one_of(f"densities of {type(program).__name__}", way, WAYS)
    return array, way


def marginal(
    log_weights: Float[np.ndarray, "k n"], judged: importance.Weights, missing: Bool[np.ndarray, "n ..."]
) -> LogProb:
    """The log of the mean weight of each row, and its standard error.

    Args:
        log_weights: log p(x_observed, completion) - log q(completion), nats.
        judged: the same, smoothed.
        missing: what is missing of each row; where nothing is, all weights are the density and the value is exact.

    Returns:
        An estimate.

    Warns:
        UserWarning: where the weights of some rows are not to be trusted.
    """
    whole = ~missing.reshape(len(missing), -1).any(1)
    sums = streaming.add(streaming.empty(log_weights[0]), log_weights)
    value, stderr = streaming.log_mean(sums, len(log_weights))
    wrong = importance.untrusted(judged, len(log_weights)) & ~whole
    if wrong.any():
        warnings.warn(
            f"the importance weights of {int(wrong.sum())} of {len(wrong)} rows are not to be trusted (Pareto k above "
            f"{importance.LARGEST_K}, largest {judged.pareto_k[wrong].max():.2f}): their log p of what is observed is "
            "likely too small, and more uncertain than the standard error says. Raise num_particles.",
            stacklevel=4,
        )
    return LogProb(np.where(whole, log_weights[0], value), np.where(whole, 0.0, stderr), "estimate")
