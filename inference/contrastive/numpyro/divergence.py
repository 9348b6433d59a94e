"""Contrastive divergence in NumPyro, from the data or from chains that persist."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from numpyro.infer import elbo

from deepgen.inference.chains import arguments
from deepgen.inference.chains import numpyro as chains
from deepgen.inference.contrastive import contrast
from deepgen.inference.contrastive.contrast import STATE
from deepgen.inference.contrastive.numpyro.sites import Observed, observed


class ContrastiveDivergence(elbo.ELBO):
    r"""Contrastive divergence: chains of k steps begin at the data and are contrasted with them (CD-k).

    .. math:: \nabla \sum_i \left[U(x_i) - U(x_i^-)\right], \qquad U = -\log f, \quad x_i^- \sim T^k(\cdot \mid x_i)

    It is no bound: the loss is the energy gap between data and samples, near zero where chains stay at the data. Usable
    in a plain ``SVI``. Other observed sites of the model, such as classes given x, add their negative log density.

    Args:
        num_steps: k.
        kernel: the chains' kernel, such as `LangevinSteps`; None for the law's own.
        data_noise: the standard deviation of normal noise added to the data.
        penalty: on the mean square of the energies of data and samples, which keeps them from drifting.

    Raises:
        ValueError: a setting out of range.

    References:
        Hinton 2002, "Training products of experts by minimizing contrastive divergence".
    """

    def __init__(
        self, num_steps: int = 1, *, kernel: Any = None, data_noise: float = 0.0, penalty: float = 0.0
    ) -> None:
        contrast.check_settings(num_steps, data_noise, penalty)
        self.num_steps, self.kernel = int(num_steps), kernel
        self.data_noise, self.penalty = float(data_noise), float(penalty)
        super().__init__()

    def __repr__(self) -> str:
        return (
            f"ContrastiveDivergence({self.num_steps}, kernel={self.kernel!r}, data_noise={self.data_noise}, "
            f"penalty={self.penalty})"
        )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def initial_state(
        self,
        rng_key: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What `fit` carries from step to step: what the last one measured."""
        observed(param_map, model, args, kwargs, self.data_noise)
        return {STATE: _measured(jnp.zeros(()), jnp.zeros(()))}

    def diagnostics(self, state: dict[str, Any]) -> dict[str, Any]:
        """The energy gap and the acceptance probability of the last step, of the state that `fit` carries."""
        return {name: state[STATE][name] for name in ("energy_gap", "accept_prob")}

    def loss_with_mutable_state(
        self,
        rng_key: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The loss and, where `fit` carries it, the new state; see ``numpyro.infer.elbo.ELBO``."""
        noise_key, run_key = jax.random.split(rng_key)
        found = observed(param_map, model, args, kwargs, self.data_noise)
        x = _noisy(noise_key, found.x, self.data_noise)
        ends = _run(run_key, self.kernel, found.law, x, self.num_steps)
        loss, gap = _contrast(found, x, ends.x, self.penalty)
        state = {STATE: _measured(gap, ends.accept_prob.mean())} if STATE in param_map else {}
        return {"loss": loss, "mutable_state": state or None}


class PersistentContrastiveDivergence(elbo.ELBO):
    """Contrastive divergence whose chains go on where they ended, in a buffer that `fit` carries and checkpoints.

    Each step draws ``num_chains`` places of the buffer, starts a share of them afresh from the base, moves them k steps
    and puts them back. With a buffer of as many places these are the fantasy particles of Tieleman, with a larger one
    it is the replay buffer of Du and Mordatch. The buffer begins with draws of the base.

    Args:
        num_steps: k.
        num_chains: how many chains a step moves; None for as many as a minibatch has rows.
        buffer_size: how many places; None for ``num_chains``.
        reinitialised: the share of chains that start afresh at each step.
        kernel: the chains' kernel, such as `LangevinSteps`; None for the law's own.
        data_noise: the standard deviation of normal noise added to the data.
        penalty: on the mean square of the energies of data and samples.

    Raises:
        ValueError: a setting out of range; in a plain ``SVI``.

    References:
        Tieleman 2008, "Training restricted Boltzmann machines using approximations to the likelihood gradient"; Du and
        Mordatch 2019, "Implicit generation and modeling with energy-based models".
    """

    def __init__(
        self,
        num_steps: int = 10,
        *,
        num_chains: int | None = None,
        buffer_size: int | None = None,
        reinitialised: float = 0.0,
        kernel: Any = None,
        data_noise: float = 0.0,
        penalty: float = 0.0,
    ) -> None:
        contrast.check_settings(num_steps, data_noise, penalty)
        contrast.check_buffer(num_chains, buffer_size, reinitialised)
        self.num_steps, self.num_chains, self.buffer_size = int(num_steps), num_chains, buffer_size
        self.reinitialised, self.kernel = float(reinitialised), kernel
        self.data_noise, self.penalty = float(data_noise), float(penalty)
        super().__init__()

    def __repr__(self) -> str:
        return (
            f"PersistentContrastiveDivergence({self.num_steps}, num_chains={self.num_chains}, "
            f"buffer_size={self.buffer_size}, reinitialised={self.reinitialised}, kernel={self.kernel!r}, "
            f"data_noise={self.data_noise}, penalty={self.penalty})"
        )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def initial_state(
        self,
        rng_key: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What `fit` carries from step to step: the buffer, drawn from the base, and what the last step measured."""
        found = observed(param_map, model, args, kwargs, self.data_noise)
        size = self.buffer_size or self.num_chains or len(found.x)
        drawn = found.law.base.sample(rng_key, (size,)).astype(found.x.dtype)
        return {STATE: {"x": drawn, **_measured(jnp.zeros(()), jnp.zeros(()))}}

    def diagnostics(self, state: dict[str, Any]) -> dict[str, Any]:
        """The energy gap and the acceptance probability of the last step, of the state that `fit` carries."""
        return {name: state[STATE][name] for name in ("energy_gap", "accept_prob")}

    def loss_with_mutable_state(
        self,
        rng_key: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The loss and the new state; see ``numpyro.infer.elbo.ELBO``."""
        if STATE not in param_map:
            raise contrast.no_state("NumPyro")
        noise_key, place_key, fresh_key, base_key, run_key = jax.random.split(rng_key, 5)
        found = observed(param_map, model, args, kwargs, self.data_noise)
        buffer = param_map[STATE]["x"]
        count = min(self.num_chains or len(found.x), len(buffer))
        places = jax.random.permutation(place_key, len(buffer))[:count] if count < len(buffer) else None
        start = buffer if places is None else buffer[places]
        if self.reinitialised:
            fresh = jax.random.uniform(fresh_key, (count, *(1,) * (start.ndim - 1))) < self.reinitialised
            start = jnp.where(fresh, found.law.base.sample(base_key, (count,)).astype(start.dtype), start)
        ends = _run(run_key, self.kernel, found.law, start, self.num_steps)
        loss, gap = _contrast(found, _noisy(noise_key, found.x, self.data_noise), ends.x, self.penalty)
        kept = ends.x if places is None else buffer.at[places].set(ends.x)
        state = {"x": kept, **_measured(gap, ends.accept_prob.mean())}
        return {"loss": loss, "mutable_state": {STATE: lax.stop_gradient(state)}}


def _measured(gap: jax.Array, accept_prob: jax.Array) -> dict[str, jax.Array]:
    return lax.stop_gradient({"energy_gap": gap, "accept_prob": accept_prob})


def _noisy(rng_key: jax.Array, x: jax.Array, data_noise: float) -> jax.Array:
    return x + data_noise * jax.random.normal(rng_key, x.shape, x.dtype) if data_noise else x


def _run(rng_key: jax.Array, kernel: Any, law: Any, x: jax.Array, num_steps: int) -> chains.Step:
    own = law.kernel if kernel is None else kernel
    arguments.check_kind(own, bool(law.base.support.is_discrete))
    fixed = jax.tree.map(lambda leaf: lax.stop_gradient(leaf), law)
    return lax.stop_gradient(chains.steps(rng_key, own, fixed, lax.stop_gradient(x), num_steps))


def _contrast(found: Observed, x: jax.Array, samples: jax.Array, penalty: float) -> tuple[jax.Array, jax.Array]:
    law = found.law
    data, own = -law.log_prob(x), -law.log_prob(samples)
    energies = (data + law.base.log_prob(x), own + law.base.log_prob(samples)) if penalty else None
    loss, gap = contrast.divergence(data, own, penalty, energies)
    return found.scale * loss + found.others, gap
