"""log p of what is observed: whether a guide's weights give it, and what the weights of completions do."""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from deepgen.inference.imputation import importance
from deepgen.inference.likelihood import streaming
from deepgen.program import Estimates, LogProb
from deepgen.program.invertible import Invertible, Rounded
from deepgen.program.sequence import Sequential
from deepgen.program.unnormalised import HasUnnormalisedLaw


def by_guide(program: Any, missing: bool) -> bool:
    """Whether log p(x) is the mean of p(x, z) / q(z | x) over a guide's draws, or p(x) itself where there are none.

    Args:
        program: any program.
        missing: whether entries of the data are.

    Returns:
        False where the density has an unknown constant or is itself random, and where what is missing has to be
        integrated out in another way than by leaving it out.
    """
    if isinstance(program, HasUnnormalisedLaw) or (isinstance(program, Estimates) and program.probes):
        return False
    return not (missing and isinstance(program, Invertible | Sequential))


def check_rows(program: Any, x: Any) -> np.ndarray:
    """The data as ``log_prob`` takes them: with missing entries where the program's density can do without these.

    Args:
        program: any program.
        x: (n, *event_shape).

    Returns:
        x as a NumPy array.

    Raises:
        ValueError: data that the program does not take.
    """
    unable = isinstance(program, Estimates) and not isinstance(program, Invertible)
    return program.check_data(x, missing=not unable and not isinstance(program, HasUnnormalisedLaw | Rounded))


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
