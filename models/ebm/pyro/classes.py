"""Classifiers as energy-based models in Pyro."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from deepgen import checks
from deepgen.inference.contrastive.pyro import PersistentContrastiveDivergence
from deepgen.models.ebm import recipe
from deepgen.models.ebm.pyro import draws, energies
from deepgen.models.ebm.pyro.distribution import Base, EnergyBased
from deepgen.models.vae.classes import check_labels
from deepgen.nn import torch as nn
from deepgen.nn.arguments import wholes
from deepgen.program import Densities, LikelihoodKind
from deepgen.program.pyro import declare, tensor


class ClassEnergyModel(torch.nn.Module):
    r"""A classifier whose logits are energies of the data and their class together.

    .. math:: p(x, y) = \frac1Z\, \mathrm{base}(x)\, e^{f(x)_y}, \quad p(y \mid x) = \mathrm{softmax} f(x), \quad
        p(x) = \frac1Z\, \mathrm{base}(x)\, e^{-E(x)}, \ E(x) = -\log \sum_y e^{f(x)_y}

    `fit` contrasts p(x) and adds the cross-entropy of the labels that are known; `sample`, `log_prob` and `impute` take
    a class as ``y=``, and then their law is p(x | y).

    Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi & Swersky 2020, Your classifier is secretly an energy based model and
    you should treat it like one.

    Args:
        base: a `Base`, fixed.
        energy: a `LogitsEnergy`, of a network to the logits.
        num_classes: K.

    Raises:
        ValueError: fewer than two classes.
    """

    family: ClassVar[str] = "ebm"
    likelihood: ClassVar[LikelihoodKind] = "estimate"
    imputers: ClassVar[tuple[str, ...]] = recipe.IMPUTERS
    densities: ClassVar[Densities] = Densities("partition", None)
    classifiers: ClassVar[tuple[str, ...]] = ("exact",)

    def __init__(self, base: Base, energy: energies.LogitsEnergy, num_classes: int):
        super().__init__()
        checks.at_least("num_classes", num_classes, 2)
        self.base, self.energy, self.num_classes = base, energy, int(num_classes)

    @classmethod
    def mlp(
        cls,
        event_shape: Sequence[int],
        num_classes: int,
        base: str = "diagonal",
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "gelu",
        data: Any | None = None,
    ) -> "ClassEnergyModel":
        """A program whose logits are a multilayer perceptron's.

        Args:
            event_shape: the shape of one datum.
            num_classes: K.
            base: ``"diagonal"`` or ``"full"`` for normals, ``"bernoulli"`` for zeros and ones.
            hidden: the widths of the hidden layers.
            activation: the network's activation; a smooth one, for chains follow its gradient.
            data: (n, *event_shape), NaN allowed, to which the base is fitted; None for a standard one.

        Returns:
            The program, untrained.

        Raises:
            ValueError: sizes that are not positive, an unknown base, or data that do not fit.
        """
        shape = checks.event_shape(tuple(event_shape))
        checks.at_least("num_classes", num_classes, 2)
        network = nn.MLP(recipe.size(shape), num_classes, wholes("hidden", hidden), activation=activation)
        return cls(Base(base, shape, data), energies.LogitsEnergy(network), num_classes)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.base.event_shape

    def distribution(self) -> Any:
        """The law of a datum whose class is not known."""
        return EnergyBased(self.base.distribution(), self.energy)

    def model(self, x: Any = None, y: Any = None, *, size: int = 1) -> Any:
        """p(x) up to its constant and, of rows whose class is known, p(y | x), in the plate ``"data"``.

        Args:
            x: (n, *event_shape). None, to draw, is refused: `sample` and ``draw`` run chains.
            y: (n,) integers, -1 where unknown; None where all are unknown.
            size: the number of rows where x is None.

        Returns:
            x.

        Raises:
            NotImplementedError: x is None.
        """
        energy = declare("energy", self.energy)
        with pyro.plate("data", size if x is None else len(x)):
            x = pyro.sample("x", EnergyBased(self.base.distribution(), energy), obs=x)
            if y is not None:
                law = dist.Categorical(logits=energy.logits(x)).mask(y >= 0)
                pyro.sample("y", law, obs=y.clamp(min=0))
            return x

    def guide(self, x: Any = None, y: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents.

        Args:
            x: as `model`.
            y: as `model`.
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
        """The ends of as many chains from the base, each one draw, see `EnergyBasedModel.draw`.

        Args:
            num_samples: how many chains.
            num_warmup: iterations in which step sizes are adapted.
            num_iterations: iterations after that.
            num_steps: leapfrog steps or flips of an iteration.

        Returns:
            (num_samples, *event_shape).

        Raises:
            ValueError: a number below 1, or a negative ``num_warmup``.
        """
        return draws.draw(self, num_samples, num_warmup, num_iterations, num_steps)

    def class_probs(self, x: Any) -> torch.Tensor:
        """p(y | x) of each row.

        Args:
            x: (n, *event_shape), complete.

        Returns:
            (n, num_classes).

        Raises:
            ValueError: data that the program does not take.
        """
        with torch.no_grad():
            return torch.softmax(self.energy.logits(tensor(self, self.check_data(x))), dim=-1)

    def objective(self) -> Any:
        """What `fit` minimises by default."""
        return PersistentContrastiveDivergence(num_steps=10)

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it, see `EnergyBasedModel.check_data`.

        Args:
            x: (n, *event_shape) numbers; zeros and ones on a Bernoulli base.
            missing: whether missing entries are allowed.
            observed: booleans of x's shape, or None where NaN says what is missing.

        Returns:
            x as a NumPy array of floats.

        Raises:
            ValueError: data that the program does not take.
        """
        discrete = self.base.kind == "bernoulli"
        return recipe.check_x(x, self.event_shape, discrete, missing=missing, observed=observed)

    def check_labels(self, y: Any, rows: int) -> np.ndarray:
        """``y`` as this program takes it.

        Args:
            y: (rows,) integers, -1 where unknown, or one for all rows.
            rows: how many rows there are.

        Returns:
            (rows,) integers.

        Raises:
            ValueError: no integers, another number of them, or one that is no class.
        """
        return check_labels(y, rows, self.num_classes)

    def given(self, y: Any) -> "Given":
        """The program given what is known of the labels.

        Args:
            y: (n,) integers, -1 where unknown.

        Returns:
            What has the law of x alone, for rows that repeat these n.
        """
        return Given(self, torch.as_tensor(y, device=next(self.parameters()).device))

    def diagnose(self, x: Any) -> list[Warning]:
        """A warning where chains from the base and from ``x`` do not come to the same energies, else nothing."""
        return draws.diagnose(self, self.check_data(x, missing=True))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "program": "class",
            "event_shape": list(self.event_shape),
            "base": self.base.kind,
            "energy": energies.describe(self.energy),
            "num_classes": self.num_classes,
        }


