"""Effect handlers for NumPyro: ``missing`` turns the missing entries of an observed site into latent variables."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.distributions import biject_to, constraints
from numpyro.primitives import _PYRO_STACK, Messenger

from deepgen.checks import problem
from deepgen.handlers import entries as rules
from deepgen.handlers.entries import Entries
from deepgen.handlers.sites.numpyro import (
    MissingEntries,
    ObservedEntries,
    block_axis,
    entry_constraint,
    independent,
    restrict,
)


class missing(Messenger):
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

    ``numpyro.sample(..., obs_mask=...)`` is something else: it masks whole events, never elements within one, and its
    unobserved part is drawn from the prior as an auxiliary site, which its documentation calls unfit for MCMC.

    The site "<name>_missing" has log density zero; what it samples (before inference, or in a prior predictive) is a
    draw of the missing entries from the site's distribution, given the observed ones only where all are independent. So
    it is no proposal: importance sampling needs a guide of its own.

    Args:
        fn: the model, or None for use as a decorator or ``with missing(data=...)``.
        data: site name -> data of exactly the site's shape; NaN (or a masked array's mask) means missing.
        observed: site name -> booleans of the data's shape, for data of any dtype; False means missing.
        latent: whether missing entries become a latent site (continuous sites) or are summed out.

    Raises:
        ValueError: the data is not numeric, is infinite, traced, outside of the support or not of the site's shape; the
            site has a value already, is discrete (``latent=True``), has a support that is not elementwise
            (``latent=True``) or a joint event (``latent=False``); or, at exit, the model has no such site.

    Reference:
        Little, Rubin, "Statistical Analysis with Missing Data", 2019, chapter 6 (ignorable missingness).

    >>> import jax.numpy as jnp, numpy as np, numpyro, numpyro.distributions as dist
    >>> from numpyro.handlers import seed, trace
    >>> def model():
    ...     return numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)))
    >>> sites = trace(seed(missing(model, data={"x": np.array([1.0, np.nan])}), 0)).get_trace()
    >>> sites["x_missing"]["value"].shape, float(sites["x"]["value"][0])
    ((1,), 1.0)
    """

    def __init__(
        self,
        fn: Callable | None = None,
        data: Mapping[str, Any] | None = None,
        *,
        observed: Mapping[str, Any] | None = None,
        latent: bool = True,
    ) -> None:
        for given in (data, observed):
            for name, value in given.items() if isinstance(given, Mapping) else ():
                _concrete(f"data or observed of {name!r}", value)
        self.entries = rules.split_all(data, observed)
        self.latent = latent
        self._met: list[str] = []
        super().__init__(fn)

    def __enter__(self) -> "missing":
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

    def process_message(self, msg: Any) -> None:
        """Observe the sites that data was given for."""
        if msg["type"] != "sample":
            return
        name = msg["name"]
        self._met.append(name)
        if name not in self.entries:
            return
        if msg.get("_control_flow_done", False):
            raise problem(
                f"site {name!r}",
                got="a site inside of scan or cond",
                expected="a site outside of control flow",
                fix="Write the loop as a Python loop or as one joint distribution.",
            )
        if msg["is_observed"] or msg["value"] is not None:
            raise rules.taken(name)
        entries = self.entries[name]
        fn = msg["fn"]
        if sample_shape := msg["kwargs"].get("sample_shape", ()):
            fn = fn.expand(tuple(sample_shape) + fn.batch_shape)
            msg["kwargs"]["sample_shape"] = ()
        plates = _plates(self, msg)
        fn = _expand(fn, plates)
        lead = rules.site_shape(name, entries.shape, fn.shape(), fn.event_dim, plates)
        entry = entry_constraint(fn.support)
        if entry is not None:
            _check_observed(name, entries, entry)
        if entries.count == 0:
            value = _cast(entries.data, fn)
        elif self.latent:
            value = self._add_latent(name, fn, entry, lead, msg["kwargs"].get("rng_key"))
        else:
            fn, value = self._sum_out(name, fn, entry, msg["kwargs"].get("rng_key"))
        msg["fn"], msg["value"], msg["is_observed"] = fn, value, True

    def _add_latent(self, name: str, fn: Any, entry: Any, lead: tuple[int, ...], key: Any) -> Any:
        entries = self.entries[name]
        if fn.support is not None and fn.support.is_discrete:
            raise rules.discrete(name)
        if entry is None:
            raise rules.unsupported(name, fn.support)
        own = len(entries.shape) - fn.event_dim
        batch_shape = lead + (1,) * own if lead else ()
        support = restrict(entry, entries, batch_shape)
        latent = MissingEntries(fn, support, entries.positions, batch_shape, entries.shape)
        with _Trimmed(self):
            draws = numpyro.sample(f"{name}_missing", latent, rng_key=key)
        lead = rules.lead_of_draws(entries, jnp.shape(draws), own)
        return _scatter(entries, jnp.reshape(draws, (*lead, entries.count)))

    def _sum_out(self, name: str, fn: Any, entry: Any, key: Any) -> tuple[Any, Any]:
        entries = self.entries[name]
        if not independent(fn):
            raise rules.dependent(name, type(fn).__name__)
        rules.check_blocks(name, entries, block_axis(fn))
        with _Trimmed(self):
            if key is None and _PYRO_STACK:
                key = numpyro.prng_key()
        draw = jax.lax.stop_gradient(fn.sample(jax.random.key(0) if key is None else key))
        data = _cast(entries.data, fn)
        value = jnp.where(entries.observed, data, draw.astype(data.dtype))
        fill = value
        if entry is not None and not entry.is_discrete and entry is not constraints.real:
            # a draw may round to the edge of its support, where densities and their gradients are infinite
            fill = jax.lax.stop_gradient(biject_to(entry)(jnp.zeros(value.shape, value.dtype)))
        return ObservedEntries(fn, entries.observed, fill), value


