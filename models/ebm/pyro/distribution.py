"""The law of an energy, as a distribution of Pyro, and the bases that the room's programs have."""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch.distributions.utils import lazy_property

from deepgen.inference.chains import arguments
from deepgen.inference.chains import pyro as chains
from deepgen.models.ebm import recipe, reference


class EnergyBased(TorchDistribution):
    r"""A density known up to a constant.

    .. math:: p(x) = \frac1Z\, \mathrm{base}(x)\, e^{-E(x)}, \qquad \texttt{log_prob}(x) = \log \mathrm{base}(x) - E(x)

    ``log_prob`` is unnormalised: it lacks - log Z, which `log_partition` estimates. There is no ``sample``: chains of
    ``kernel`` draw from it.

    LeCun, Chopra, Hadsell, Ranzato & Huang 2006, A tutorial on energy-based learning.

    Args:
        base: a normalised distribution without batch axes, from which chains start.
        energy: from rows (n, *event_shape) to (n,) nats.
        kernel: the Markov kernel, `HamiltonianSteps`, `FlipSteps` or `BlockGibbs`; None for the first of real numbers
            and the second of zeros and ones.
        validate_args: as of any distribution.

    Raises:
        ValueError: a base with batch axes, or a kernel of another kind of data, or that does not keep the law.
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, base: Any, energy: Any, kernel: Any = None, *, validate_args: bool | None = None):
        recipe.check_base(tuple(base.batch_shape))
        self.base, self.energy = base, energy
        self.kernel = chains.default(base) if kernel is None else kernel
        arguments.check_exact(self.kernel)
        arguments.check_kind(self.kernel, bool(base.support.is_discrete))
        super().__init__(torch.Size(), torch.Size(base.event_shape), validate_args=validate_args)

    @lazy_property
    def support(self) -> Any:
        """That of the base."""
        return self.base.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same law of more rows."""
        new: Any = self._get_checked_instance(EnergyBased, _instance)
        new.base, new.energy, new.kernel = self.base, self.energy, self.kernel
        super(EnergyBased, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """log base(x) - E(x) of each value, without the constant: nats."""
        if self._validate_args:
            self._validate_sample(value)
        lead = value.shape[: value.dim() - len(self.event_shape)]
        rows = value.reshape(-1, *self.event_shape)
        energy = self.energy(rows)
        recipe.check_energies(tuple(energy.shape), len(rows))
        return (self.base.log_prob(rows) - energy).reshape(lead)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Refused: there are no independent draws.

        Raises:
            NotImplementedError: naming the kernel that draws from it.
        """
        raise NotImplementedError(recipe.no_draws(self.kernel, "pyro"))


class Base(torch.nn.Module):
    """The law that an energy corrects: its parameters, fitted to data and fixed.

    Args:
        kind: ``"diagonal"``, ``"full"`` or ``"bernoulli"``.
        event_shape: of a datum.
        data: (n, *event_shape), NaN where missing, to which it is fitted; None for a standard one.

    Raises:
        ValueError: an unknown kind, or data that it does not take.
    """

    loc: torch.Tensor
    log_scale: torch.Tensor
    lower: torch.Tensor
    logits: torch.Tensor

    def __init__(self, kind: str, event_shape: Sequence[int], data: Any | None = None):
        super().__init__()
        values = reference.fitted(kind, tuple(event_shape), data)
        self.kind = kind
        for name, value in values.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.get_default_dtype()))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return tuple((self.logits if self.kind == "bernoulli" else self.loc).shape)

    def distribution(self) -> Any:
        """The law, with the shape of a datum as its event shape."""
        if self.kind == "bernoulli":
            return dist.Bernoulli(logits=self.logits).to_event(self.logits.dim())
        if self.kind == "diagonal":
            return dist.Normal(self.loc, self.log_scale.exp()).to_event(self.loc.dim())
        factor = self.lower.tril(-1) + torch.diag(self.log_scale.exp())
        return dist.MultivariateNormal(self.loc, scale_tril=factor)
