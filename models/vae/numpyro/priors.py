"""The priors of a VAE's latents in NumPyro."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from deepgen.models.flow.numpyro import Flow
from deepgen.models.flow.numpyro import build as build_flow
from deepgen.models.vae import flows
from deepgen.models.vae import posterior as reading
from deepgen.models.vae import prior as names


class Standard(eqx.Module):
    """z ~ N(0, I)."""

    def __call__(self, posterior: Callable[[jax.Array], Any], like: jax.Array) -> dist.Distribution:
        """The law of latents of that shape, (rows, latent_dim)."""
        return dist.Normal(jnp.zeros_like(like), 1.0).to_event(1)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"prior": "standard"}


class Mixture(eqx.Module):
    """z ~ sum_k w_k N(m_k, diag s_k^2), all learned; log s_k in (-7, 3).

    Args:
        num_components: K.
        latent_dim: how many latents.
        key: for the components' first means, drawn from N(0, I).
    """

    logits: jax.Array
    loc: jax.Array
    raw_scale: jax.Array

    def __init__(self, num_components: int, latent_dim: int, *, key: jax.Array):
        self.logits = jnp.zeros(num_components)
        self.loc = jax.random.normal(key, (num_components, latent_dim))
        self.raw_scale = jnp.full((num_components, latent_dim), names.unit_scale())

    def __call__(self, posterior: Callable[[jax.Array], Any], like: jax.Array) -> dist.Distribution:
        """The law of latents of that shape, (rows, latent_dim)."""
        components = dist.Normal(self.loc, reading.scale(self.raw_scale)).to_event(1)
        mixture = dist.MixtureSameFamily(dist.Categorical(logits=self.logits), components)
        return mixture.expand((len(like),))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"prior": "mixture", "num_components": self.loc.shape[0], "latent_dim": self.loc.shape[1]}


class Vamp(eqx.Module):
    r"""The variational mixture of posteriors: :math:`z \sim \frac1K \sum_k q(z \mid u_k)` at K learned pseudo-inputs.

    Tomczak & Welling 2018, VAE with a VampPrior.

    Args:
        pseudo_inputs: (K, F) the pseudo-inputs' features, flattened.
    """

    pseudo_inputs: jax.Array

    def __call__(self, posterior: Callable[[jax.Array], Any], like: jax.Array) -> dist.Distribution:
        """The law of latents of that shape, (rows, latent_dim)."""
        weights = dist.Categorical(logits=jnp.zeros(len(self.pseudo_inputs)))
        return dist.MixtureSameFamily(weights, posterior(self.pseudo_inputs)).expand((len(like),))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        count, size = self.pseudo_inputs.shape
        return {"prior": "vamp", "num_components": count, "num_features": size}


class FlowPrior(eqx.Module):
    """z ~ a flow, such as one that is learned with the rest: any density that is not zero anywhere.

    Rezende & Mohamed 2015; Huang, Touati, Dinh, Drozdzal, Havaei, Charlin & Courville 2017, Learnable explicit density
    for continuous latent space and variational inference.

    Args:
        flow: of event shape (latent_dim,), without a context.
        latent_dim: how many latents.

    Raises:
        ValueError: a flow of another event shape or with a context.
    """

    flow: Flow

    def __init__(self, flow: Flow, latent_dim: int):
        flows.check_prior(flow, latent_dim)
        self.flow = flow

    def __call__(self, posterior: Callable[[jax.Array], Any], like: jax.Array) -> dist.Distribution:
        """The law of latents of that shape, (rows, latent_dim)."""
        return self.flow.distribution().expand((len(like),))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"prior": "flow", "flow": self.flow.spec()}


Prior = Standard | Mixture | Vamp | FlowPrior


def chosen(prior: Any, latent_dim: int) -> Any:
    """What stands for a prior that a program was given.

    Args:
        prior: a flow, any prior, or None for a standard normal.
        latent_dim: how many latents.

    Raises:
        ValueError: a flow that is no law of the latents.
    """
    if isinstance(prior, Flow):
        return FlowPrior(prior, latent_dim)
    return Standard() if prior is None else prior


def build(spec: Mapping[str, Any], key: jax.Array) -> Any:
    """The prior that ``spec`` describes.

    Args:
        spec: what a prior's ``spec()`` gave.
        key: for its first parameters.
    """
    if spec["prior"] == "flow":
        return FlowPrior(build_flow(spec["flow"], key=key), spec["flow"]["size"])
    names.check_name(spec["prior"])
    if spec["prior"] == "mixture":
        return Mixture(spec["num_components"], spec["latent_dim"], key=key)
    if spec["prior"] == "vamp":
        return Vamp(jax.random.normal(key, (spec["num_components"], spec["num_features"])))
    return Standard()
