"""Energies in NumPyro: from rows of data to nats, whatever is low being likely."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from deepgen.models.ebm import rbm
from deepgen.nn import equinox as nn
from deepgen.program import files


class NetworkEnergy(eqx.Module):
    """The one output of a network.

    Args:
        network: to one output, (..., 1): an `nn.MLP` of flattened data, or of data as they are.
    """

    network: Any

    def __call__(self, x: jax.Array) -> jax.Array:
        """The energies (n,) of rows (n, *event_shape)."""
        return self.network(_shown(self.network, x)).reshape(len(x))

    def spec(self) -> dict[str, Any]:
        """The description, from which `build` makes it again."""
        return {"energy": "network", "network": files.describe(self.network, nn.NETWORKS)}


class LogitsEnergy(eqx.Module):
    r"""The energy of data whose classes have been summed out: :math:`E(x) = -\log \sum_y \exp f(x)_y`.

    Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi & Swersky 2020, Your classifier is secretly an energy based model and
    you should treat it like one.

    Args:
        network: to the logits f(x) of the classes, (..., K).
    """

    network: Any

    def logits(self, x: jax.Array) -> jax.Array:
        """f(x) (n, K) of rows (n, *event_shape)."""
        return self.network(_shown(self.network, x)).reshape(len(x), -1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The energies (n,) of rows (n, *event_shape)."""
        return -jax.nn.logsumexp(self.logits(x), axis=-1)

    def spec(self) -> dict[str, Any]:
        """The description, from which `build` makes it again."""
        return {"energy": "logits", "network": files.describe(self.network, nn.NETWORKS)}


class QuadraticEnergy(eqx.Module):
    r"""Half a squared length: :math:`E(x) = \tfrac12 |W x + b|^2`. On a normal base the law is normal.

    Args:
        in_size: how many entries a datum has.
        out_size: how many experts, rows of W.
        key: for the initial parameters.
    """

    weight: Float[jax.Array, "out d"]
    bias: Float[jax.Array, " out"]

    def __init__(self, in_size: int, out_size: int, *, key: jax.Array):
        self.weight = jax.random.uniform(key, (out_size, in_size), minval=-1.0, maxval=1.0) / math.sqrt(in_size)
        self.bias = jnp.zeros(out_size)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The energies (n,) of rows (n, *event_shape)."""
        out = x.reshape(len(x), -1) @ self.weight.T + self.bias
        return 0.5 * jnp.sum(out * out, axis=-1)

    def spec(self) -> dict[str, Any]:
        """The description, from which `build` makes it again."""
        return {"energy": "quadratic", "in_size": self.weight.shape[1], "out_size": self.weight.shape[0]}


class RBMEnergy(eqx.Module):
    """The free energy of a restricted Boltzmann machine, see `deepgen.models.ebm.rbm`.

    The weights begin normal with standard deviation 0.01, the biases at zero.

    Args:
        visible_dim: D, how many visible units.
        hidden_dim: H, how many hidden units.
        key: for the initial parameters.
    """

    weight: Float[jax.Array, "h d"]
    visible_bias: Float[jax.Array, " d"]
    hidden_bias: Float[jax.Array, " h"]

    def __init__(self, visible_dim: int, hidden_dim: int, *, key: jax.Array):
        self.weight = 0.01 * jax.random.normal(key, (hidden_dim, visible_dim))
        self.visible_bias, self.hidden_bias = jnp.zeros(visible_dim), jnp.zeros(hidden_dim)

    @property
    def hidden_dim(self) -> int:
        """H."""
        return int(self.weight.shape[0])

    def __call__(self, x: jax.Array) -> jax.Array:
        """The energies (n,) of rows (n, *event_shape)."""
        return self.tempered(x, 1.0)

    def tempered(self, x: jax.Array, temperature: Any) -> jax.Array:
        """The energies (n,) where the joint energy of both kinds of units is multiplied by a temperature."""
        v = x.reshape(len(x), -1)
        return rbm.free_energy(v, self.weight, self.visible_bias, self.hidden_bias, temperature)

    def hidden_logits(self, x: jax.Array, temperature: Any = 1.0) -> jax.Array:
        """The logits (n, H) of the hidden units given rows."""
        return rbm.hidden_logits(x.reshape(len(x), -1), self.weight, self.hidden_bias, temperature)

    def visible_logits(self, hidden: jax.Array, temperature: Any = 1.0) -> jax.Array:
        """What is added to the base's logits, (n, D), given the hidden units."""
        return rbm.visible_logits(hidden, self.weight, self.visible_bias, temperature)

    def spec(self) -> dict[str, Any]:
        """The description, from which `build` makes it again."""
        return {"energy": "rbm", "visible_dim": self.weight.shape[1], "hidden_dim": self.hidden_dim}


class SumEnergy(eqx.Module):
    """The sum of energies: the product of their experts.

    Du, Li & Mordatch 2020, Compositional visual generation with energy based models.

    Args:
        energies: the terms.
    """

    energies: tuple[Any, ...]

    def __init__(self, energies: Sequence[Any]):
        self.energies = tuple(energies)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The energies (n,) of rows (n, *event_shape)."""
        return sum((energy(x) for energy in self.energies[1:]), self.energies[0](x))

    def spec(self) -> dict[str, Any]:
        """The description, from which `build` makes it again."""
        return {"energy": "sum", "energies": [describe(energy) for energy in self.energies]}


ENERGIES: dict[str, Any] = {
    "network": NetworkEnergy,
    "logits": LogitsEnergy,
    "quadratic": QuadraticEnergy,
    "rbm": RBMEnergy,
    "sum": SumEnergy,
}


def describe(energy: Any) -> dict[str, Any]:
    """An energy's description, or that it is the user's own.

    Args:
        energy: any energy.

    Returns:
        JSON-able.
    """
    own: bool = isinstance(energy, tuple(ENERGIES.values()))
    return dict(energy.spec()) if own else {"network": "custom"}


def build(spec: Mapping[str, Any], *, key: jax.Array) -> Any:
    """An energy again from its description, with new parameters.

    Args:
        spec: what `describe` gave.
        key: for the initial parameters.

    Returns:
        The energy.
    """
    kind, options = spec["energy"], {name: value for name, value in spec.items() if name != "energy"}
    if kind == "sum":
        keys = jax.random.split(key, len(options["energies"]))
        return SumEnergy([build(part, key=each) for part, each in zip(options["energies"], keys, strict=True)])
    if "network" in options:
        return ENERGIES[kind](nn.build(options["network"], key=key))
    return ENERGIES[kind](**options, key=key)


def _shown(network: Any, x: jax.Array) -> jax.Array:
    """Rows as the network takes them: flat for a perceptron."""
    return x.reshape(len(x), -1) if isinstance(network, nn.MLP) else x
