"""log p of what is observed, from the weights of completions."""

import warnings

import numpy as np
from jaxtyping import Bool, Float

from deepgen.inference.imputation import importance
from deepgen.inference.likelihood import streaming
from deepgen.program import LogProb


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
