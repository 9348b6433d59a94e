"""Effect handlers for Pyro: ``missing`` turns the missing entries of an observed site into latent variables."""

import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.subsample_messenger import SubsampleMessenger
from pyro.util import ignore_jit_warnings
from torch.distributions import biject_to, constraints

from deepgen.handlers import entries as rules
from deepgen.handlers.entries import Entries
from deepgen.handlers.sites.pyro import (
    MissingEntries,
    ObservedEntries,
    batch_shape_outside,
    block_axis,
    entry_constraint,
    independent,
    one_of_enumerated,
    restrict,
)


class MissingMessenger(Messenger):
    """The handler that :func:`missing` makes."""

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        observed: Mapping[str, Any] | None = None,
        latent: bool = True,
    ) -> None:
        super().__init__()
        self.entries = rules.split_all(_host(data), _host(observed))
        self.latent = latent
        self._tensors = {name: _tensor(data[name], entries) for name, entries in self.entries.items()} if data else {}
        self._met: list[str] = []

    def __enter__(self) -> "MissingMessenger":
        self._met = []
        super().__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        if exc_type is None and (names := set(self.entries) - set(self._met)):
            raise rules.unmet(names, self._met)

    @ignore_jit_warnings()
    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if not isinstance(msg["fn"], TorchDistributionMixin):
            return
        self._met.append(name)
        if name not in self.entries:
            return
        if msg["is_observed"] or msg["value"] is not None:
            raise rules.taken(name)
        entries = self.entries[name]
        outside = _outside(self, msg)
        plates = _plates(outside)
        fn = _expand(msg["fn"], plates)
        own = len(entries.shape) - fn.event_dim
        axes = {**dict.fromkeys(_enumerated(outside, msg, fn, own), 0), **plates}
        extra = len(rules.site_shape(name, entries.shape, tuple(fn.shape()), fn.event_dim, axes))
        lead = tuple(plates.get(i - extra - own, 1) for i in range(extra))
        entry = entry_constraint(fn.support)
        if entry is not None and not torch.jit.is_tracing():
            self._check_observed(name, entry)
        if entries.count == 0:
            value = self._cast(name, fn)
        elif self.latent:
            value = self._add_latent(name, fn, entry, lead)
        else:
            fn, value = self._sum_out(name, fn, entry, lead)
        msg["fn"], msg["value"], msg["is_observed"] = fn, value, True

    def _check_observed(self, name: str, entry: Any) -> None:
        valid = entry.check(self._tensors[name][0])
        rules.check_valid(name, self.entries[name], valid.detach().cpu().numpy(), entry)

    def _add_latent(self, name: str, fn: Any, entry: Any, lead: tuple[int, ...]) -> torch.Tensor:
        entries = self.entries[name]
        if fn.support.is_discrete:
            raise rules.discrete(name)
        if entry is None:
            raise rules.unsupported(name, fn.support)
        own = len(entries.shape) - fn.event_dim
        data, positions, _ = self._tensors[name]
        support = restrict(name, entry, entries, positions, batch_shape_outside(lead, own))
        latent = MissingEntries(fn, support, positions, lead, entries.shape)
        with _Trimmed(self):
            draws = pyro.sample(f"{name}_missing", latent)
        lead = rules.lead_of_draws(entries, tuple(draws.shape), own)
        return _scatter(data, positions, draws.reshape(lead + positions.shape), entries.shape)

    def _sum_out(self, name: str, fn: Any, entry: Any, lead: tuple[int, ...]) -> tuple[Any, torch.Tensor]:
        entries = self.entries[name]
        if not independent(fn):
            raise rules.dependent(name, type(fn).__name__)
        rules.check_blocks(name, entries, block_axis(fn))
        observed = self._tensors[name][2]
        with torch.no_grad():
            draw = one_of_enumerated(fn.sample(), lead, entries.shape)
            data = self._cast(name, fn)
            value = torch.where(observed, data, draw.to(data.dtype))
            fill = value
            if entry is not None and not entry.is_discrete and entry is not constraints.real:
                # a draw may round to the edge of its support, where densities and their gradients are infinite
                fill = biject_to(entry)(torch.zeros_like(value))
        return ObservedEntries(fn, observed, fill), value

    def _cast(self, name: str, fn: Any) -> torch.Tensor:
        data = self._tensors[name][0]
        if fn.support.is_discrete:
            with torch.no_grad():
                return data.to(fn.sample().dtype)
        return data if data.is_floating_point() else data.to(torch.get_default_dtype())


