"""Energies in Pyro: from rows of data to nats, whatever is low being likely."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from deepgen.models.ebm import rbm
from deepgen.nn import torch as nn
from deepgen.program import files


class NetworkEnergy(torch.nn.Module):
    """The one output of a network.

    Args:
        network: to one output, (..., 1): an `nn.MLP` of flattened data, or of data as they are.
    """

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The energies (n,) of rows (n, *event_shape)."""
        return self.network(_shown(self.network, x)).reshape(len(x))

    def spec(self) -> dict[str, Any]:
        """The description, from which `build` makes it again."""
        return {"energy": "network", "network": files.describe(self.network, nn.NETWORKS)}


class LogitsEnergy(torch.nn.Module):
    r"""The energy of data whose classes have been summed out: :math:`E(x) = -\log \sum_y \exp f(x)_y`.

    Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi & Swersky 2020, Your classifier is secretly an energy based model and
    you should treat it like one.

    Args:
        network: to the logits f(x) of the classes, (..., K).
    """

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """f(x) (n, K) of rows (n, *event_shape)."""
        return self.network(_shown(self.network, x)).reshape(len(x), -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The energies (n,) of rows (n, *event_shape)."""
        return -torch.logsumexp(self.logits(x), dim=-1)

    def spec(self) -> dict[str, Any]:
        """The description, from which `build` makes it again."""
        return {"energy": "logits", "network": files.describe(self.network, nn.NETWORKS)}


class QuadraticEnergy(torch.nn.Module):
    r"""Half a squared length: :math:`E(x) = \tfrac12 |W x + b|^2`. On a normal base the law is normal.

    Args:
        in_size: how many entries a datum has.
        out_size: how many experts, rows of W.
    """

    def __init__(self, in_size: int, out_size: int):
        super().__init__()
        self.weight = torch.nn.Parameter((2 * torch.rand(out_size, in_size) - 1) / math.sqrt(in_size))
        self.bias = torch.nn.Parameter(torch.zeros(out_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The energies (n,) of rows (n, *event_shape)."""
        out = x.reshape(len(x), -1) @ self.weight.T + self.bias
        return 0.5 * (out * out).sum(-1)

    def spec(self) -> dict[str, Any]:
        """The description, from which `build` makes it again."""
        return {"energy": "quadratic", "in_size": self.weight.shape[1], "out_size": self.weight.shape[0]}


class RBMEnergy(torch.nn.Module):
    """The free energy of a restricted Boltzmann machine, see `deepgen.models.ebm.rbm`.

    The weights begin normal with standard deviation 0.01, the biases at zero.

    Args:
        visible_dim: D, how many visible units.
        hidden_dim: H, how many hidden units.
    """

    def __init__(self, visible_dim: int, hidden_dim: int):
        super().__init__()
        self.weight = torch.nn.Parameter(0.01 * torch.randn(hidden_dim, visible_dim))
        self.visible_bias = torch.nn.Parameter(torch.zeros(visible_dim))
        self.hidden_bias = torch.nn.Parameter(torch.zeros(hidden_dim))

    @property
    def hidden_dim(self) -> int:
        """H."""
        return int(self.weight.shape[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The energies (n,) of rows (n, *event_shape)."""
        return self.tempered(x, 1.0)

    def tempered(self, x: torch.Tensor, temperature: Any) -> torch.Tensor:
        """The energies (n,) where the joint energy of both kinds of units is multiplied by a temperature."""
        v = x.reshape(len(x), -1)
        return rbm.free_energy(v, self.weight, self.visible_bias, self.hidden_bias, temperature)

    def hidden_logits(self, x: torch.Tensor, temperature: Any = 1.0) -> torch.Tensor:
        """The logits (n, H) of the hidden units given rows."""
        return rbm.hidden_logits(x.reshape(len(x), -1), self.weight, self.hidden_bias, temperature)

    def visible_logits(self, hidden: torch.Tensor, temperature: Any = 1.0) -> torch.Tensor:
        """What is added to the base's logits, (n, D), given the hidden units."""
        return rbm.visible_logits(hidden, self.weight, self.visible_bias, temperature)

    def spec(self) -> dict[str, Any]:
        """The description, from which `build` makes it again."""
        return {"energy": "rbm", "visible_dim": self.weight.shape[1], "hidden_dim": self.hidden_dim}


class SumEnergy(torch.nn.Module):
    """The sum of energies: the product of their experts.

    Du, Li & Mordatch 2020, Compositional visual generation with energy based models.

    Args:
        energies: the terms.
    """

    def __init__(self, energies: Sequence[Any]):
        super().__init__()
        self.energies = torch.nn.ModuleList(energies)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The energies (n,) of rows (n, *event_shape)."""
        return sum((energy(x) for energy in list(self.energies)[1:]), self.energies[0](x))

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


def build(spec: Mapping[str, Any]) -> Any:
    """An energy again from its description, with new parameters.

    Args:
        spec: what `describe` gave.

    Returns:
        The energy.
    """
    kind, options = spec["energy"], {name: value for name, value in spec.items() if name != "energy"}
    if kind == "sum":
        return SumEnergy([build(part) for part in options["energies"]])
    if "network" in options:
        return ENERGIES[kind](nn.build(options["network"]))
    return ENERGIES[kind](**options)


def _shown(network: Any, x: torch.Tensor) -> torch.Tensor:
    """Rows as the network takes them: flat for a perceptron."""
    return x.reshape(len(x), -1) if isinstance(network, nn.MLP) else x
