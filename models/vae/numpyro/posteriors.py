"""What an encoder's numbers mean in NumPyro: the amortised posteriors of a VAE."""

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular

from deepgen.likelihoods.laws import MAX_SCALE, MIN_SCALE
from deepgen.models.flow.numpyro import Flow
from deepgen.models.flow.numpyro import build as build_flow
from deepgen.models.flow.numpyro.transforms import FlowDistribution, given_context
from deepgen.models.vae import flows
from deepgen.models.vae import posterior as names
from deepgen.models.vae.linear import evidence
from deepgen.models.vae.normals import Correlated, Normal
from deepgen.nn.bounded import bounded


class Diagonal(eqx.Module):
    """q(z | x) = N(m, diag s^2); the encoder gives m and the raw log s, bounded to (-7, 3)."""

    def num_params(self, latent_dim: int) -> int:
        """How many numbers the encoder gives."""
        return 2 * latent_dim

    def __call__(self, raw: jax.Array, features: jax.Array, observed: jax.Array) -> dist.Distribution:
        """The posterior of each row, given (n, 2 latent_dim) numbers."""
        return self.law(self.read(raw))

    def read(self, raw: jax.Array) -> Normal:
        """m and s of the numbers."""
        loc, raw_scale = jnp.split(raw, 2, axis=-1)
        return Normal(loc, names.scale(raw_scale))

    def law(self, normal: Normal) -> dist.Distribution:
        """The distribution."""
        return dist.Normal(*normal).to_event(1)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"posterior": "diagonal"}


class Full(eqx.Module):
    """q(z | x) = N(m, L L'), L lower triangular; the encoder gives m, the raw log diagonal of L, and the rest of L."""

    def num_params(self, latent_dim: int) -> int:
        """How many numbers the encoder gives."""
        return 2 * latent_dim + latent_dim * (latent_dim - 1) // 2

    def __call__(self, raw: jax.Array, features: jax.Array, observed: jax.Array) -> dist.Distribution:
        """The posterior of each row, given its numbers."""
        return self.law(self.read(raw))

    def read(self, raw: jax.Array) -> Correlated:
        """m and L of the numbers."""
        dim = names.latent_dim(raw.shape[-1])
        loc, raw_scale, below = jnp.split(raw, (dim, 2 * dim), axis=-1)
        diagonal = names.scale(raw_scale)
        tril = jnp.zeros((*raw.shape[:-1], dim, dim), raw.dtype)
        tril = tril.at[..., jnp.arange(dim), jnp.arange(dim)].set(diagonal)
        rows, columns = jnp.tril_indices(dim, -1)
        return Correlated(loc, tril.at[..., rows, columns].set(below))

    def law(self, normal: Correlated) -> dist.Distribution:
        """The distribution."""
        return dist.MultivariateNormal(normal.loc, scale_tril=normal.root, validate_args=False)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"posterior": "full"}


class Conjugate(eqx.Module):
    r"""The posterior of a linear-Gaussian program given the observed features, moved and stretched by the encoder.

    .. math:: q(z \mid x) = N(P^{-1} h + m,\; S P^{-1} S)

    with P and h of `deepgen.models.vae.linear.evidence`, a shift m and a diagonal log S in (-2, 2) from the encoder.
    Each observed feature is one Gaussian factor, so that it is the exact posterior of a linear-Gaussian program
    whatever is missing (conjugate potentials: Johnson, Duvenaud, Wiltschko, Datta & Adams 2016).

    Args:
        num_features: F, how many numbers the encoder sees of a datum.
        latent_dim: how many latents.
    """

    weight: jax.Array
    bias: jax.Array
    raw_scale: jax.Array

    def __init__(self, num_features: int, latent_dim: int):
        self.weight = jnp.zeros((num_features, latent_dim))
        self.bias = jnp.zeros(num_features)
        self.raw_scale = jnp.zeros(num_features)

    def num_params(self, latent_dim: int) -> int:
        """How many numbers the encoder gives."""
        return 2 * latent_dim

    def __call__(self, raw: jax.Array, features: jax.Array, observed: jax.Array) -> dist.Distribution:
        """The posterior of each row, given (n, 2 latent_dim) numbers, (n, F) features and which of them are seen."""
        scale = jnp.exp(bounded(self.raw_scale, math.log(MIN_SCALE), math.log(MAX_SCALE)))
        precision, potential = evidence(features, observed.astype(features.dtype), self.weight, self.bias, scale**2)
        upper = jnp.flip(jnp.linalg.cholesky(jnp.flip(precision, (-2, -1))), (-2, -1))
        identity = jnp.broadcast_to(jnp.eye(upper.shape[-1], dtype=upper.dtype), upper.shape)
        # P = U U' with U upper triangular, so that inv(U)' is the lower triangular root of inv(P)
        root = jnp.swapaxes(solve_triangular(upper, identity, lower=False), -2, -1)
        shift, raw_stretch = jnp.split(raw, 2, axis=-1)
        loc = jnp.einsum("nij,nj->ni", root, jnp.einsum("nji,nj->ni", root, potential)) + shift
        stretch = jnp.exp(bounded(raw_stretch, -names.STRETCH, names.STRETCH))
        return dist.MultivariateNormal(loc, scale_tril=stretch[..., None] * root, validate_args=False)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"posterior": "conjugate", "num_features": self.weight.shape[0], "latent_dim": self.weight.shape[1]}