def missing(
    fn: Callable | None = None,
    data: Mapping[str, Any] | None = None,
    *,
    observed: Mapping[str, Any] | None = None,
    latent: bool = True,
) -> Any:
    r"""Observe data with missing entries: NaNs of a site become latent variables, or are summed out.

    With ``latent=True`` the model gains the latent site "<name>_missing", the m missing entries in row-major order, and
    the site itself is observed with these entries scattered in, so that the joint density is

    .. math:: p(\theta, x_\mathrm{missing}, x_\mathrm{observed}) = p(\theta)\, p(x\,|\,\theta)

    in all of the site: also inside of a joint event (a multivariate normal, a flow) and wherever the model reads x. It
    is a valid target for HMC, NUTS and SVI (the guide has a site "<name>_missing" of event shape (m,)). The new site
    stands outside of the site's plates.

    With ``latent=False`` there is no new site and the density is that of the observed elements alone: exact where the
    elements of the site are independent given the rest *and nothing in the model reads the site's value*. The value
    holds the data, its missing entries drawn from the site's distribution. The model is called without its data; one
    that is to take them with their holes, as a program's in a plain ``SVI``, is wrapped by `ObservedModel` instead.

    ``pyro.sample(..., obs_mask=...)`` is something else: it masks whole events, never elements within one, and its
    unobserved part is an auxiliary site drawn from the prior.

    The site "<name>_missing" has log density zero; what it samples (before inference, or in a prior predictive) is a
    draw of the missing entries from the site's distribution, given the observed ones only where all are independent. So
    it is no proposal: importance sampling needs a guide of its own.

    Args:
        fn: the model, or None for use as a decorator or ``with missing(data=...)``.
        data: site name -> data of exactly the site's shape; NaN (or a masked array's mask) means missing. A tensor
            keeps its dtype and device; other floats get torch's defaults.
        observed: site name -> booleans of the data's shape, for data of any dtype; False means missing.
        latent: whether missing entries become a latent site (continuous sites) or are summed out.

    Returns:
        The model with its data, or the handler if there is no ``fn``.

    Raises:
        ValueError: the data is not numeric, is infinite, outside of the support or not of the site's shape; the site
            has a value already, is discrete (``latent=True``), has a support that is not elementwise (``latent=True``)
            or a joint event (``latent=False``); or, at exit, the model has no such site.

    Reference:
        Little, Rubin, "Statistical Analysis with Missing Data", 2019, chapter 6 (ignorable missingness).

    >>> import pyro, pyro.distributions as dist, torch
    >>> def model():
    ...     return pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
    >>> sites = pyro.poutine.trace(missing(model, data={"x": torch.tensor([1.0, torch.nan])})).get_trace().nodes
    >>> tuple(sites["x_missing"]["value"].shape), float(sites["x"]["value"][0])
    ((1,), 1.0)
    """
    handler = MissingMessenger(data, observed=observed, latent=latent)
    return handler if fn is None else handler(fn)


