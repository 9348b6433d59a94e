"""The evidence lower bound with beta, schedules and free bits, as an objective of Pyro's own SVI."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import infer, poutine
from pyro.distributions.util import scale_and_mask

from deepgen.inference.svi import kl as terms
from deepgen.inference.svi.checkpoint import describe
from deepgen.inference.svi.pyro.traces import check_differentiable, checked, divergence, draw_traces, scaled_log_density
from deepgen.inference.svi.schedules import Schedule


class Particle(NamedTuple):
    """What one draw of the latents gives: nats, summed over the rows.

    Attributes:
        reconstruction: -log p(observed | latents).
        kl: by group of latents, its KL or an unbiased estimate of it.
        rows: by group, the number of rows the KL runs over, scaled and masked as it is.
    """

    reconstruction: torch.Tensor
    kl: dict[str, torch.Tensor]
    rows: dict[str, Any]


class _Count:
    """How many gradients were taken of some parameters, None of none at all."""

    def __init__(self, params: list[Any] | None) -> None:
        self.params, self.step = params, 0

    def is_alive(self) -> bool:
        """Whether the parameters are still there."""
        return self.params is None or any(ref() is not None for ref in self.params)

    def is_of(self, params: list[torch.Tensor]) -> bool:
        """Whether one of the parameters is among these."""
        if self.params is None or not params:
            return self.params is None and not params
        return any(ref() is param for ref in self.params for param in params)


class ELBO(infer.ELBO):
    """The negative evidence lower bound, with the KL weighted by beta and counted from free bits on.

    loss = E_q[-log p(x | z)] + beta * sum over groups g of rows_g * max(KL_g / rows_g, free_bits_g)

    KL_g is that of a latent site, summed over the rows of its plates: in closed form where torch has it and the order
    of the sites allows it, else log q(z) - log p(z) of the draw. With beta = 1 and no free bits its expectation is that
    of ``Trace_ELBO``. The minimum is applied to the average over the rows (and over the particles), see
    `deepgen.inference.svi.kl.penalised`. Latents that only the model has are drawn from the model and have no KL.
    Auxiliary sites of the guide count as part of log q. Latents without a reparameterised sampler are refused.

    Args:
        beta: the weight of the KL terms, a number >= 0 or a schedule of the step.
        free_bits: nats a row that each group of latents has free, one number for all or a dictionary by site.
        num_particles: how many draws of the latents are averaged.

    Attributes:
        step: in a plain ``SVI``, how many gradients were taken of the parameters met last: what a schedule is evaluated
            at. Each set of parameters has its own count, from zero on, so that one objective serves several fits; that
            of the same parameters goes on in another ``SVI``. `fit` keeps its own.

    Raises:
        ValueError: a negative beta or free bits, or ``num_particles`` below 1.
        TypeError: a beta that is neither number nor schedule.

    References:
        Higgins et al. 2017, "beta-VAE"; Kingma et al. 2016, "Improving variational inference with inverse
        autoregressive flow" (free bits).
    """

    def __init__(
        self,
        *,
        beta: float | Schedule = 1.0,
        free_bits: float | Mapping[str, float] = 0.0,
        num_particles: int = 1,
    ) -> None:
        terms.check_settings(beta, free_bits, num_particles)
        self.beta: Any = beta
        self.free_bits = dict(free_bits) if isinstance(free_bits, Mapping) else free_bits
        self.step = 0
        self._counts: list[_Count] = []
        super().__init__(num_particles=num_particles)

    def __repr__(self) -> str:
        return f"ELBO(beta={describe(self.beta)}, free_bits={self.free_bits!r}, num_particles={self.num_particles})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ELBO) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self._settings())

    def __getstate__(self) -> dict[str, Any]:
        # counts belong to tensors of this process
        return {**self.__dict__, "step": 0, "_counts": []}

    def _settings(self) -> tuple[Any, ...]:
        free = tuple(sorted(self.free_bits.items())) if isinstance(self.free_bits, dict) else self.free_bits
        return type(self), self.beta, free, self.num_particles

    def at(self, step: int) -> "ELBO":
        """The objective as it stands at a step: beta is a number.

        Args:
            step: steps taken so far.
        """
        if not callable(self.beta):
            return self
        return ELBO(beta=float(self.beta(step)), free_bits=self.free_bits, num_particles=self.num_particles)

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters', and ``step`` moves on by one."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        if callable(self.beta):
            self._counts[0].step += 1
        self.step += 1
        return float(loss.detach())

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The loss, as a tensor to be differentiated."""
        with poutine.trace(param_only=True) as met:
            particles = [self._terms(*traces) for traces in self._get_traces(model, guide, args, kwargs)]
        if callable(self.beta):
            sites: list[Any] = [site for site in met.trace.nodes.values() if site["type"] == "param"]
            self._find([site["value"].unconstrained() for site in sites])
        beta = self.beta(self.step) if callable(self.beta) else self.beta
        loss = _mean([particle.reconstruction for particle in particles])
        for group in particles[0].kl:
            value = _mean([particle.kl[group] for particle in particles])
            rows = _mean([particle.rows[group] for particle in particles])
            loss = loss + beta * terms.penalised(value, rows, terms.free_bits_of(group, self.free_bits))
        return loss

    def _find(self, params: list[torch.Tensor]) -> None:
        """Go on with the count of these parameters, which then stands first; from zero where they are new."""
        known = [count for count in self._counts if count.is_alive()]
        own = next((count for count in known if count.is_of(params)), None)
        own = _Count([weakref.ref(param) for param in params] or None) if own is None else own
        self._counts = [own, *(count for count in known if count is not own)]
        self.step = own.step

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[poutine.Trace, poutine.Trace]:
        return checked(*draw_traces(model, guide, args, kwargs), self.max_plate_nesting)

    def _terms(self, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> Particle:
        p: dict[str, Any] = {name: site for name, site in model_trace.nodes.items() if site["type"] == "sample"}
        q: dict[str, Any] = {name: site for name, site in guide_trace.nodes.items() if site["type"] == "sample"}
        check_differentiable(p, q)
        zero = torch.zeros(())
        reconstruction = sum((-scaled_log_density(site).sum() for site in p.values() if site["is_observed"]), zero)
        shared = [name for name, site in p.items() if not site["is_observed"] and name in q]
        closed = terms.closed_form_sites(shared, [name for name in q if name in shared])
        group_of = terms.group_of(shared, [name for name in q if name not in shared])
        terms.check_groups(self.free_bits, group_of.values())
        kl = dict.fromkeys(group_of.values(), zero)
        rows: dict[str, Any] = dict.fromkeys(kl, 0.0)
        for name, group in group_of.items():
            if name in p and not p[name]["is_observed"]:
                kl[group] = kl[group] + divergence(p[name], q[name], closed=name in closed).sum()
                if terms.free_bits_of(group, self.free_bits):
                    rows[group] = max(rows[group], _rows(p[name]))
            else:
                kl[group] = kl[group] + scaled_log_density(q[name]).sum()
        return Particle(reconstruction, kl, rows)


def count_steps(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model itself: in Pyro the `ELBO` counts its own steps. It is here so that programs read alike in both.

    Args:
        model: the model.

    Returns:
        ``model``, unchanged.
    """
    return model


def _mean(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else sum(values[1:], values[0]) / len(values)


def _rows(site: Mapping[str, Any]) -> float:
    """How many rows a site has: the size of its batch shape, scaled and masked as its log density is."""
    rows = torch.ones(site["fn"].batch_shape, device="cpu")
    scale, mask = (value.cpu() if isinstance(value, torch.Tensor) else value for value in (site["scale"], site["mask"]))
    return float(scale_and_mask(rows, scale, mask).sum())
