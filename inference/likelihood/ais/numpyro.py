"""Annealed importance sampling in NumPyro: all chains and rows in one compiled loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro import handlers
from tqdm import tqdm

from deepgen import checks
from deepgen.inference.hmc import numpyro as hmc
from deepgen.inference.likelihood.ais import annealing, bounds
from deepgen.inference.likelihood.ais.bounds import Bracket
from deepgen.likelihoods.laws import is_missing
from deepgen.program import LogProb, Program, check_program, takes_labels
from deepgen.program.latents import numpyro as latents
from deepgen.program.numpyro import log_densities, log_joint, propose

__all__ = ["Bracket", "ais", "bdmc"]

CHUNKS = 50
"""How often a progress bar moves for a batch of rows."""


def ais(
    rng_key: jax.Array,
    program: Program,
    x: Any,
    *,
    y: Any = None,
    num_chains: int = 16,
    num_temperatures: int = 500,
    num_steps: int = 10,
    start: str = "prior",
    progress: bool | None = None,
) -> LogProb:
    r"""log p(x) of each row by annealed importance sampling, with its Monte Carlo standard error.

    Chains go from a start :math:`q_0` (the prior of the latents, or the guide) to the posterior through
    :math:`f_t = q_0^{1 - \beta_t} p(x, \cdot)^{\beta_t}`, with Hamiltonian transitions :math:`T_t` that keep
    :math:`f_t`:

    .. math:: \log \frac1K \sum_k w_k, \quad
        w = \prod_{t=1}^{T} \left(\frac{p(x, z_{t-1})}{q_0(z_{t-1})}\right)^{\beta_t - \beta_{t-1}},
        \quad z_0 \sim q_0,\ z_t \sim T_t(\cdot \mid z_{t-1})

    with sigmoid temperatures. Each weight is unbiased for p(x); its logarithm is therefore in expectation a lower bound
    of log p(x), which it reaches as K or T grows. Missing entries are integrated out: the value is then that of
    log p(x_observed). Of a program with classes, whose labels ``y`` are all known, it is that of log p(x | y).

    From the prior, normal latents are moved as the standard normal noise that the model shifts and scales, so that one
    step size serves levels whose scales are far apart; from the guide, latents are moved as they are.

    The step sizes, one for each row and temperature, are found by a pilot run of the same length, which adapts them
    from temperature to temperature towards an acceptance of 0.65, and are fixed in a second run with noise of its own:
    only the second run counts, and it is unbiased whatever the pilot found. The cost of a row is about
    ``2 num_chains num_temperatures (num_steps + 1)`` gradients.

    The standard error comes from the weights themselves: where few of them dominate it is too small. `bdmc` tells how
    far to trust the setting.

    Args:
        rng_key: the key.
        program: a program with continuous latents.
        x: (n, *event_shape), NaN (negative integers) where missing.
        y: (n,) labels of the rows, or one for all, of a program with classes, which needs them.
        num_chains: K, chains of each row.
        num_temperatures: T, the number of steps from the start to the posterior.
        num_steps: the mean number of leapfrog steps of a transition.
        start: ``"prior"`` or ``"guide"``; the guide must reach wherever the posterior does.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        Value, standard error and the kind ``"estimate"``.

    Warns:
        UserWarning: where single chains outweigh all others in most rows, see `bounds.judged`.

    Raises:
        TypeError: no key, or no program where there should be one.
        ValueError: data or labels that the program does not take, labels of which some are unknown, a program without
            latents, with discrete ones or with a law of which entries are observed, or an argument out of range.

    References:
        Neal, "Annealed importance sampling" (2001); Wu, Burda, Salakhutdinov and Grosse, "On the quantitative analysis
        of decoder-based generative models" (2017).
    """
    checks.random_key(rng_key)
    check_program(program)
    bounds.check_run(num_chains, num_temperatures, num_steps, start)
    bounds.check_program(program)
    array = program.check_data(x, missing=True)
    labels = None if y is None else bounds.check_known(takes_labels(program).check_labels(y, len(array)))
    missing = is_missing(array)
    settings = _Settings(num_chains, num_temperatures, num_steps, start)
    seen = ~missing if missing.any() else None
    (forward,) = _anneal(rng_key, program, array, seen, labels, None, settings, progress)
    return LogProb(*bounds.judged(forward, start), "estimate")


def bdmc(
    rng_key: jax.Array,
    program: Program,
    num_rows: int,
    *,
    y: Any = None,
    num_chains: int = 16,
    num_temperatures: int = 500,
    num_steps: int = 10,
    start: str = "prior",
    progress: bool | None = None,
) -> Bracket:
    r"""Bounds of the model's mean log p(x) from both sides, on rows that it draws itself: bidirectional Monte Carlo.

    With (z, x) drawn from the model, z is an exact posterior draw of x. Annealed chains from the start give a lower
    bound of log p(x) in expectation (see `ais`), chains from z back to the start an upper bound,

    .. math:: \log \frac1K \sum_k w_k \;\lesssim\; \log p(x) \;\lesssim\; -\log \frac1K \sum_k \frac1{\bar w_k}

    with :math:`\bar w_k` the same product along the reversed chain. The gap bounds the error of `ais` with the same
    settings, on data like those of the model. The step sizes come from a pilot run, as in `ais`. Of a program with
    classes, whose labels ``y`` are all known, z and x are drawn given these, and the bounds are those of log p(x | y).

    Args:
        rng_key: the key.
        program: a program with continuous latents.
        num_rows: how many rows to draw.
        y: (num_rows,) labels to draw them with, or one for all, of a program with classes, which needs them.
        num_chains: K, chains of each row in each direction.
        num_temperatures: T, the number of steps between the start and the posterior.
        num_steps: the mean number of leapfrog steps of a transition.
        start: ``"prior"`` or ``"guide"``.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        Both bounds and their gap, means over the rows with standard errors, and each row's.

    Raises:
        TypeError: no key, or no program where there should be one.
        ValueError: labels that the program does not take or of which some are unknown, a program without latents, with
            discrete ones or with a law of which entries are observed, or an argument out of range.

    References:
        Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood using bidirectional Monte Carlo" (2015).
    """
    checks.random_key(rng_key)
    check_program(program)
    checks.at_least("num_rows", num_rows, 2)
    bounds.check_run(num_chains, num_temperatures, num_steps, start)
    bounds.check_program(program)
    labels = None if y is None else bounds.check_known(takes_labels(program).check_labels(y, num_rows))
    key_simulate, key_run = jax.random.split(rng_key)
    values, simulated = _simulate(key_simulate, _view(program, labels, np.arange(num_rows), start), num_rows)
    array = np.asarray(simulated)
    settings = _Settings(num_chains, num_temperatures, num_steps, start)
    forward, reverse = _anneal(key_run, program, array, None, labels, values, settings, progress)
    return bounds.bracket(forward, reverse, array)


class _Known(eqx.Module):
    """What has ``model`` and ``guide`` of x alone, and a label that is known at the site "y"."""

    program: Any
    y: jax.Array

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        return handlers.condition(self.program.given(self.y).model, data={"y": self.y})(x, size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        return handlers.condition(self.program.given(self.y).guide, data={"y": self.y})(x, size=size)


def _view(program: Any, labels: np.ndarray | None, index: np.ndarray, start: str) -> Any:
    """The program of these rows, whose labels may be known; from the prior, with its normal latents as noise."""
    view = program if labels is None else _Known(program, jnp.asarray(labels[index]))
    return latents.Noise(view) if start == "prior" else view


class _Settings(NamedTuple):
    num_chains: int
    num_temperatures: int
    num_steps: int
    start: str


class _Path(eqx.Module):
    """log q_0 and Delta of (chains, n, d), on the unconstrained space."""

    program: Any
    layout: latents.Layout
    x: jax.Array
    observed: jax.Array | None
    start: str = eqx.field(static=True)

    def __call__(self, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(self._of)(position)

    def draw(self, rng_key: jax.Array, num_chains: int) -> jax.Array:
        """Exact draws of q_0, (chains, n, d)."""
        guide, x = self.program.guide, self.x
        if self.start == "prior":
            guide, x = handlers.block(self.program.model, hide=["x"]), self._complete()

        def one(key: jax.Array) -> jax.Array:
            return self.layout.flatten(propose(key, guide, x)[0])

        return jax.vmap(one)(jax.random.split(rng_key, num_chains))

    def _of(self, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, log_det = self.layout.unflatten(vector)
        densities = log_densities(self.program.model, values, self._complete(), self.observed)
        zero = jnp.zeros(len(vector))
        prior = sum((densities[name] for name in self.layout.names), zero)
        likelihood = sum((value for name, value in densities.items() if name not in values), zero)
        if self.start == "prior":
            return prior + log_det, likelihood
        log_q = log_joint(self.program.guide, values, self.x)
        return log_q + log_det, prior + likelihood - log_q

    def _complete(self) -> jax.Array:
        return self.x if self.observed is None else jnp.where(self.observed, self.x, jnp.zeros((), self.x.dtype))


class _Chains(NamedTuple):
    """Where the chains of every leg are, (legs, chains, n, d); their log weights; what the pilot has learned."""

    position: jax.Array
    log_weight: jax.Array
    searched: jax.Array
    log_step_size: jax.Array


def _anneal(
    rng_key: jax.Array,
    program: Any,
    x: np.ndarray,
    observed: np.ndarray | None,
    labels: np.ndarray | None,
    exact: dict[str, jax.Array] | None,
    settings: _Settings,
    progress: bool | None,
) -> np.ndarray:
    """The log weights (legs, chains, n) of the forward leg, and of the reverse one from ``exact`` latents."""
    sites = latents.sites(_view(program, labels, np.arange(1), settings.start), jnp.asarray(x[:1]))
    bounds.check_latents(
        [site["name"] for site in sites], [site["name"] for site in sites if site["fn"].support.is_discrete]
    )
    layout = latents.layout(sites)
    vectors = None if exact is None else np.asarray(_flatten(layout, exact))
    temperatures = annealing.sigmoid_schedule(settings.num_temperatures)
    plan = jax.tree.map(jnp.asarray, annealing.plan(temperatures, reverse=exact is not None))
    total, legs = len(plan.leg), len(plan.last)
    rows = bounds.chunk_rows(len(x), legs * settings.num_chains, int(np.prod(x.shape[1:])))
    starts = range(0, len(x), rows)
    hidden = None if progress is None else not progress
    parts = []
    with tqdm(total=total * len(starts), disable=hidden, unit="step", desc="AIS") as bar:
        size = total if bar.disable else -(-total // CHUNKS)
        for number, first in enumerate(starts):
            # the last batch is filled up with its last row, so that all have the same shape
            index = np.minimum(np.arange(first, first + rows), len(x) - 1)
            seen = None if observed is None else jnp.asarray(observed[index])
            path = _Path(
                _view(program, labels, index, settings.start), layout, jnp.asarray(x[index]), seen, settings.start
            )
            ends = None if vectors is None else jnp.asarray(vectors[index])
            key = jnp.asarray(number)
            chains = _begin(rng_key, key, path, ends, settings)
            for begin in range(0, total, size):
                span = jnp.asarray(begin), jnp.asarray(min(begin + size, total))
                chains = _advance(rng_key, key, path, plan, span, chains, settings.num_steps)
                if not bar.disable:
                    jax.block_until_ready(chains)
                    bar.update(min(begin + size, total) - begin)
            parts.append(np.asarray(_finish(path, plan, chains)))
    return np.concatenate(parts, axis=-1)[:, :, : len(x)]


@eqx.filter_jit
def _begin(rng_key: jax.Array, number: jax.Array, path: _Path, exact: jax.Array | None, settings: _Settings) -> _Chains:
    key, _ = jax.random.split(jax.random.fold_in(rng_key, number))
    count = settings.num_chains
    drawn = path.draw(key, 2 * count)
    position = drawn.reshape(2, count, *drawn.shape[1:])
    if exact is not None:
        position = jnp.concatenate([position, jnp.broadcast_to(exact, (1, *position.shape[1:]))])
    searched = jnp.full((1, drawn.shape[1]), np.log(annealing.FIRST_STEP_SIZE), drawn.dtype)
    steps = jnp.zeros((settings.num_temperatures - 1, *searched.shape), drawn.dtype)
    return _Chains(position, jnp.zeros(position.shape[:-1], drawn.dtype), searched, steps)


@eqx.filter_jit
def _advance(
    rng_key: jax.Array,
    number: jax.Array,
    path: _Path,
    plan: annealing.Plan,
    span: tuple[jax.Array, jax.Array],
    chains: _Chains,
    num_steps: int,
) -> _Chains:
    _, key = jax.random.split(jax.random.fold_in(rng_key, number))
    inverse_mass = jnp.ones((1, 1, chains.position.shape[-1]), chains.position.dtype)

    # one loop for all legs, so that the transition, which is most of the program, is compiled once
    def iterate(i: Any, chains: _Chains) -> _Chains:
        leg, slot, temperature = plan.leg[i], plan.slot[i], plan.temperature[i]
        state, delta = _at(path, temperature, chains.position[leg])
        pilot = leg == 0
        log_step_size = jnp.where(pilot, chains.searched, chains.log_step_size[slot])
        target = _tempered(path, temperature)
        state, info = hmc.step(
            jax.random.fold_in(key, i), state, target, jnp.exp(log_step_size), inverse_mass, num_steps
        )
        return _Chains(
            chains.position.at[leg].set(state.position),
            chains.log_weight.at[leg].add(plan.increment[i] * delta),
            jnp.where(pilot, annealing.adapted(chains.searched, info.accept_prob), chains.searched),
            chains.log_step_size.at[slot].set(log_step_size),
        )

    return lax.fori_loop(*span, iterate, chains)


@eqx.filter_jit
def _finish(path: _Path, plan: annealing.Plan, chains: _Chains) -> jax.Array:
    _, delta = jax.vmap(path)(chains.position[1:])
    return chains.log_weight[1:] + plan.last[1:, None, None] * delta


def _tempered(path: _Path, temperature: jax.Array) -> Callable[[jax.Array], jax.Array]:
    def log_density(position: jax.Array) -> jax.Array:
        initial, delta = path(position)
        return annealing.tempered(initial, delta, temperature)

    return log_density


def _at(path: _Path, temperature: jax.Array, position: jax.Array) -> tuple[hmc.State, jax.Array]:
    """The state of the chains under f_t, and Delta, from one evaluation."""
    (initial, delta), pullback = jax.vjp(path, position)
    (gradient,) = pullback((jnp.ones_like(initial), jnp.full_like(delta, temperature)))
    return hmc.State(position, annealing.tempered(initial, delta, temperature), gradient), delta


@eqx.filter_jit
def _simulate(rng_key: jax.Array, program: Any, num_rows: int) -> tuple[dict[str, jax.Array], jax.Array]:
    trace = handlers.trace(handlers.seed(program.model, rng_key)).get_trace(size=num_rows)
    drawn = {name: site for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}
    values = {name: site["value"] for name, site in drawn.items()}
    return values, values.pop("x")


@eqx.filter_jit
def _flatten(layout: latents.Layout, values: dict[str, jax.Array]) -> jax.Array:
    return layout.flatten(values)
