"""Spaces in Pyro: how chains start, what their potential is, and what their states mean to the user."""

from collections.abc import Callable, Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.transforms import biject_to
from pyro.infer.autoguide.initialization import InitMessenger, init_to_uniform
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

from deepgen.inference.langevin.space import refusals

__all__ = ["Functions", "Reals", "States"]

TRIES = 100
"""How often a start at which energy and gradient are finite is looked for."""

State = dict[str, Tensor]
Potential = Callable[[State], Tensor]


class Functions:
    """The arguments of a potential function: a chain starts where the user says.

    Args:
        potential_fn: state -> () nats, minus the log density of one chain.
        score_fn: state -> the gradient of the log density of one chain, or None.
        one_hot: whether the last axis of each array of a state is a one-hot row.
    """

    model = None

    def __init__(
        self,
        potential_fn: Callable[[State], Tensor] | None,
        score_fn: Callable[[State], State] | None = None,
        *,
        one_hot: bool = False,
    ) -> None:
        self.potential_fn, self.score_fn, self.one_hot = potential_fn, score_fn, one_hot
        self.categories = 0
        self.transforms: dict[str, Any] = {}

    def start(self, num_chains: int, params: State | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> State:
        """What the user gave, with an axis of chains."""
        refusals.init_params(params)
        assert params is not None
        if self.one_hot:
            self.categories = refusals.one_length([tuple(value.shape[1:]) for value in params.values()])
        return params

    def potential(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Potential | None:
        """State -> nats."""
        return self.potential_fn

    def constrain(self, z: State, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> State:
        """States are values."""
        return z


class Reals:
    """The latents of a model, each through ``biject_to`` of its support.

    Args:
        model: a Pyro model.
        init_strategy: how to start; None is ``init_to_uniform``, also for laws that have a density but no draws.
        subsamples: whether the model may draw mini-batches, a new one for each evaluation.
    """

    score_fn = None
    categories = 0

    def __init__(self, model: Callable[..., Any], init_strategy: Any = None, *, subsamples: bool = False) -> None:
        self.model, self.subsamples = model, subsamples
        self.init_strategy = _uniform if init_strategy is None else init_strategy
        self.transforms: dict[str, Any] = {}

    def start(self, num_chains: int, params: State | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> State:
        """What the user gave in unconstrained space, else a valid start of ``init_strategy`` for each chain."""
        trace = _traced(self.model, args, kwargs)
        refusals.real_latents([(name, site["fn"].support.is_discrete) for name, site in _latents(trace).items()])
        if not self.subsamples:
            refusals.no_subsample([name for name, site in trace.nodes.items() if _subsamples(site)])
        sites = self._sites(args, kwargs)
        self.transforms = {name: biject_to(site["fn"].support).inv for name, site in sites.items()}
        if params is not None:
            return params
        potential, found = self.potential(args, kwargs), []
        for _ in range(num_chains * TRIES):
            z = {name: self.transforms[name](site["value"].detach()) for name, site in sites.items()}
            leaves = {name: value.detach().requires_grad_() for name, value in z.items()}
            energy = potential(leaves)
            gradients = torch.autograd.grad(energy, list(leaves.values()))
            if all(torch.isfinite(x).all() for x in (energy, *gradients)):
                found.append({name: value.detach() for name, value in z.items()})
            if len(found) == num_chains:
                break
            sites = self._sites(args, kwargs)
        refusals.found_start(len(found), num_chains)
        return {name: torch.stack([z[name] for z in found]) for name in found[0]}

    def potential(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Potential:
        """State -> nats; each call draws the mini-batch anew."""

        def of(z: State) -> Tensor:
            values = {name: self.transforms[name].inv(value) for name, value in z.items()}
            trace = poutine.trace(poutine.condition(self.model, values)).get_trace(*args, **kwargs)
            energy = -torch.as_tensor(trace.log_prob_sum())
            for name, value in z.items():
                # the transform takes values to unconstrained space
                energy = energy + self.transforms[name].log_abs_det_jacobian(values[name], value).sum()
            return energy

        return of

    def constrain(self, z: State, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> State:
        """Unconstrained values -> values of the sites."""
        return {name: self.transforms[name].inv(value) for name, value in z.items()}

    def _sites(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        model = InitMessenger(self.init_strategy)(self.model)
        return _latents(poutine.trace(model).get_trace(*args, **kwargs))


class States:
    """The discrete latents of a model, bits or one-hot rows, as floating zeros and ones.

    The model's density is evaluated, and its gradient taken, at floating values: any extension of it to the reals will
    do, since only its values at the states are accepted by.

    Args:
        model: a Pyro model.
    """

    score_fn = None

    def __init__(self, model: Callable[..., Any]) -> None:
        self.model = model
        self.categories = 0
        self.transforms: dict[str, Any] = {}

    def start(self, num_chains: int, params: State | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> State:
        """What the user gave, else a draw from the prior, or of fair coins where it has no draws, for each chain."""
        traces = [_traced(self.model, args, kwargs) for _ in range(num_chains)]
        sites = _latents(traces[0])
        found = [(name, site["fn"].support.is_discrete, _size(site["fn"])) for name, site in sites.items()]
        size = refusals.discrete_latents(found)
        self.categories = size if size > 1 else 0
        if params is not None:
            return params
        drawn = [_latents(trace) for trace in traces]
        return {name: torch.stack([site[name]["value"].detach() for site in drawn]) for name in sites}

    def potential(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Potential:
        """State -> nats."""

        def of(z: State) -> Tensor:
            extended = poutine.condition(_Extended()(self.model), z)
            trace = poutine.trace(extended).get_trace(*args, **kwargs)
            return -torch.as_tensor(trace.log_prob_sum())

        return of

    def constrain(self, z: State, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> State:
        """Floating states are what Pyro's discrete sites are."""
        return z


class Layout:
    """The states of several chains, a dictionary of (chains, ...), as (chains, d), or (chains, d, k) one-hot rows.

    Args:
        params: a state of each chain.
        categories: k, or 0 for anything else.
    """

    def __init__(self, params: State, categories: int) -> None:
        self.shapes = {name: tuple(value.shape[1:]) for name, value in params.items()}
        self.tail = (categories,) if categories else ()

    def flatten(self, z: State) -> Tensor:
        """(chains, d) or (chains, d, k)."""
        return torch.cat([z[name].reshape(len(z[name]), -1, *self.tail) for name in self.shapes], dim=1)

    def unflatten(self, flat: Tensor) -> State:
        """A dictionary of (chains, ...)."""
        k, found, place = max(sum(self.tail), 1), {}, 0
        for name, shape in self.shapes.items():
            size = torch.Size(shape).numel() // k
            found[name] = flat[:, place : place + size].reshape(len(flat), *shape)
            place += size
        return found

    def one(self, flat: Tensor) -> State:
        """A dictionary of the state of one chain, from (d,) or (d, k)."""
        return {name: value[0] for name, value in self.unflatten(flat[None]).items()}


class _Extended(Messenger):
    """Latents of one-hot rows with the same density as a product with the row, for any real value of it."""

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["fn"] = _extended(msg["fn"])


class _Product(dist.OneHotCategorical):
    def log_prob(self, value: Tensor) -> Tensor:
        # what is impossible is very improbable: minus infinity times zero is not zero
        return (value * self.logits.clamp(min=torch.finfo(value.dtype).min)).sum(-1)


def _extended(law: Any) -> Any:
    if isinstance(law, dist.Independent):
        return dist.Independent(_extended(law.base_dist), law.reinterpreted_batch_ndims)
    if isinstance(law, dist.torch_distribution.MaskedDistribution):
        return _extended(law.base_dist).mask(law._mask)
    return _Product(logits=law.logits) if _one_hot(law) else law


def _one_hot(law: Any) -> bool:
    return isinstance(law, dist.OneHotCategorical) or (isinstance(law, dist.Multinomial) and law.total_count == 1)


def _traced(model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return poutine.trace(InitMessenger(_start)(model)).get_trace(*args, **kwargs)


def _start(site: Any) -> Tensor:
    """A draw, or another value in the support of a law that has a density but no draws."""
    law = site["fn"]
    try:
        return law.sample()
    except NotImplementedError:
        if not law.support.is_discrete:
            return _uniform(site)
        like = _numbers(law)
        return torch.randint(2, law.shape(), dtype=like.dtype, device=like.device)


def _uniform(site: Any) -> Tensor:
    """As ``init_to_uniform``, which asks the law for a draw to know its shape."""
    try:
        return init_to_uniform(site)
    except NotImplementedError:
        transform, like = biject_to(site["fn"].support), _numbers(site["fn"])
        shape = transform.inverse_shape(site["fn"].shape())
        return transform(4 * torch.rand(shape, dtype=like.dtype, device=like.device) - 2)


def _numbers(law: Any) -> Tensor:
    """A floating tensor of those that make a law, or a law or a module within it, for its dtype and device."""
    within = [law]
    for part in within:
        if isinstance(part, Tensor):
            if part.is_floating_point():
                return part
        elif isinstance(part, torch.nn.Module):
            within += [*part.parameters(), *part.buffers()]
        elif isinstance(part, torch.distributions.Distribution):
            within += vars(part).values()
    return torch.empty(0)


def _latents(trace: Any) -> dict[str, Any]:
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and not isinstance(site["fn"], _Subsample)
    }


def _subsamples(site: Mapping[str, Any]) -> bool:
    law = site.get("fn")
    return isinstance(law, _Subsample) and law.subsample_size is not None and law.subsample_size < law.size


def _size(law: Any) -> int:
    support = law.support
    while isinstance(support, dist.constraints.independent):
        support = support.base_constraint
    if support is dist.constraints.boolean:
        return 1
    while isinstance(law, dist.Independent | dist.torch_distribution.MaskedDistribution):
        law = law.base_dist
    return law.event_shape[-1] if _one_hot(law) else 0