class ClassEnergy(torch.nn.Module):
    """The energy of data whose class is known: minus its logit; where it is not, that of all classes together.

    Args:
        energy: of the data.
        y: (n,) the classes, -1 where unknown; any number of rows is taken to repeat these n.
    """

    def __init__(self, energy: energies.LogitsEnergy, y: torch.Tensor):
        super().__init__()
        self.energy, self.y = energy, y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The energies (m,) of rows (m, *event_shape)."""
        logits = self.energy.logits(x)
        y = self.y.long().tile(-(-len(x) // len(self.y)))[: len(x)]
        own = logits.gather(1, y.clamp(min=0)[:, None])[:, 0]
        return -torch.where(y >= 0, own, torch.logsumexp(logits, dim=1))


class Given:
    """A classifier's law of x given the classes of its rows.

    Args:
        program: the classifier.
        y: (n,) integers, -1 where unknown; any number of rows is taken to repeat these n.
    """

    def __init__(self, program: ClassEnergyModel, y: torch.Tensor):
        self.program, self.y = program, y

    def distribution(self) -> Any:
        """The law of rows."""
        return EnergyBased(self.program.base.distribution(), ClassEnergy(self.program.energy, self.y))

    def draw(self, num_samples: int) -> torch.Tensor:
        """The ends of as many chains from the base, see `EnergyBasedModel.draw`.

        Args:
            num_samples: how many chains.

        Returns:
            (num_samples, *event_shape).
        """
        return draws.draw(self, num_samples, 200, 100, 8)
