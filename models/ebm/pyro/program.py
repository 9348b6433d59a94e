"""Energy-based models as programs in Pyro."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyro
import torch

from deepgen.inference.chains import pyro as chains
from deepgen.inference.contrastive.pyro import PersistentContrastiveDivergence
from deepgen.models.ebm import rbm, recipe
from deepgen.models.ebm.pyro import constructors, draws, energies
from deepgen.models.ebm.pyro.classes import ClassEnergyModel
from deepgen.models.ebm.pyro.distribution import Base, EnergyBased
from deepgen.program import Densities, LikelihoodKind
from deepgen.program.pyro import declare

KERNELS: dict[str, Any] = {
    "hamiltonian": chains.HamiltonianSteps,
    "flips": chains.FlipSteps,
    "block-gibbs": chains.BlockGibbs,
}


class EnergyBasedModel(torch.nn.Module):
    r"""A base that an energy corrects: a density known up to its constant.

    .. math:: p(x) = \frac1Z\, \mathrm{base}(x)\, e^{-E(x)}

    `fit` trains the energy by persistent contrastive divergence, `sample` runs chains, `log_prob` estimates log Z by
    annealed importance sampling, `impute` runs chains over what is missing.

    LeCun, Chopra, Hadsell, Ranzato & Huang 2006, A tutorial on energy-based learning.

    Args:
        base: a `Base`, fixed.
        energy: from rows (n, *event_shape) to (n,) nats.
        kernel: ``"hamiltonian"``, ``"flips"`` or ``"block-gibbs"``; None for what suits the base.

    Raises:
        ValueError: an unknown kernel, or one of another kind of data.
    """

    family: ClassVar[str] = "ebm"
    likelihood: ClassVar[LikelihoodKind] = "estimate"
    imputers: ClassVar[tuple[str, ...]] = recipe.IMPUTERS
    densities: ClassVar[Densities] = Densities("partition", None)

    def __init__(self, base: Base, energy: Any, kernel: str | None = None):
        super().__init__()
        self.base, self.energy = base, energy
        self.kernel = recipe.kernel_name(kernel, base.kind)
        self.distribution()

    mlp = classmethod(constructors.mlp)
    conv = classmethod(constructors.conv)
    rbm = classmethod(constructors.rbm)
    product = classmethod(constructors.product)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.base.event_shape

    @property
    def discrete(self) -> bool:
        """Whether data are zeros and ones."""
        return self.base.kind == "bernoulli"

    def distribution(self) -> Any:
        """The law of a datum, for a site of any program."""
        return EnergyBased(self.base.distribution(), self.energy, KERNELS[self.kernel]())

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """p(x) up to its constant, in the plate ``"data"``.

        Args:
            x: (n, *event_shape). None, to draw, is refused: `sample` and ``draw`` run chains.
            size: the number of rows where x is None.

        Returns:
            x.

        Raises:
            NotImplementedError: x is None.
        """
        energy = declare("energy", self.energy)
        law = EnergyBased(self.base.distribution(), energy, KERNELS[self.kernel]())
        with pyro.plate("data", size if x is None else len(x)):
            return pyro.sample("x", law, obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents.

        Args:
            x: as `model`.
            size: as `model`.
        """

    def draw(
        self,
        num_samples: int,
        *,
        num_warmup: int = 200,
        num_iterations: int = 100,
        num_steps: int = 8,
    ) -> torch.Tensor:
        """The ends of as many chains from the base, each one draw: of the law as the chains grow long, not before.

        Args:
            num_samples: how many chains.
            num_warmup: iterations in which step sizes are adapted.
            num_iterations: iterations after that.
            num_steps: leapfrog steps, flips or sweeps of an iteration.

        Returns:
            (num_samples, *event_shape).

        Raises:
            ValueError: a number below 1, or a negative ``num_warmup``.
        """
        return draws.draw(self, num_samples, num_warmup, num_iterations, num_steps)

    def exact_log_partition(self) -> float:
        """log Z of a restricted Boltzmann machine by a sum over all states of its smaller side, nats.

        Returns:
            log Z relative to the base, in float64.

        Raises:
            ValueError: another energy, or more than 20 units on both sides.
        """
        recipe.check_rbm(self.energy, energies.RBMEnergy)
        energy = self.energy
        arrays = energy.weight, energy.visible_bias, energy.hidden_bias, self.base.distribution().base_dist.logits
        weight, *biases = (array.detach().cpu().numpy() for array in arrays)
        return rbm.log_partition(weight, *(bias.reshape(-1) for bias in biases))

    def objective(self) -> Any:
        """What `fit` minimises by default."""
        return PersistentContrastiveDivergence(num_steps=1 if self.kernel == "block-gibbs" else 10)

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it.

        Args:
            x: (n, *event_shape) numbers; zeros and ones on a Bernoulli base.
            missing: whether missing entries are allowed.
            observed: booleans of x's shape, or None where NaN says what is missing.

        Returns:
            x as a NumPy array of floats.

        Raises:
            ValueError: wrong dtype, shape or values, empty, not finite, missing where it may not be, or a row of which
                nothing is observed.
        """
        return recipe.check_x(x, self.event_shape, self.discrete, missing=missing, observed=observed)

    def diagnose(self, x: Any) -> list[Warning]:
        """A warning where chains from the base and from ``x`` do not come to the same energies, else nothing."""
        return draws.diagnose(self, self.check_data(x, missing=True))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "program": "density",
            "event_shape": list(self.event_shape),
            "base": self.base.kind,
            "energy": energies.describe(self.energy),
            "kernel": self.kernel,
        }


def build(config: Mapping[str, Any]) -> EnergyBasedModel | ClassEnergyModel:
    """A program of the described shape, with initial weights.

    Args:
        config: what the ``spec`` of an `EnergyBasedModel` or a `ClassEnergyModel` gave.

    Returns:
        The program.
    """
    base, energy = Base(config["base"], config["event_shape"]), energies.build(config["energy"])
    if config.get("program") == "class":
        return ClassEnergyModel(base, energy, config["num_classes"])
    return EnergyBasedModel(base, energy, config["kernel"])
