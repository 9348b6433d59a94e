"""The evidence lower bound with a discrete latent summed out, as an objective of Pyro's own SVI."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pyro import infer, poutine
from pyro.poutine.messenger import Messenger

from deepgen.inference.svi import enumeration as terms
from deepgen.inference.svi.pyro.traces import checked, divergence, draw_traces, log_density, scaled_log_density


class EnumELBO(infer.ELBO):
    r"""The negative evidence lower bound, its expectation over one discrete latent of the guide taken by summation.

    .. math:: L = -\sum_i \sum_k q(k \mid x_i)\, E_{q(z \mid x_i, k)}\left[\log p(x_i, k, z) - \log q(k \mid x_i)
        - \log q(z \mid x_i, k)\right]

    The guide marks the latent by ``infer={"enumerate": "parallel"}``, inside its plates, as for Pyro's
    ``TraceEnum_ELBO``, whose loss this is in expectation; model and guide broadcast over the values, which come on a
    new axis at the left. It takes the KL of another latent in closed form where torch has it. All other latents have to
    be reparameterised, and every site of the model to stand in the plates of the latent.

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

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters'."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return float(loss.detach())

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The loss, as a tensor to be differentiated."""
        guide = partial(guide, alpha=self.alpha) if self.alpha else guide
        losses = [_loss(*traces) for traces in self._get_traces(model, guide, args, kwargs)]
        return sum(losses[1:], losses[0]) / len(losses)

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[poutine.Trace, poutine.Trace]:
        traces = draw_traces(model, guide, args, kwargs, _Enumerate())
        return checked(*traces, min(self.max_plate_nesting, max(map(_nesting, traces))))


class _Enumerate(Messenger):
    """Gives the marked site all its values at once, on a new axis at the left."""

    def _pyro_sample(self, msg: Any) -> None:
        if terms.is_marked(msg) and not msg["is_observed"]:
            msg["value"] = msg["fn"].enumerate_support(expand=False)
            msg["done"] = True


def _nesting(trace: poutine.Trace) -> int:
    """How many dimensions the plates take: to the left of them are the values."""
    stacks = [site["cond_indep_stack"] for site in trace.nodes.values() if site["type"] == "sample"]
    return max((-(frame.dim or 0) for stack in stacks for frame in stack if frame.vectorized), default=0)


def _loss(model_trace: poutine.Trace, guide_trace: poutine.Trace) -> torch.Tensor:
    traces = (model_trace, guide_trace)
    p, q = ({n: s for n, s in trace.nodes.items() if s["type"] == "sample"} for trace in traces)
    name = terms.marked_site(p, q)
    terms.check_others(p, q, name, "pyro.infer.TraceEnum_ELBO")
    weights = torch.exp(log_density(q[name]))
    gain = torch.zeros(())
    for site, other, closed in terms.pairs(p, q):
        value = _gain(site, other, closed)
        terms.check_shape((site or other)["name"], tuple(value.shape), tuple(weights.shape))
        gain = gain + value
    return -(weights * gain).sum()


def _gain(p: Any, q: Any, closed: bool) -> Any:
    """What a site adds to log p - log q, (values, rows): minus its KL where that has a closed form."""
    if p is None:
        return -scaled_log_density(q)
    return scaled_log_density(p) if q is None else -divergence(p, q, closed=closed)