def complete(data: Any, x_missing: Any, observed: Any = None) -> Any:
    """Scatter draws of the missing entries back into the data.

    Args:
        data: the data that ``missing`` was given, NaN where missing.
        x_missing: (..., m) draws of the site "<name>_missing".
        observed: booleans of the data's shape, if ``missing`` was given them.

    Returns:
        (..., *data.shape) completed data, a NumPy array for NumPy data, otherwise a tensor; observed entries bit for
        bit.

    Raises:
        ValueError: the data is not as ``missing`` needs it, or the draws are not (..., m).

    >>> complete(torch.tensor([[1.0, torch.nan], [torch.nan, 4.0]]), torch.tensor([2.0, 3.0])).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    entries = rules.split("data", _numpy(data), _numpy(observed))
    rules.check_draws(entries, tuple(np.shape(x_missing)))
    if isinstance(data, torch.Tensor):
        tensor, positions, _ = _tensor(data, entries)
        return _scatter(tensor, positions, torch.as_tensor(x_missing, device=data.device), entries.shape)
    draws = np.asarray(_numpy(x_missing))
    out = np.broadcast_to(entries.data.reshape(-1), (*draws.shape[:-1], entries.data.size)).copy()
    out[..., entries.positions] = draws
    return out.reshape(draws.shape[:-1] + entries.shape)


class _Trimmed:
    """The effect stack cut down to what stands outside of a handler, restored whatever happens."""

    def __init__(self, handler: Messenger) -> None:
        self._handler = handler
        self._inside: list[Any] = []

    def __enter__(self) -> None:
        index = _index(self._handler)
        self._inside = _PYRO_STACK[index:]
        del _PYRO_STACK[index:]

    def __exit__(self, *exception: Any) -> None:
        _PYRO_STACK.extend(self._inside)


def _index(handler: Messenger) -> int:
    return max(i for i, frame in enumerate(_PYRO_STACK) if frame is handler)


def _outside(handler: Messenger, msg: Any) -> list[Any]:
    """The handlers outside that will see the site once it is observed, as a block ends their row."""
    outside: list[Any] = []
    for frame in reversed(_PYRO_STACK[: _index(handler)]):
        if isinstance(frame, BlockMessenger) and frame.hide_fn({**msg, "is_observed": True}):
            break
        outside.append(frame)
    return outside


def _plates(outside: list[Any]) -> dict[int, int]:
    """The vectorised plates: dim -> size."""
    plates = [f for f in outside if isinstance(f, IndepMessenger)]
    sizes = [p.subsample_size if isinstance(p, SubsampleMessenger) else p.size for p in plates]
    return {p.dim: int(size) for p, size in zip(plates, sizes, strict=True) if p.dim is not None}


def _enumerated(outside: list[Any], msg: Any, fn: Any, own: int) -> list[int]:
    """The axes left of the site's own that enumeration may use: all that no plate inside of the handler uses."""
    if not any(isinstance(frame, EnumMessenger) for frame in outside):
        return []
    inside = {frame.dim for frame in msg["cond_indep_stack"]}
    return [dim for dim in range(-len(fn.batch_shape), -max(own, 0)) if dim not in inside]


def _numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def _host(data: Any) -> Any:
    return {name: _numpy(value) for name, value in data.items()} if isinstance(data, Mapping) else data


def _tensor(given: Any, entries: Entries) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Data, positions and observed on the data's device; floats that are no tensor get torch's default dtype."""
    device = given.device if isinstance(given, torch.Tensor) else torch.get_default_device()
    data = torch.as_tensor(entries.data, device=device)
    if not isinstance(given, torch.Tensor) and data.is_floating_point():
        data = data.to(torch.get_default_dtype())
    return data, torch.as_tensor(entries.positions, device=device), torch.as_tensor(entries.observed, device=device)


def _expand(fn: Any, plates: Mapping[int, int]) -> Any:
    """The distribution over the plates outside of the handler, so that its draws differ among them."""
    if not plates:
        return fn
    shape = tuple(plates.get(dim, 1) for dim in range(min(plates), 0))
    return fn.expand(torch.broadcast_shapes(shape, fn.batch_shape))


def _scatter(data: torch.Tensor, positions: torch.Tensor, draws: torch.Tensor, site: tuple[int, ...]) -> torch.Tensor:
    lead = draws.shape[:-1]
    dtype = torch.promote_types(data.dtype, draws.dtype)
    flat = data.reshape(-1).to(dtype).expand((*lead, math.prod(site)))
    return flat.index_copy(-1, positions, draws.to(dtype)).reshape((*lead, *site))
