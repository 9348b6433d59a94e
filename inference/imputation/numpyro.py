"""Posterior draws of missing variables in NumPyro."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import lax
from numpyro import handlers
from numpyro.infer import MCMC, NUTS

from deepgen import checks
from deepgen.handlers.entries import split
from deepgen.handlers.numpyro import complete, missing
from deepgen.inference.hmc import numpyro as hmc
from deepgen.inference.imputation import importance, methods, result
from deepgen.inference.likelihood.numpyro import log_weights
from deepgen.likelihoods.laws import is_missing
from deepgen.program import Program
from deepgen.program.numpyro import decode, log_joint

if TYPE_CHECKING:
    import arviz


def impute(
    rng_key: jax.Array,
    program: Program | Callable[..., Any],
    x: Any,
    *,
    observed: Any | None = None,
    method: str | None = None,
    num_samples: int | None = None,
    num_warmup: int | None = None,
    num_chains: int | None = None,
    num_steps: int | None = None,
    num_particles: int | None = None,
    columns: Sequence[str] | None = None,
    model_args: Sequence[Any] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> "arviz.InferenceData":
    r"""Draws from p(x_missing, latents | x_observed), every row's at once.

    ``method="mcmc"``: Hamiltonian Monte Carlo on :math:`p(z) \prod_{i\ \mathrm{observed}} p(x_i \mid z)` of each row,
    then :math:`x_\mathrm{missing} \sim p(x \mid z)`; asymptotically exact. ``method="sir"``: draws of z from the guide,
    resampled with Pareto-smoothed importance weights (Vehtari et al. 2024); exact as ``num_particles`` grows, and
    told by the Pareto k how far to trust it. ``method="nuts"``: for a plain NumPyro model, whose latents and missing
    entries are sampled together through the handler `missing`.

    Args:
        rng_key: the key.
        program: a program, or a plain model with a site ``"x"`` of the data's shape, called without x.
        x: (n, *event_shape), NaN where missing (negative integers for a categorical law, the mask of a masked array).
        observed: booleans of x's shape, where NaN cannot say it.
        method: ``"mcmc"`` or ``"sir"`` for a program (its first of ``imputers`` if None); ``"nuts"`` for a plain model.
        num_samples: draws of each chain.
        num_warmup: iterations of each chain before them (mcmc, nuts).
        num_chains: chains of each row (mcmc), or of the model (nuts).
        num_steps: the mean number of leapfrog steps of an iteration (mcmc).
        num_particles: proposals of each row (sir).
        columns: the names of a table's columns, for the result's coordinates.
        model_args: arguments of a plain model.
        model_kwargs: keyword arguments of a plain model.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        Groups ``posterior``: ``x`` (chain, draw, row, ...), completed, the observed entries bit for bit, and the
        latents; ``sample_stats``; ``observed_data``; ``constant_data``. The attrs say the method and its draws' law.

    Raises:
        ValueError: data that the program does not take, a method that it does not offer, an option that the method does
            not use.

    Warns:
        UserWarning: where the weights or chains of some rows are not to be trusted.
    """
    given = {
        "num_samples": num_samples,
        "num_warmup": num_warmup,
        "num_chains": num_chains,
        "num_steps": num_steps,
        "num_particles": num_particles,
    }
    original, mask = checks.with_mask(x, observed)
    if not isinstance(program, Program):
        _, options = methods.choose(method, ("nuts",), given)
        return _nuts(rng_key, program, original, mask, options, columns, model_args, model_kwargs or {}, progress)
    name, options = methods.choose(method, program.imputers, given)
    methods.refuse_model_arguments(model_args, model_kwargs)
    array = program.check_data(original, missing=True, observed=mask)
    result.event_dims(array.shape[1:], columns)
    seen = ~is_missing(array)
    way = {"mcmc": _mcmc, "sir": _sir}[name]
    draws, latents, stats, said = way(rng_key, program, jnp.asarray(array), jnp.asarray(seen), options, progress)
    return result.inference_data(
        original,
        seen,
        draws,
        latents,
        stats,
        method=name,
        engine="numpyro",
        options=options,
        columns=columns,
        attrs=said,
    )


class _Layout(eqx.Module):
    """How the latents of a row lie in one vector, and how they are constrained."""

    names: tuple[str, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    transforms: tuple[Any, ...]

    def flatten(self, latents: Mapping[str, jax.Array]) -> jax.Array:
        parts = [t.inv(latents[name]) for name, t in zip(self.names, self.transforms, strict=True)]
        return jnp.concatenate([part.reshape(len(part), -1) for part in parts], axis=-1)

    def unflatten(self, vector: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """The latents of (n, d), and the log determinant (n,) that the change of variables brings."""
        latents, log_det, start = {}, jnp.zeros(len(vector)), 0
        for name, shape, transform in zip(self.names, self.shapes, self.transforms, strict=True):
            size = int(np.prod(shape))
            free = vector[:, start : start + size].reshape(-1, *shape)
            latents[name] = transform(free)
            jacobian = transform.log_abs_det_jacobian(free, latents[name])
            log_det = log_det + jacobian.reshape(len(vector), -1).sum(-1)
            start += size
        return latents, log_det


def _layout(program: Any, x: jax.Array) -> _Layout:
    trace = handlers.trace(handlers.seed(program.guide, jax.random.key(0))).get_trace(x[:1])
    sites = [site for site in trace.values() if site["type"] == "sample"]
    names, shapes, transforms = [], [], []
    for site in sites:
        support = site["fn"].support
        methods.refuse_discrete(site["name"], support.is_discrete)
        transform = numpyro.distributions.biject_to(support)
        names.append(site["name"])
        shapes.append(tuple(transform.inverse_shape(site["value"].shape[1:])))
        transforms.append(transform)
    return _Layout(tuple(names), tuple(shapes), tuple(transforms))


class _Target(eqx.Module):
    """log p(x_observed, latents) of (chains, n, d), on the unconstrained space."""

    program: Any
    layout: _Layout
    x: jax.Array
    observed: jax.Array

    def __call__(self, position: jax.Array) -> jax.Array:
        def one(vector: jax.Array) -> jax.Array:
            latents, log_det = self.layout.unflatten(vector)
            return log_joint(self.program.model, latents, self.x, self.observed) + log_det

        return jax.vmap(one)(position)


class _Collect(eqx.Module):
    """What to keep of a draw: the data drawn given the latents, and the latents."""

    program: Any
    layout: _Layout

    def __call__(self, rng_key: jax.Array, position: jax.Array) -> dict[str, Any]:
        def one(key: jax.Array, vector: jax.Array) -> dict[str, Any]:
            latents, _ = self.layout.unflatten(vector)
            return {"x": decode(key, self.program.model, latents, len(vector)), "latents": latents}

        return jax.vmap(one)(jax.random.split(rng_key, len(position)), position)


@eqx.filter_jit
def _start(
    rng_key: jax.Array, program: Any, layout: _Layout, x: jax.Array, observed: jax.Array, num_chains: int
) -> jax.Array:
    """A start for each chain: one of some draws from the guide, chosen by its importance weight.

    Where the posterior has several modes a chain rarely crosses between them, so the starts must be spread over them.
    """

    def offer(best: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        key_draw, key_choose = jax.random.split(key)
        latents, weights = log_weights(key_draw, program, x, observed, num_chains)
        vector = jax.vmap(layout.flatten)(latents)
        score = weights + jax.random.gumbel(key_choose, weights.shape, weights.dtype)
        # the largest of weight times Gumbel noise is a draw by weight
        return (jnp.where((score > best[1])[..., None], vector, best[0]), jnp.maximum(score, best[1])), None

    dim = sum(int(np.prod(shape)) for shape in layout.shapes)
    none = jnp.zeros((num_chains, len(x), dim)), jnp.full((num_chains, len(x)), -jnp.inf)
    return lax.scan(offer, none, jax.random.split(rng_key, methods.STARTS))[0][0]


def _mcmc(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    key_start, key_run = jax.random.split(rng_key)
    layout = _layout(program, x)
    start = _start(key_start, program, layout, x, observed, options["num_chains"])
    draws, report = hmc.run(
        key_run,
        _Target(program, layout, jnp.where(observed, x, jnp.zeros((), x.dtype)), observed),
        start,
        num_warmup=options["num_warmup"],
        num_samples=options["num_samples"],
        num_steps=options["num_steps"],
        collect=_Collect(program, layout),
        progress=progress,
    )
    latents = {name: np.asarray(jnp.swapaxes(value, 0, 1)) for name, value in draws["latents"].items()}
    lp = np.asarray(jnp.swapaxes(-report.potential_energy, 0, 1))
    stats, said = result.chain_stats(
        lp,
        acceptance_rate=np.asarray(report.accept_prob),
        step_size=np.asarray(report.step_size),
        diverging=np.asarray(report.divergences),
    )
    return np.asarray(jnp.swapaxes(draws["x"], 0, 1)), latents, stats, said


def _sir(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    key_propose, key_resample, key_decode = jax.random.split(rng_key, 3)
    latents, weights = _propose(key_propose, program, x, observed, options["num_particles"])
    judged = importance.smooth(np.asarray(weights).T)
    uniforms = jax.random.uniform(key_resample, (len(x), options["num_samples"]))
    index = importance.resample(judged.weights, np.asarray(uniforms))
    chosen = jax.tree.map(lambda value: value[index.T, np.arange(len(x))], latents)
    draws = _decode(key_decode, program, chosen, len(x))
    stats, said = result.weight_stats(judged.ess, judged.pareto_k)
    return np.asarray(draws)[None], {name: np.asarray(v)[None] for name, v in chosen.items()}, stats, said


@eqx.filter_jit
def _propose(
    rng_key: jax.Array, program: Any, x: jax.Array, observed: jax.Array, num_particles: int
) -> tuple[dict[str, jax.Array], jax.Array]:
    chunk = 64

    def step(_: None, key: jax.Array) -> tuple[None, Any]:
        return None, log_weights(key, program, x, observed, chunk)

    _, found = lax.scan(step, None, jax.random.split(rng_key, -(-num_particles // chunk)))
    return jax.tree.map(lambda value: value.reshape(-1, *value.shape[2:])[:num_particles], found)


@eqx.filter_jit
def _decode(rng_key: jax.Array, program: Any, latents: Mapping[str, jax.Array], size: int) -> jax.Array:
    keys = jax.random.split(rng_key, len(next(iter(latents.values()))))
    return lax.map(lambda item: decode(item[0], program.model, item[1], size), (keys, dict(latents)))


def _nuts(
    rng_key: jax.Array,
    model: Callable[..., Any],
    x: np.ndarray,
    observed: np.ndarray | None,
    options: Mapping[str, int],
    columns: Sequence[str] | None,
    model_args: Sequence[Any],
    model_kwargs: Mapping[str, Any],
    progress: bool | None,
) -> "arviz.InferenceData":
    checks.data("x", x, x.shape[1:], missing=True, observed=observed)
    result.event_dims(x.shape[1:], columns)
    masks = None if observed is None else {"x": observed}
    kernel = NUTS(missing(model, data={"x": x}, observed=masks))
    mcmc = MCMC(
        kernel,
        num_warmup=options["num_warmup"],
        num_samples=options["num_samples"],
        num_chains=options["num_chains"],
        chain_method="vectorized",
        progress_bar=bool(progress),
    )
    mcmc.run(rng_key, *model_args, extra_fields=("potential_energy", "accept_prob", "diverging"), **model_kwargs)
    sites = {name: np.asarray(value) for name, value in mcmc.get_samples(group_by_chain=True).items()}
    entries = sites.pop("x_missing", np.zeros((options["num_chains"], options["num_samples"], 0), x.dtype))
    extra = {name: np.asarray(value) for name, value in mcmc.get_extra_fields(group_by_chain=True).items()}
    seen = split("x", x, observed).observed
    per_draw = ("chain", "draw")
    stats = {
        "lp": (per_draw, -extra["potential_energy"]),
        "acceptance_rate": (per_draw, extra["accept_prob"]),
        "diverging": (per_draw, extra["diverging"]),
    }
    return result.inference_data(
        x,
        seen,
        np.asarray(complete(x, entries, observed)),
        sites,
        stats,
        method="nuts",
        engine="numpyro",
        options=options,
        columns=columns,
        by_row=False,
    )
