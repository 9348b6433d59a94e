"""Contrastive divergence in Pyro, from the data or from chains that persist."""

from collections.abc import Callable
from typing import Any

import torch
from pyro import infer

from deepgen.inference.chains import arguments
from deepgen.inference.chains import pyro as chains
from deepgen.inference.contrastive import contrast
from deepgen.inference.contrastive.pyro.sites import Observed, observed
from deepgen.inference.svi.pyro.traces import draw_traces

State = dict[str, torch.Tensor]


class ContrastiveDivergence(infer.ELBO):
    r"""Contrastive divergence: chains of k steps begin at the data and are contrasted with them (CD-k).

    .. math:: \nabla \sum_i \left[U(x_i) - U(x_i^-)\right], \qquad U = -\log f, \quad x_i^- \sim T^k(\cdot \mid x_i)

    It is no bound: the loss is the energy gap between data and samples, near zero where chains stay at the data. Usable
    in a plain ``SVI``. Other observed sites of the model, such as classes given x, add their negative log density.

    Args:
        num_steps: k.
        kernel: the chains' kernel, such as `LangevinSteps`; None for the law's own.
        data_noise: the standard deviation of normal noise added to the data.
        penalty: on the mean square of the energies of data and samples, which keeps them from drifting.

    Raises:
        ValueError: a setting out of range.

    References:
        Hinton 2002, "Training products of experts by minimizing contrastive divergence".
    """

    def __init__(
        self, num_steps: int = 1, *, kernel: Any = None, data_noise: float = 0.0, penalty: float = 0.0
    ) -> None:
        contrast.check_settings(num_steps, data_noise, penalty)
        self.num_steps, self.kernel = int(num_steps), kernel
        self.data_noise, self.penalty = float(data_noise), float(penalty)
        super().__init__()
        self.state: State = {}

    def __repr__(self) -> str:
        return (
            f"ContrastiveDivergence({self.num_steps}, kernel={self.kernel!r}, data_noise={self.data_noise}, "
            f"penalty={self.penalty})"
        )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def diagnostics(self, state: State) -> dict[str, Any]:
        """The energy gap and the acceptance probability of the last step, of the state that `fit` carries."""
        return {name: state[name] for name in ("energy_gap", "accept_prob")}

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; the state stays as it is."""
        with torch.no_grad():
            return float(self._loss(model, guide, args, kwargs)[0])

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters', and the state moves on."""
        loss, self.state = self._loss(model, guide, args, kwargs)
        if loss.requires_grad:
            loss.backward()
        return float(loss.detach())

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The loss, as a tensor to be differentiated; the state moves on."""
        loss, self.state = self._loss(model, guide, args, kwargs)
        return loss

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return draw_traces(model, guide, args, kwargs)

    def _loss(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, State]:
        found = observed(model, args, kwargs, self.data_noise)
        x = _noisy(found.x, self.data_noise)
        ends = _run(self.kernel, found.law, x, self.num_steps)
        loss, gap = _contrast(found, x, ends.x, self.penalty)
        return loss, _measured(gap, ends.accept_prob.mean())


class PersistentContrastiveDivergence(infer.ELBO):
    """Contrastive divergence whose chains go on where they ended, in a buffer that `fit` carries and checkpoints.

    Each step draws ``num_chains`` places of the buffer, starts a share of them afresh from the base, moves them k steps
    and puts them back. With a buffer of as many places these are the fantasy particles of Tieleman, with a larger one
    it is the replay buffer of Du and Mordatch. The buffer begins with draws of the base.

    In a plain ``SVI`` it carries the buffer itself, in ``state``.

    Args:
        num_steps: k.
        num_chains: how many chains a step moves; None for as many as a minibatch has rows.
        buffer_size: how many places; None for ``num_chains``.
        reinitialised: the share of chains that start afresh at each step.
        kernel: the chains' kernel, such as `LangevinSteps`; None for the law's own.
        data_noise: the standard deviation of normal noise added to the data.
        penalty: on the mean square of the energies of data and samples.

    Raises:
        ValueError: a setting out of range.

    References:
        Tieleman 2008, "Training restricted Boltzmann machines using approximations to the likelihood gradient"; Du and
        Mordatch 2019, "Implicit generation and modeling with energy-based models".
    """

    def __init__(
        self,
        num_steps: int = 10,
        *,
        num_chains: int | None = None,
        buffer_size: int | None = None,
        reinitialised: float = 0.0,
        kernel: Any = None,
        data_noise: float = 0.0,
        penalty: float = 0.0,
    ) -> None:
        contrast.check_settings(num_steps, data_noise, penalty)
        contrast.check_buffer(num_chains, buffer_size, reinitialised)
        self.num_steps, self.num_chains, self.buffer_size = int(num_steps), num_chains, buffer_size
        self.reinitialised, self.kernel = float(reinitialised), kernel
        self.data_noise, self.penalty = float(data_noise), float(penalty)
        super().__init__()
        self.state: State = {}

    def __repr__(self) -> str:
        return (
            f"PersistentContrastiveDivergence({self.num_steps}, num_chains={self.num_chains}, "
            f"buffer_size={self.buffer_size}, reinitialised={self.reinitialised}, kernel={self.kernel!r}, "
            f"data_noise={self.data_noise}, penalty={self.penalty})"
        )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def diagnostics(self, state: State) -> dict[str, Any]:
        """The energy gap and the acceptance probability of the last step, of the state that `fit` carries."""
        return {name: state[name] for name in ("energy_gap", "accept_prob")}

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; the state stays as it is."""
        with torch.no_grad():
            return float(self._loss(model, guide, args, kwargs)[0])

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters', and the state moves on."""
        loss, self.state = self._loss(model, guide, args, kwargs)
        if loss.requires_grad:
            loss.backward()
        return float(loss.detach())

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The loss, as a tensor to be differentiated; the state moves on."""
        loss, self.state = self._loss(model, guide, args, kwargs)
        return loss

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return draw_traces(model, guide, args, kwargs)

    def _loss(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, State]:
        found = observed(model, args, kwargs, self.data_noise)
        with torch.no_grad():
            buffer = self.state.get("x")
            if buffer is None:
                buffer = found.law.base.sample((self.buffer_size or self.num_chains or len(found.x),)).to(found.x)
            count = min(self.num_chains or len(found.x), len(buffer))
            places = torch.randperm(len(buffer), device=buffer.device)[:count] if count < len(buffer) else None
            start = buffer if places is None else buffer[places]
            if self.reinitialised:
                fresh = torch.rand((count, *(1,) * (start.dim() - 1)), device=buffer.device) < self.reinitialised
                start = torch.where(fresh, found.law.base.sample((count,)).to(start), start)
        ends = _run(self.kernel, found.law, start, self.num_steps)
        loss, gap = _contrast(found, _noisy(found.x, self.data_noise), ends.x, self.penalty)
        kept = ends.x if places is None else buffer.index_copy(0, places, ends.x)
        return loss, {"x": kept, **_measured(gap, ends.accept_prob.mean())}


def _measured(gap: torch.Tensor, accept_prob: torch.Tensor) -> State:
    return {"energy_gap": gap.detach(), "accept_prob": accept_prob.detach()}


def _noisy(x: torch.Tensor, data_noise: float) -> torch.Tensor:
    return x + data_noise * torch.randn_like(x) if data_noise else x


def _run(kernel: Any, law: Any, x: torch.Tensor, num_steps: int) -> chains.Step:
    own = law.kernel if kernel is None else kernel
    arguments.check_kind(own, bool(law.base.support.is_discrete))
    ends = chains.steps(own, law, x, num_steps)
    return chains.Step(ends.x.detach(), ends.accept_prob.detach())


def _contrast(found: Observed, x: torch.Tensor, samples: torch.Tensor, penalty: float) -> tuple[Any, torch.Tensor]:
    law = found.law
    data, own = -law.log_prob(x), -law.log_prob(samples)
    energies = (data + law.base.log_prob(x), own + law.base.log_prob(samples)) if penalty else None
    loss, gap = contrast.divergence(data, own, penalty, energies)
    return found.scale * loss + found.others, gap