def complete(data: Any, x_missing: Any, observed: Any = None) -> Any:
    """Scatter draws of the missing entries back into the data.

    Args:
        data: the data that ``missing`` was given, NaN where missing.
        x_missing: (..., m) draws of the site "<name>_missing".
        observed: booleans of the data's shape, if ``missing`` was given them.

    Returns:
        (..., *data.shape) completed data, a NumPy array for NumPy data (and draws that are not traced), otherwise a jax
        array; observed entries bit for bit.

    Raises:
        ValueError: the data is not as ``missing`` needs it, or the draws are not (..., m).

    >>> complete(np.array([[1.0, np.nan], [np.nan, 4.0]]), np.array([2.0, 3.0])).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    _concrete("data", data)
    entries = rules.split("data", data, observed)
    rules.check_draws(entries, jnp.shape(x_missing))
    if isinstance(data, jax.Array) or isinstance(x_missing, jax.core.Tracer):
        return _scatter(entries, x_missing)
    draws = np.asarray(x_missing)
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


def _plates(handler: Messenger, msg: Any) -> dict[int, int]:
    """The plates outside that will see the site once it is observed, as a block ends their row: dim -> size."""
    plates: dict[int, int] = {}
    for frame in reversed(_PYRO_STACK[: _index(handler)]):
        if isinstance(frame, numpyro.handlers.block) and frame.hide_fn({**msg, "is_observed": True}):
            break
        if isinstance(frame, numpyro.plate):
            plates[frame.dim] = frame.subsample_size
    return plates


def _concrete(what: str, value: Any) -> None:
    if isinstance(value, jax.core.Tracer):
        raise problem(
            what,
            got="a traced array",
            expected="concrete numbers: the number and the places of the missing entries are shapes",
            fix="Make missing outside of jit, vmap and grad, around concrete data that they close over.",
        )


def _expand(fn: Any, plates: Mapping[int, int]) -> Any:
    """The distribution over the plates outside of the handler, so that its draws differ among them."""
    if not plates:
        return fn
    shape = tuple(plates.get(dim, 1) for dim in range(min(plates), 0))
    return fn.expand(jnp.broadcast_shapes(shape, fn.batch_shape))


def _check_observed(name: str, entries: Entries, entry: Any) -> None:
    if not any(isinstance(bound, jax.core.Tracer) for bound in jax.tree.leaves(entry)):
        rules.check_valid(name, entries, np.asarray(entry(entries.data)), entry)


def _cast(data: np.ndarray, fn: Any) -> Any:
    if fn.support is not None and fn.support.is_discrete:
        return jnp.asarray(data, jax.eval_shape(lambda key: fn.sample(key), jax.random.key(0)).dtype)
    return jnp.asarray(data) if data.dtype.kind == "f" else jnp.asarray(data, jnp.result_type(float))


def _scatter(entries: Entries, draws: Any) -> Any:
    draws = jnp.asarray(draws)
    flat = jnp.asarray(entries.data).reshape(-1)
    flat = flat.astype(jnp.promote_types(flat.dtype, draws.dtype))
    flat = jnp.broadcast_to(flat, draws.shape[:-1] + flat.shape)
    return flat.at[..., entries.positions].set(draws).reshape(draws.shape[:-1] + entries.shape)
