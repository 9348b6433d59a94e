"""Importance-weighted objectives as objectives of NumPyro's own SVI: `IWAE` and `DReG`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.infer import elbo
from numpyro.util import check_model_guide_match

from deepgen.inference.svi import importance_bound as bound
from deepgen.inference.svi.numpyro.traces import (
    check_differentiable,
    check_mutable,
    draw_traces,
    log_density,
    next_state,
)


class _Particle(NamedTuple):
    """One draw of every row: its log weights in the rows' layout, the rows' scale, and the mutable sites' values."""

    log_weights: jax.Array
    scale: jax.Array
    mutable: dict[str, Any]


class _ImportanceWeighted(elbo.ELBO, ABC):
    def __init__(self, num_particles: int, *, joint: bool = False, vectorize_particles: bool = True) -> None:
        bound.check_settings(num_particles, joint, vectorize_particles)
        self.joint = joint
        super().__init__(num_particles=num_particles, vectorize_particles=vectorize_particles)

    def __repr__(self) -> str:
        name, k, joint, vectorized = self._settings()
        return f"{name.__name__}(num_particles={k}, joint={joint}, vectorize_particles={vectorized})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ImportanceWeighted) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self._settings())

    def _settings(self) -> tuple[Any, ...]:
        return type(self), self.num_particles, self.joint, self.vectorize_particles

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
        plate_key, particle_key = jax.random.split(rng_key)
        # A row has K weights only where all draws are of the same subsampled rows.
        model, guide = (
            handlers.seed(fn, plate_key, hide_types=["sample", "prng_key", "control_flow"]) for fn in (model, guide)
        )
        keys = jax.random.split(particle_key, self.num_particles)
        loss, mutable = self._loss(keys, param_map, model, guide, args, kwargs)
        check_mutable(mutable, self.num_particles)
        return {"loss": loss, "mutable_state": next_state(mutable, param_map)}

    @abstractmethod
    def _loss(
        self,
        keys: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[jax.Array, dict[str, Any]]: ...

    def _each(self, function: Callable[[Any], Any], items: Any) -> Any:
        """The function of each item, stacked; a single one keeps its mutable sites as they are."""
        if self.num_particles > 1:
            return self.vectorize_particles_fn(function, items)
        found = function(jax.tree.map(lambda leaf: leaf[0], items))
        if isinstance(found, _Particle):
            return found._replace(log_weights=found.log_weights[None], scale=jnp.asarray(found.scale)[None])
        return jax.tree.map(lambda leaf: leaf[None], found)


class IWAE(_ImportanceWeighted):
    r"""The negative importance-weighted bound of each row, summed over the rows.

    .. math:: \mathrm{loss} = -\sum_n s_n \log \frac1K \sum_{k=1}^K w_{nk}, \quad
        w_{nk} = \frac{p(x_n, z_{nk})}{q(z_{nk} \mid x_n)}, \quad z_{nk} \sim q(z \mid x_n)

    Its expectation lies between the ELBO (K = 1, by Monte Carlo) and log p(x), and rises with K. The rows are those of
    the plates that every site of model and guide stands in; a row's log densities are summed over all its other
    dimensions before its K weights are averaged. s_n is the row's scale, of subsampled plates and scale handlers: it
    multiplies the row's bound, and has to be the same for all sites of a row. Masked elements have log density zero.
    Auxiliary sites of the guide count as part of log q; latents that only the model has are drawn from the model and
    cancel. Latents without a reparameterised sampler are refused.

    Args:
        num_particles: K, how many draws of the latents each row has.
        joint: one weight for all rows together, which a latent that all rows share makes necessary: a bound of
            log p(x_1, ..., x_N) that is right, but looser the more rows there are. Without it a site outside of the
            rows' plate is refused.
        vectorize_particles: draw all particles at once, by ``vmap``, instead of one after another.

    Raises:
        ValueError: ``num_particles`` below 1.
        TypeError: a ``num_particles`` that is no integer, or an option that is no boolean.

    References:
        Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders".
    """

    def _loss(
        self,
        keys: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[jax.Array, dict[str, Any]]:
        def one(key: jax.Array) -> _Particle:
            model_trace, guide_trace, mutable = draw_traces(key, param_map, model, guide, args, kwargs)
            return _weigh(model_trace, guide_trace, mutable, self.joint)

        particles = self._each(one, keys)
        return -jnp.sum(particles.scale[0] * bound.log_mean_exp(particles.log_weights)), particles.mutable


class DReG(_ImportanceWeighted):
    r"""`IWAE` with the doubly reparameterised gradient of the guide's parameters.

    .. math:: \nabla_\phi = \sum_k \tilde w_k^2 \, \frac{\partial \log w_k}{\partial z_k} \frac{d z_k}{d \phi}, \quad
        \nabla_\theta = \sum_k \tilde w_k \, \frac{\partial \log p(x, z_k)}{\partial \theta}, \quad
        \tilde w_k = \frac{w_k}{\sum_j w_j}

    The value is that of `IWAE`, and so is the gradient's expectation. The gradient of the guide's parameters has less
    variance, all the more the larger K is and the closer the guide comes to the posterior. z_k are all latents of a
    draw together: log w_k is differentiated by each of them with the others and the parameters held, and dz_k/dphi
    follows the whole path, through latents that other latents depend on. Latents that are a function of others (a
    ``Delta``, as automatic guides have them) are differentiated as functions. A parameter that model and guide share
    has the sum of both gradients. The model is evaluated once, forward and backward.

    Args:
        num_particles: K, how many draws of the latents each row has.
        joint: one weight for all rows together, as in `IWAE`.
        vectorize_particles: draw all particles at once, by ``vmap``, instead of one after another.

    Raises:
        ValueError: ``num_particles`` below 1.
        TypeError: a ``num_particles`` that is no integer, or an option that is no boolean.

    References:
        Tucker, Lawson, Gu and Maddison 2019, "Doubly reparameterized gradient estimators for Monte Carlo objectives".
    """

    def _loss(
        self,
        keys: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[jax.Array, dict[str, Any]]:
        leaves, structure = jax.tree.flatten(param_map)
        trained = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
        event_dims: dict[str, int] = {}

        def guided(key: jax.Array, params: Mapping[str, Any], draws: Mapping[str, Any]) -> dict[str, Any]:
            # the draws outside of the seed: what else is random stays what it was when they were drawn
            fixed = handlers.substitute(handlers.seed(guide, jax.random.split(key)[1]), data={**params, **draws})
            return handlers.trace(fixed).get_trace(*args, **kwargs)

        def draw(key: jax.Array) -> dict[str, jax.Array]:
            sites = _samples(guided(key, param_map, {}))
            check_differentiable({}, sites)
            drawn = {n: site for n, site in sites.items() if not site["is_observed"] and not _is_delta(site["fn"])}
            event_dims.update({name: site["fn"].event_dim for name, site in drawn.items()})
            return {name: site["value"] for name, site in drawn.items()}

        def weigh(item: tuple[jax.Array, dict[str, jax.Array]], params: dict[str, Any]) -> _Particle:
            key, draws = item
            held = guided(key, lax.stop_gradient(params), draws)
            functions = [name for name, site in held.items() if site["type"] == "sample" and name not in draws]
            live = guided(key, params, draws) if functions else {}
            guide_trace = {name: live[name] if name in functions else site for name, site in held.items()}
            mutable = {name: site["value"] for name, site in held.items() if site["type"] == "mutable"}
            seeded = handlers.replay(handlers.seed(model, jax.random.split(key)[0]), guide_trace)
            at_draws = handlers.substitute(seeded, data={**params, **mutable})
            model_trace = handlers.trace(at_draws).get_trace(*args, **kwargs)
            check_model_guide_match(model_trace, guide_trace)
            mutable.update({name: site["value"] for name, site in model_trace.items() if site["type"] == "mutable"})
            return _weigh(model_trace, guide_trace, mutable, self.joint)

        def total(values: list[jax.Array], draws: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
            whole = list(leaves)
            for i, value in zip(trained, values, strict=True):
                whole[i] = value
            params = jax.tree.unflatten(structure, whole)
            particles = self._each(lambda item: weigh(item, params), (keys, draws))
            return particles.log_weights, (particles.scale[0], particles.mutable)

        values, draws = [leaves[i] for i in trained], self._each(draw, keys)
        log_weights, pull, (scale, mutable) = jax.vjp(total, *lax.stop_gradient((values, draws)), has_aux=True)
        weights = bound.normalised_weights(log_weights)
        by_params, by_draws = pull(-weights * scale)
        for name, gradient in by_draws.items():
            by_draws[name] = gradient * bound.onto_draws(weights, gradient.ndim, event_dims[name])
        loss = -jnp.sum(scale * bound.log_mean_exp(log_weights))
        return _with_gradient(lax.stop_gradient(loss), (values, draws), (by_params, by_draws)), mutable


def _weigh(
    model_trace: Mapping[str, Any], guide_trace: Mapping[str, Any], mutable: dict[str, Any], joint: bool
) -> _Particle:
    """The log weights of one draw, log p - log q, summed down to the rows."""
    p, q = _samples(model_trace), _samples(guide_trace)
    check_differentiable(p, q)
    counted = {f"{name} of the model": site for name, site in p.items()}
    counted |= {f"{name} of the guide": site for name, site in q.items()}
    densities = {
        label: log_density(site)
        for label, site in counted.items()
        # latents that only the model has are drawn from it: their density is in p and in q
        if label.endswith("guide") or site["is_observed"] or site["name"] in q
    }
    plates = {label: [bound.Plate(*frame) for frame in site["cond_indep_stack"]] for label, site in counted.items()}
    sizes = {label: math.prod(site["fn"].batch_shape) for label, site in counted.items()}
    sizes |= {label: density.size for label, density in densities.items()}
    rows = bound.row_plates(plates, sizes, joint=joint)
    scales = {label: 1.0 if counted[label]["scale"] is None else counted[label]["scale"] for label in densities}
    scale = _one_scale(scales, rows)
    log_weights = jnp.zeros(())
    for label, density in densities.items():
        term = bound.sum_to_rows(density, rows)
        log_weights = log_weights + (-term if label.endswith("guide") else term)
    return _Particle(log_weights, jnp.asarray(scale, log_weights.dtype), mutable)


def _samples(trace: Mapping[str, Any]) -> dict[str, Any]:
    return {name: site for name, site in trace.items() if site["type"] == "sample"}


def _one_scale(scales: Mapping[str, Any], rows: Mapping[int, int]) -> Any:
    """The scale that all sites have."""
    first, scale = next(iter(scales.items()), ("", 1.0))
    for label, other in scales.items():
        if other is not scale and not _equal(scale, other):
            raise bound.different_scales(first, label)
    bound.check_scale(first, jnp.shape(scale), rows)
    return scale


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return False
    return bool(np.array_equal(a, b))


def _is_delta(fn: Any) -> bool:
    while isinstance(fn, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        fn = fn.base_dist
    return isinstance(fn, dist.Delta)


@jax.custom_vjp
def _with_gradient(value: jax.Array, at: Any, gradient: Any) -> jax.Array:
    """The value, with a gradient by ``at`` that is already known; it is computed only where it is asked for."""
    return value


def _forward(value: jax.Array, at: Any, gradient: Any) -> tuple[jax.Array, Any]:
    return value, gradient


def _backward(gradient: Any, cotangent: jax.Array) -> tuple[Any, Any, Any]:
    scaled = jax.tree.map(lambda leaf: cotangent * leaf, gradient)
    return jnp.zeros_like(cotangent), scaled, jax.tree.map(jnp.zeros_like, gradient)


_with_gradient.defvjp(_forward, _backward)
