"""The evidence lower bound with a discrete latent summed out, as an objective of NumPyro's own SVI."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.infer import elbo
from numpyro.primitives import Messenger

from deepgen.inference.svi import enumeration as terms
from deepgen.inference.svi.numpyro.traces import (
    check_mutable,
    divergence,
    draw_traces,
    log_density,
    next_state,
    scaled_log_density,
)


class EnumELBO(elbo.ELBO):
    r"""The negative evidence lower bound, its expectation over one discrete latent of the guide taken by summation.

    .. math:: L = -\sum_i \sum_k q(k \mid x_i)\, E_{q(z \mid x_i, k)}\left[\log p(x_i, k, z) - \log q(k \mid x_i)
        - \log q(z \mid x_i, k)\right]

    The guide marks the latent by ``infer={"enumerate": "parallel"}``, inside its plates, as for NumPyro's
    ``TraceEnum_ELBO``, whose loss this is in expectation; model and guide broadcast over the values, which come on a
    new axis at the left. It needs no funsor, and takes the KL of another latent in closed form where NumPyro has it.
    All other latents have to be reparameterised, and every site of the model to stand in the plates of the latent.

    With ``alpha`` the guide is called with ``alpha=`` and adds ``-alpha log q(y | x)`` of the rows whose label is known
    (equation 9 of the paper): the classifier then learns from the labels too.

    Args:
        alpha: the weight of that term for each labelled row. The paper's 0.1 times all rows, spread over the labelled
            ones, is 1 where a tenth of them has a label.
        num_particles: how many draws of the other latents are averaged.

    Raises:
        ValueError: a negative ``alpha``, or ``num_particles`` below 1.

    References:
        Kingma, Mohamed, Rezende & Welling 2014, "Semi-supervised learning with deep generative models".
    """

    can_infer_discrete = True

    def __init__(self, *, alpha: float = 0.0, num_particles: int = 1) -> None:
        terms.check_settings(alpha, num_particles)
        self.alpha = float(alpha)
        super().__init__(num_particles=num_particles)

    def __repr__(self) -> str:
        return f"EnumELBO(alpha={self.alpha}, num_particles={self.num_particles})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EnumELBO) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

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
        guide = partial(guide, alpha=self.alpha) if self.alpha else guide

        def particle(key: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
            enumerated = _Enumerate(guide)
            model_trace, guide_trace, mutable = draw_traces(key, param_map, model, enumerated, args, kwargs)
            return _loss(model_trace, guide_trace), mutable

        if self.num_particles == 1:
            loss, mutable = particle(rng_key)
        else:
            losses, mutable = self.vectorize_particles_fn(particle, jax.random.split(rng_key, self.num_particles))
            check_mutable(mutable, self.num_particles)
            loss = jnp.mean(losses)
        return {"loss": loss, "mutable_state": next_state(mutable, param_map)}


class _Enumerate(Messenger):
    """Gives the marked site all its values at once, on a new axis at the left."""

    def process_message(self, msg: Any) -> None:
        if terms.is_marked(msg) and not msg["is_observed"]:
            msg["value"] = msg["fn"].enumerate_support(expand=False)


def _loss(model_trace: Any, guide_trace: Any) -> jax.Array:
    p, q = ({n: s for n, s in trace.items() if s["type"] == "sample"} for trace in (model_trace, guide_trace))
    name = terms.marked_site(p, q)
    terms.check_others(p, q, name, "numpyro.infer.TraceGraph_ELBO")
    weights = jnp.exp(log_density(q[name]))
    gain = jnp.zeros(())
    for site, other, closed in terms.pairs(p, q):
        value = _gain(site, other, closed)
        terms.check_shape((site or other)["name"], value.shape, weights.shape)
        gain = gain + value
    return -jnp.sum(weights * gain)


def _gain(p: Any, q: Any, closed: bool) -> Any:
    """What a site adds to log p - log q, (values, rows): minus its KL where that has a closed form."""
    if p is None:
        return -scaled_log_density(q)
    return scaled_log_density(p) if q is None else -divergence(p, q, closed=closed)