class FlowPosterior(eqx.Module):
    r"""q(z | x): a diagonal normal, carried on by a flow that sees what the encoder says of x.

    .. math:: z_0 \sim N(m(x), \mathrm{diag}\, s(x)^2), \quad z = f_T(\cdots f_1(z_0; h(x)); h(x))

    The encoder gives m, the raw log s, bounded to (-7, 3), and h, the context of the flow's transforms.

    Rezende & Mohamed 2015, Variational inference with normalizing flows; Kingma, Salimans, Jozefowicz, Chen, Sutskever
    & Welling 2016, Improving variational inference with inverse autoregressive flow.

    Args:
        flow: of event shape (latent_dim,) and with a normal base, in whose place the encoder's stands. Its context_dim
            is the size of h; at 0 all rows share the same map.
        latent_dim: how many latents.

    Raises:
        ValueError: a flow of another event shape or base.
    """

    flow: Flow

    def __init__(self, flow: Flow, latent_dim: int):
        flows.check_posterior(flow, latent_dim)
        self.flow = flow

    def num_params(self, latent_dim: int) -> int:
        """How many numbers the encoder gives."""
        return 2 * latent_dim + self.flow.context_dim

    def __call__(self, raw: jax.Array, features: jax.Array, observed: jax.Array) -> dist.Distribution:
        """The posterior of each row, given its numbers."""
        loc, raw_scale, context = jnp.split(raw, (self.flow.size, 2 * self.flow.size), axis=-1)
        base = dist.Normal(loc, names.scale(raw_scale)).to_event(1)
        return FlowPosteriorLaw(base, given_context(self.flow.transforms, context))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"posterior": "flow", "flow": self.flow.spec()}


class FlowPosteriorLaw(FlowDistribution):
    """The distribution that a `FlowPosterior` gives, whose moments are means over fixed points of its base.

    They are exact where the flow is affine, else approximations; densities and draws do not depend on them.

    Args:
        base_distribution: the encoder's normals.
        transforms: the flow's, given the context.
    """

    @property
    def mean(self) -> jax.Array:
        """E[z | x] of each row, approximately."""
        return self._moments()[0]

    @property
    def variance(self) -> jax.Array:
        """var[z | x] of each row, approximately."""
        return self._moments()[1]

    def _moments(self) -> tuple[jax.Array, jax.Array]:
        loc, scale = self.base_dist.base_dist.loc, self.base_dist.base_dist.scale
        places = jnp.asarray(flows.points(loc.shape[-1]), loc.dtype).reshape(-1, *[1] * (loc.ndim - 1), loc.shape[-1])
        z = loc + scale * places
        for transform in self.transforms:
            z = transform(z)
        return z.mean(0), z.var(0)


Posterior = Diagonal | Full | Conjugate | FlowPosterior


def chosen(posterior: Any, latent_dim: int) -> Any:
    """What stands for a posterior that a program was given.

    Args:
        posterior: a flow, any posterior, or None for a diagonal normal.
        latent_dim: how many latents.

    Raises:
        ValueError: a flow that does not carry normals to the latents.
    """
    if isinstance(posterior, Flow):
        return FlowPosterior(posterior, latent_dim)
    return Diagonal() if posterior is None else posterior


def posterior(name: Any, num_features: int, latent_dim: int) -> Any:
    """The posterior of that name, or of that flow.

    Args:
        name: ``"diagonal"``, ``"full"`` or ``"conjugate"``, or a flow.
        num_features: how many numbers the encoder sees of a datum.
        latent_dim: how many latents.

    Returns:
        The posterior.

    Raises:
        ValueError: another name, or a flow that does not carry normals to the latents.
    """
    if isinstance(name, Flow):
        return chosen(name, latent_dim)
    names.check_name(name)
    return Conjugate(num_features, latent_dim) if name == "conjugate" else {"diagonal": Diagonal, "full": Full}[name]()


def build(spec: Mapping[str, Any], key: jax.Array) -> Any:
    """The posterior that ``spec`` describes.

    Args:
        spec: what a posterior's ``spec()`` gave.
        key: for its first parameters.
    """
    if spec["posterior"] == "flow":
        return FlowPosterior(build_flow(spec["flow"], key=key), spec["flow"]["size"])
    return posterior(spec["posterior"], spec.get("num_features", 0), spec.get("latent_dim", 0))
