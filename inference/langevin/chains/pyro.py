"""Several chains of a kernel at once in Pyro."""

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pyro
import torch
from tqdm import tqdm

from deepgen.inference.langevin import arguments
from deepgen.inference.langevin.chains.result import STATS, check_counts, check_draws, check_fields, inference_data
from deepgen.inference.langevin.report import in_a_row, kept, patience

if TYPE_CHECKING:
    import arviz

__all__ = ["run_chains"]


def run_chains(
    kernel: Any,
    *args: Any,
    num_warmup: int = 1000,
    num_samples: int = 1000,
    num_chains: int = 4,
    thinning: int = 1,
    extra_fields: tuple[str, ...] = (),
    init_params: Any = None,
    progress: bool | None = None,
    **kwargs: Any,
) -> "arviz.InferenceData":
    """Chains of one of deepgen's Langevin kernels, vectorised, learning together in the warm-up.

    Pyro's ``MCMC`` runs one chain after another, or a process for each; here all chains are one batch, through
    ``torch.func.vmap`` of the model. A model that it cannot take, because it decides by a value, runs chain by chain.
    Only every ``thinning``-th state is stored.

    A run whose step size is hopeless stops early, with a ``DivergenceWarning``, and gives the draws up to there:
    without an acceptance test where no chain is finite any more, with one after 100 steps in a row at which the
    proposals of all chains diverged. The engine's own ``MCMC`` cannot be stopped by a kernel: there the run goes on
    to its end. Nor does Pyro's thin its draws, or keep more than them: this function does both.

    Args:
        kernel: such as ``MALA(model)``.
        args: of the model.
        num_warmup: iterations that learn and are not kept.
        num_samples: draws to keep of each chain.
        num_chains: how many chains.
        thinning: iterations for each draw kept.
        extra_fields: of the kernel's state, to keep for each draw as well, such as ``"mean_accept_prob"`` or
            ``"chain.gradient"``; each has an axis of chains in front.
        init_params: unconstrained values to start from, (num_chains, ...) each; needed with ``potential_fn``.
        progress: whether to show a bar; None: on a terminal only.
        kwargs: of the model.

    Returns:
        ``posterior`` with the model's sites and ``sample_stats`` with ``lp``, ``acceptance_rate``, ``diverging``,
        ``step_size`` and ``energy_error``, each (chain, draw), and the extra fields by their names; in ``attrs`` the
        ``kernel`` and its ``law``, "asymptotically exact" or "approximate".

    Raises:
        ValueError: a number out of range, a model that the kernel cannot take, a start that is not finite, a field
            that the state does not have, or a run
            that stopped before its first draw.
    """
    check_counts(num_warmup=num_warmup, num_samples=num_samples, num_chains=num_chains, thinning=thinning)
    total, hidden = num_warmup + num_samples * thinning, None if progress is None else not progress
    kept_z: dict[str, torch.Tensor] = {}
    kept_stats: dict[str, torch.Tensor] = {}
    bar = tqdm(total=total, disable=hidden, unit="step", desc=type(kernel).__name__)
    # a wild proposal must be rejected, not raised as an error, and checks cost time
    with bar, pyro.validation_enabled(False):
        state, advance = kernel.begin(num_chains, num_warmup, init_params, args, kwargs)
        check_fields(state, extra_fields, num_chains)
        names = [*(name for name in STATS if hasattr(state, name)), *extra_fields]
        made, bad, stops = total, torch.zeros((), dtype=torch.int32), hasattr(kernel, "dynamics")
        for i in range(total):
            state = advance(state)
            k, left = divmod(i - num_warmup + 1, thinning)
            if i >= num_warmup and left == 0:
                stats = {name: attrgetter(name)(state) for name in names}
                kept_z = _store(kept_z, k - 1, state.z, num_samples)
                kept_stats = _store(kept_stats, k - 1, stats, num_samples)
            bar.update()
            if stops:
                bad = in_a_row(bad, state.diverging)
                if bad >= patience(kernel.dynamics.adjusted):
                    made = i + 1
                    break
        left = kept(not stops or kernel.dynamics.adjusted, made, total, num_warmup, thinning)
        check_draws(left, made)
        with torch.no_grad():
            draws = kernel.constrain({name: value[:left] for name, value in kept_z.items()}, args, kwargs)
    found = {name: value.transpose(0, 1).numpy(force=True) for name, value in draws.items()}
    said = {name: value[:left].transpose(0, 1).numpy(force=True) for name, value in kept_stats.items()}
    if stops:
        stopped = (made, total, left) if made < total else None
        arguments.warn_of_divergence(kernel.dynamics, said["diverging"].sum(1), left, stopped=stopped)
    return inference_data(found, said, kernel=type(kernel).__name__, law=kernel.law)


def _store(stores: dict[str, torch.Tensor], k: int, values: Any, size: int) -> dict[str, torch.Tensor]:
    stores = stores or {name: value.new_empty((size, *value.shape)) for name, value in values.items()}
    for name, value in values.items():
        stores[name][k] = value
    return stores
