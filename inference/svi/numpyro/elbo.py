"""The evidence lower bound with beta, schedules and free bits, as an objective of NumPyro's own SVI."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.primitives
from numpyro.infer import elbo

from deepgen.inference.svi import kl as terms
from deepgen.inference.svi.checkpoint import describe
from deepgen.inference.svi.numpyro.traces import (
    STEP,
    check_differentiable,
    check_mutable,
    divergence,
    draw_traces,
    next_state,
    scaled_log_density,
    unmask,
)
from deepgen.inference.svi.schedules import Schedule


class Particle(NamedTuple):
    """What one draw of the latents gives: nats, summed over the rows.

    Attributes:
        reconstruction: -log p(observed | latents).
        kl: by group of latents, its KL or an unbiased estimate of it.
        rows: by group, the number of rows the KL runs over, scaled and masked as it is.
    """

    reconstruction: jax.Array
    kl: dict[str, jax.Array]
    rows: dict[str, Any]


class ELBO(elbo.ELBO):
    """The negative evidence lower bound, with the KL weighted by beta and counted from free bits on.

    loss = E_q[-log p(x | z)] + beta * sum over groups g of rows_g * max(KL_g / rows_g, free_bits_g)

    KL_g is that of a latent site, summed over the rows of its plates: in closed form where NumPyro has it and the order
    of the sites allows it, else log q(z) - log p(z) of the draw. With beta = 1 and no free bits its expectation is that
    of ``Trace_ELBO``. The minimum is applied to the average over the rows (and over the particles), see
    `deepgen.inference.svi.kl.penalised`. Latents that only the model has are drawn from the model and have no KL.
    Auxiliary sites of the guide count as part of log q. Latents without a reparameterised sampler are refused.

    Args:
        beta: the weight of the KL terms, a number >= 0 or a schedule; a schedule needs the step, which `fit` gives and,
            in a plain ``SVI``, `count_steps`.
        free_bits: nats a row that each group of latents has free, one number for all or a dictionary by site.
        num_particles: how many draws of the latents are averaged.

    Raises:
        ValueError: a negative beta or free bits, or ``num_particles`` below 1.
        TypeError: a beta that is neither number nor schedule.

    References:
        Higgins et al. 2017, "beta-VAE"; Kingma et al. 2016, "Improving variational inference with inverse
        autoregressive flow" (free bits).
    """

    def __init__(
        self,
        *,
        beta: float | Schedule = 1.0,
        free_bits: float | Mapping[str, float] = 0.0,
        num_particles: int = 1,
    ) -> None:
        terms.check_settings(beta, free_bits, num_particles)
        self.beta: Any = beta
        self.free_bits = dict(free_bits) if isinstance(free_bits, Mapping) else free_bits
        super().__init__(num_particles=num_particles)

    def __repr__(self) -> str:
        return f"ELBO(beta={describe(self.beta)}, free_bits={self.free_bits!r}, num_particles={self.num_particles})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ELBO) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self._settings())

    def _settings(self) -> tuple[Any, ...]:
        free = tuple(sorted(self.free_bits.items())) if isinstance(self.free_bits, dict) else self.free_bits
        return type(self), self.beta, free, self.num_particles

    def at(self, step: Any) -> "ELBO":
        """The objective as it stands at a step: beta is a number (or, inside a compiled loop, a scalar array).

        Args:
            step: steps taken so far.
        """
        if not callable(self.beta):
            return self
        objective = ELBO(free_bits=self.free_bits, num_particles=self.num_particles)
        objective.beta = self.beta(step)
        return objective

    def loss_with_mutable_state(
        self,
        rng_key: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The loss and the new values of the mutable sites; see ``numpyro.infer.elbo.ELBO``."""
        step = param_map.get(STEP)
        if callable(self.beta) and step is None:
            raise ValueError(
                f"beta is the schedule {self.beta!r}, and no step is known here: wrap the model, "
                "SVI(count_steps(model), guide, ...), train with fit, or evaluate with objective.at(step)."
            )
        beta = self.at(step).beta

        if self.num_particles == 1:
            particle, mutable = self._particle(rng_key, param_map, model, guide, args, kwargs)
        else:
            keys = jax.random.split(rng_key, self.num_particles)
            particles, mutable = self.vectorize_particles_fn(
                lambda key: self._particle(key, param_map, model, guide, args, kwargs), keys
            )
            check_mutable(mutable, self.num_particles)
            particle = jax.tree.map(lambda values: jnp.mean(values, axis=0), particles)

        loss = particle.reconstruction
        for group, value in particle.kl.items():
            loss = loss + beta * terms.penalised(value, particle.rows[group], terms.free_bits_of(group, self.free_bits))
        return {"loss": loss, "mutable_state": next_state(mutable, param_map)}

    def _particle(
        self,
        rng_key: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Particle, dict[str, Any]]:
        model_trace, guide_trace, mutable = draw_traces(rng_key, param_map, model, guide, args, kwargs)
        return self._terms(model_trace, guide_trace), mutable

    def _terms(self, model_trace: Mapping[str, Any], guide_trace: Mapping[str, Any]) -> Particle:
        p = {name: site for name, site in model_trace.items() if site["type"] == "sample"}
        q = {name: site for name, site in guide_trace.items() if site["type"] == "sample"}
        check_differentiable(p, q)
        zero = jnp.zeros(())
        reconstruction = sum((-scaled_log_density(site).sum() for site in p.values() if site["is_observed"]), zero)
        shared = [name for name, site in p.items() if not site["is_observed"] and name in q]
        closed = terms.closed_form_sites(shared, [name for name in q if name in shared])
        group_of = terms.group_of(shared, [name for name in q if name not in shared])
        terms.check_groups(self.free_bits, group_of.values())
        kl = dict.fromkeys(group_of.values(), zero)
        rows: dict[str, Any] = dict.fromkeys(kl, 0.0)
        for name, group in group_of.items():
            if name in p and not p[name]["is_observed"]:
                kl[group] = kl[group] + divergence(p[name], q[name], closed=name in closed).sum()
                if terms.free_bits_of(group, self.free_bits):
                    rows[group] = jnp.maximum(rows[group], _rows(p[name]))
            else:
                kl[group] = kl[group] + scaled_log_density(q[name]).sum()
        return Particle(reconstruction, kl, rows)


def count_steps(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model with a mutable site that counts SVI's steps, so that an `ELBO` with a schedule knows its step.

    Only a plain ``numpyro.infer.SVI`` needs it; `fit` knows the step.

    Args:
        model: the model.

    Returns:
        The same model with the mutable site ``"deepgen$step"``:
        ``SVI(count_steps(model), guide, optim, loss=ELBO(beta=Linear(1000)))``.
    """

    def counted(*args: Any, **kwargs: Any) -> Any:
        numpyro.primitives.mutable(STEP, jnp.zeros((), jnp.int32))
        return model(*args, **kwargs)

    return counted


def _rows(site: Mapping[str, Any]) -> jax.Array:
    """How many rows a site has: the size of its batch shape, scaled and masked as its log density is."""
    fn, mask = unmask(site["fn"])
    scale = 1.0 if site["scale"] is None else site["scale"]
    return jnp.sum(jnp.broadcast_to(jnp.where(mask, scale, 0.0), fn.batch_shape))
