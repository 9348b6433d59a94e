"""Spaces in NumPyro: how a chain starts, what its potential is, and what its states mean to the user."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree
from numpyro import handlers
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.util import initialize_model, log_density, potential_energy
from numpyro.util import is_prng_key

from deepgen.inference.langevin.space import refusals

__all__ = ["Functions", "Reals", "States"]

Potential = Callable[[Array, PyTree], Array]


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
        potential_fn: Callable[[PyTree], Array] | None,
        score_fn: Callable[[PyTree], PyTree] | None = None,
        *,
        one_hot: bool = False,
    ) -> None:
        self.potential_fn, self.score_fn, self.one_hot = potential_fn, score_fn, one_hot
        self.categories = 0

    def start(self, rng_key: Array, params: PyTree, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PyTree:
        """What the user gave."""
        refusals.init_params(params)
        if self.one_hot:
            first = 0 if is_prng_key(rng_key) else 1
            self.categories = refusals.one_length([jnp.shape(leaf)[first:] for leaf in jax.tree.leaves(params)])
        return params

    def potential(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Potential | None:
        """(key, state) -> nats; the key is not used."""
        return None if self.potential_fn is None else lambda rng_key, z: self.potential_fn(z)  # type: ignore[misc]

    def constrain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[PyTree], PyTree]:
        """States are values."""
        return lambda z: z


class Reals:
    """The latents of a model, each through ``biject_to`` of its support.

    Args:
        model: a NumPyro model.
        init_strategy: how to start; None is ``init_to_uniform``.
        subsamples: whether the model may draw mini-batches, a new one for each evaluation.
    """

    score_fn = None
    categories = 0

    def __init__(self, model: Callable[..., Any], init_strategy: Any = None, *, subsamples: bool = False) -> None:
        self.model, self.subsamples = model, subsamples
        self.init_strategy = init_to_uniform if init_strategy is None else init_strategy
        self._info: Any = None
        self._starts = eqx.filter_jit(self._find_starts)

    def start(self, rng_key: Array, params: PyTree, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PyTree:
        """What the user gave in unconstrained space, else a valid start of ``init_strategy``, for each key."""
        one = rng_key if is_prng_key(rng_key) else rng_key[0]

        def look(rng_key: Array) -> None:
            trace = _traced(self.model, rng_key, args, kwargs, _anywhere)
            latents = [(name, site["fn"].support.is_discrete) for name, site in trace.items() if _latent(site)]
            refusals.real_latents(latents)
            if not self.subsamples:
                refusals.no_subsample([name for name, site in trace.items() if _subsamples(site)])

        # the sites alone are of interest, and values may be dear: a draw by a score solves an equation
        jax.eval_shape(look, one)
        searching = params is None and is_prng_key(rng_key)
        self._info = self._initialized(one, args, kwargs, searching=searching)
        if params is not None:
            return params
        return self._info.param_info.z if searching else self._starts(rng_key, args, dict(kwargs))

    def potential(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Potential:
        """(key, state) -> nats; the key draws the mini-batch."""
        if not self.subsamples:
            fixed = self._info.potential_fn(*args, **kwargs)
            return lambda rng_key, z: fixed(z)
        return lambda rng_key, z: potential_energy(handlers.seed(self.model, rng_key), args, kwargs, z)

    def constrain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[PyTree], PyTree]:
        """Unconstrained values -> values of the sites, and of deterministic ones."""
        return self._info.postprocess_fn(*args, **kwargs)

    def _initialized(
        self, rng_key: Array, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, searching: bool = True
    ) -> Any:
        return initialize_model(
            rng_key,
            self.model,
            init_strategy=self.init_strategy,
            dynamic_args=True,
            model_args=args,
            model_kwargs=dict(kwargs),
            # where no start is looked for, a gradient piece by piece would be most of the time that this takes
            validate_grad=searching,
        )

    def _find_starts(self, rng_keys: Array, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PyTree:
        return self._initialized(rng_keys, args, kwargs).param_info.z


class States:
    """The discrete latents of a model, bits or one-hot rows, as floating zeros and ones.

    The model's density is evaluated, and its gradient taken, at floating values: any extension of it to the reals will
    do, since only its values at the states are accepted by.

    Args:
        model: a NumPyro model.
    """

    score_fn = None

    def __init__(self, model: Callable[..., Any]) -> None:
        self.model = model
        self.categories = 0
        self._dtypes: dict[str, Any] = {}
        self._starts = eqx.filter_jit(self._drawn)

    def start(self, rng_key: Array, params: PyTree, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PyTree:
        """What the user gave, else a draw from the prior, or of fair coins where it has no draws, for each key."""
        one = rng_key if is_prng_key(rng_key) else rng_key[0]
        trace = _traced(self.model, one, args, kwargs)
        latents = {name: site for name, site in trace.items() if _latent(site)}
        found = [(name, site["fn"].support.is_discrete, _size(site["fn"])) for name, site in latents.items()]
        size = refusals.discrete_latents(found)
        self.categories = size if size > 1 else 0
        self._dtypes = {name: jnp.asarray(site["value"]).dtype for name, site in latents.items()}
        if params is not None:
            return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), params)
        return self._starts(rng_key, args, dict(kwargs))

    def potential(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Potential:
        """(key, state) -> nats."""

        def of(rng_key: Array, z: PyTree) -> Array:
            with numpyro.validation_enabled(False):
                return -log_density(handlers.seed(self.model, rng_key), args, dict(kwargs), z)[0]

        return of

    def constrain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[PyTree], PyTree]:
        """Floating states -> values of the sites as the model draws them, and of deterministic ones."""

        def values(z: PyTree) -> PyTree:
            data = {name: value.astype(self._dtypes[name]) for name, value in z.items()}
            model = handlers.seed(handlers.substitute(self.model, data), 0)
            trace = handlers.trace(model).get_trace(*args, **kwargs)
            derived = {name: site["value"] for name, site in trace.items() if site["type"] == "deterministic"}
            return data | derived

        return values

    def _drawn(self, rng_key: Array, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PyTree:
        def one(rng_key: Array) -> PyTree:
            trace = _traced(self.model, rng_key, args, kwargs)
            values = {name: site["value"] for name, site in trace.items() if _latent(site)}
            return {name: value.astype(jnp.result_type(float)) for name, value in values.items()}

        return one(rng_key) if is_prng_key(rng_key) else jax.vmap(one)(rng_key)


def flatten(z: PyTree, categories: int) -> tuple[Array, Callable[[Array], PyTree]]:
    """A state of one chain as (d,), or as (d, k) one-hot rows, and the way back.

    Args:
        z: arrays; with categories, each (..., k).
        categories: k, or 0 for anything else.

    Returns:
        The flat state, and a function from such to states.
    """
    flat, unravel = ravel_pytree(z)
    if categories:
        return flat.reshape(-1, categories), lambda x: unravel(x.reshape(-1))
    return flat, unravel


def _traced(
    model: Callable[..., Any],
    rng_key: Array,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    start: Callable[[Mapping[str, Any]], Any] | None = None,
) -> Any:
    started = handlers.substitute(handlers.seed(model, rng_key), substitute_fn=start or _start)
    return handlers.trace(started).get_trace(*args, **kwargs)


def _anywhere(site: Mapping[str, Any]) -> Array | None:
    """A value in the support of a real latent, without a draw of its law; of others as `_start`."""
    if not _latent(site) or site["value"] is not None:
        return None
    value: Array | None = _start(site) if site["fn"].support.is_discrete else init_to_uniform(site)
    return value


def _start(site: Mapping[str, Any]) -> Array | None:
    """A value for a latent whose law has a density but no draws; None where it draws by itself."""
    if not _latent(site) or site["value"] is not None:
        return None
    law, rng_key = site["fn"], site["kwargs"]["rng_key"]
    try:
        jax.eval_shape(lambda key: law.sample(key), rng_key)
        return None
    except NotImplementedError:
        if not law.support.is_discrete:
            return init_to_uniform(site)
        return jax.random.bernoulli(rng_key, 0.5, law.shape()).astype(jnp.result_type(float))


def _latent(site: Mapping[str, Any]) -> bool:
    return site["type"] == "sample" and not site["is_observed"]


def _subsamples(site: Mapping[str, Any]) -> bool:
    return site["type"] == "plate" and site["args"][1] is not None and site["args"][1] < site["args"][0]


def _size(law: Any) -> int:
    if law.support is dist.constraints.boolean or _base(law.support) is dist.constraints.boolean:
        return 1
    while isinstance(law, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        law = law.base_dist
    one_hot = isinstance(law, dist.MultinomialProbs | dist.MultinomialLogits) and not isinstance(law.total_count, Array)
    return law.event_shape[-1] if one_hot and law.total_count == 1 else 0


def _base(support: Any) -> Any:
    return getattr(support, "base_constraint", support)
