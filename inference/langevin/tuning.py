"""What the warm-up learns, for a diagonal or a dense metric: step size by dual averaging, root of the inverse mass.

The diagonal case is that of ``deepgen.inference.hmc.adaptation``; nothing is learned after the warm-up.
"""

from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

from deepgen.inference.hmc import adaptation as adapting
from deepgen.inference.langevin import metric


class Tuning(NamedTuple):
    """All that the warm-up carries."""

    averaging: adapting.DualAveraging
    moments: adapting.Moments
    root: Any
    """(*batch, d) or (*batch, d, d), the root of the inverse mass"""
    lately: Any
    """(n), each chain's acceptance probability, averaged over its last steps"""


def begin(position: Any, step_size: Any, *, pool: bool, dense: bool) -> Tuning:
    """The warm-up at its start: unit mass, the given step size, nothing observed.

    Args:
        position: (n, d), for shape, dtype and device.
        step_size: (n) positive; where pooled, the chains begin with their mean.
        pool: whether all n are chains of the same target.
        dense: whether the metric is a full matrix.

    Returns:
        The initial tuning.
    """
    xp = array_namespace(position)
    start = adapting.adaptation(position, step_size, pool=pool)
    if not dense:
        return Tuning(start.averaging, start.moments, start.inverse_mass, start.lately)
    root = start.inverse_mass[..., None] * xp.eye(position.shape[-1], dtype=position.dtype, device=device(position))
    return Tuning(start.averaging, start.moments._replace(squares=xp.zeros_like(root)), root, start.lately)


def learn_step_size(tuning: Tuning, accept_prob: Any, target: Any, *, pool: bool) -> Tuning:
    """Dual averaging with the acceptance probability of the last step, that of all chains together where pooled.

    Args:
        tuning: before.
        accept_prob: (n).
        target: the acceptance probability to reach.
        pool: whether all n are chains of the same target.

    Returns:
        The tuning after.
    """
    averaging, lately = adapting.pooled_update(tuning.averaging, tuning.lately, accept_prob, target, pool=pool)
    return tuning._replace(averaging=averaging, lately=lately)


def observe(tuning: Tuning, position: Any, *, pool: bool) -> Tuning:
    """Add the draws of one iteration to the moments of the current window.

    Args:
        tuning: before.
        position: (n, d).
        pool: whether all n are chains of the same target.

    Returns:
        The tuning after.
    """
    dense = metric.is_dense(tuning.root, position)
    update = metric.covariance_update if dense else adapting.moments_update
    return tuning._replace(moments=update(tuning.moments, position, pool=pool))


def close_window(tuning: Tuning, *, step_size: bool) -> Tuning:
    """At the end of a window: take its moments for the metric, forget them, begin dual averaging anew.

    The step size goes on at what is as stable under the new metric as it was under the old: the largest singular value
    of A_new^-1 A_old times it.

    Args:
        tuning: before.
        step_size: whether the step size is learned too; else it stays as it is.

    Returns:
        The tuning after.
    """
    xp = array_namespace(tuning.root)
    if tuning.root.ndim == tuning.moments.mean.ndim:
        root = xp.sqrt(adapting.regularised_variance(tuning.moments))
        stretch = xp.max(tuning.root / root, axis=-1)
    else:
        root = xp.linalg.cholesky(metric.regularised_covariance(tuning.moments))
        stretch = xp.linalg.matrix_norm(xp.linalg.solve(root, tuning.root), ord=2)
    empty = adapting.Moments(*(xp.zeros_like(moment) for moment in tuning.moments))
    if not step_size:
        return tuning._replace(moments=empty, root=root)
    averaging = adapting.dual_averaging(learned_step_size(tuning) * stretch)
    return tuning._replace(averaging=averaging, moments=empty, root=root)


def searched_step_size(tuning: Tuning) -> Any:
    """The step size to take next in the warm-up: (n), or (1) where pooled."""
    return array_namespace(tuning.root).exp(tuning.averaging.log_step_size)


def learned_step_size(tuning: Tuning) -> Any:
    """The step size to sample with: the average of dual averaging, or the initial one where nothing was learned."""
    xp = array_namespace(tuning.root)
    averaging = tuning.averaging
    return xp.exp(xp.where(averaging.count > 0, averaging.log_average, averaging.log_step_size))
