"""Langevin kernels against NumPyro's BarkerMH and NUTS, a bare loop of ULA, and Pyro one chain after another.

Effective draws are the smallest bulk ESS of any variable, of the draws after the warm-up; times are of whole runs with
their warm-up. Ours are compiled before; NumPyro's MCMC compiles its loop anew in each run, and that is in its times, so
a ratio against it is of what a user waits for, not of the kernels alone. BlackJAX is compared where it is installed.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pyro
import torch
from jax import lax
from numpyro.infer import MCMC, NUTS, BarkerMH
from numpyro.infer.util import initialize_model

import deepgen.numpyro as dg
import deepgen.pyro as dgp
from benchmarks.speed.timing import Row, median, seconds
from deepgen.inference.langevin import numpyro as langevin
from deepgen.inference.langevin.chains import numpyro as chains_numpyro
from deepgen.inference.langevin.dynamics import Overdamped

D, REPEATS = 100, 2
Y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=np.float32)
S = np.array([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=np.float32)
RHO = 0.5 ** np.abs(np.subtract.outer(np.arange(D), np.arange(D)))


def measure() -> list[Row]:
    """Effective draws a second on three targets with 4 and 256 chains, and the plain costs of a step."""
    rows = []
    targets = (("100-D Gaussian", _gaussian, 0.3), ("eight schools", _schools, 0.5), ("2-D mixture", _mixture, 1.0))
    for name, model, step_size in targets:
        rows += _compare(name, model, 4, 1000, 1000)
        rows += _compare(name, model, 256, 300, 100)
        rows += _compiled(name, model, step_size, 4, 2000) + _compiled(name, model, step_size, 256, 200)
    return rows + _steps(4) + _steps(256) + _again() + _pyro()


def _gaussian() -> None:
    factor = jnp.asarray(np.linalg.cholesky(RHO), jnp.float32)
    numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(D), scale_tril=factor))


def _schools() -> None:
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", 8):
        eta = numpyro.sample("eta", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu + tau * eta, S), obs=Y)


def _mixture() -> None:
    x = numpyro.sample("x", dist.Normal(jnp.zeros(2), 3.0).to_event(1))
    shift = jnp.array([2.0, 0.0])
    numpyro.factor("modes", jnp.logaddexp(-0.5 * ((x - shift) ** 2).sum(), -0.5 * ((x + shift) ** 2).sum()))


def _ess(draws: dict[str, Any]) -> float:
    found = az.ess(az.from_dict(posterior={name: np.asarray(value) for name, value in draws.items()}), method="bulk")
    return min(float(found[name].min()) for name in found)


def _ours(kernel: Any, chains: int, warmup: int, draws: int) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        settings = dict(num_warmup=warmup, num_samples=draws, num_chains=chains, progress=False)
        post = dg.run_chains(jax.random.key(0), kernel, **settings).posterior
        return {name: post[name].values for name in post}

    return run


def _theirs(kernel: Any, chains: int, warmup: int, draws: int, method: Any) -> Callable[[], dict[str, Any]]:
    mcmc = MCMC(
        kernel, num_warmup=warmup, num_samples=draws, num_chains=chains, chain_method=method, progress_bar=False
    )

    def run() -> dict[str, Any]:
        mcmc.run(jax.random.key(0))
        return jax.block_until_ready(mcmc.get_samples(group_by_chain=True))

    return run


def _compare(name: str, model: Any, chains: int, warmup: int, draws: int) -> list[Row]:
    runs = {
        "MALA": _ours(dg.MALA(model), chains, warmup, draws),
        "underdamped": _ours(dg.MetropolisedUnderdampedLangevin(model, num_steps=4), chains, warmup, draws),
        "BarkerMH": _theirs(BarkerMH(model), chains, warmup, draws, jax.vmap),
        "NUTS": _theirs(NUTS(model), chains, warmup, draws, "vectorized"),
    }
    last: dict[str, dict[str, Any]] = {}

    def kept(label: str) -> Callable[[], None]:
        return lambda: last.update({label: runs[label]()})

    taken = seconds({label: kept(label) for label in runs}, REPEATS)
    ess = {label: _ess(draws) for label, draws in last.items()}
    rate = {label: ess[label] / median(taken[label])[0] for label in runs}
    rows = []
    for label in ("MALA", "underdamped"):
        for peer in ("BarkerMH", "NUTS"):
            spread = rate[label] * median(taken[label])[1] / median(taken[label])[0]
            ratio = rate[label] / rate[peer]
            rows.append(Row(f"{name}, {chains} chains: {label}", rate[label], spread, "ESS/s", ratio, peer))
    speed = chains * draws / median(taken["MALA"])[0]
    rows.append(Row(f"{name}, {chains} chains: MALA, draws kept", speed, 0.0, "draws/s"))
    return rows


def _steps(chains: int) -> list[Row]:
    """A step of the bare driver, against a scan of three lines and BlackJAX's MALA at the same step size."""
    steps, size = 512_000 // max(chains, 64), 0.1

    def potential(x: jax.Array) -> jax.Array:
        return 0.5 * (x**2).sum(-1)

    start = jnp.zeros((chains, D))

    def ours(adjusted: bool) -> Callable[[], Any]:
        settings = dict(potential_fn=potential, num_samples=1, thinning=steps, step_size=size, progress=False)
        return lambda: jax.block_until_ready(
            langevin.run(jax.random.key(0), Overdamped(adjusted=adjusted), start, **settings)[0]
        )

    @jax.jit
    def bare(key: jax.Array, x: jax.Array) -> jax.Array:
        def move(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            gradient = jax.grad(lambda x: potential(x).sum())(x)
            return x - size**2 / 2 * gradient + size * jax.random.normal(key, x.shape), None

        return lax.scan(move, x, jax.random.split(key, steps))[0]

    contenders = {"ULA": ours(False), "scan": lambda: jax.block_until_ready(bare(jax.random.key(0), start))}
    pairs = [("ULA", "scan", 0.9)]
    if importlib.util.find_spec("blackjax") is not None:
        theirs = _blackjax(lambda x: -potential(x), size, start, steps)
        contenders |= {"MALA": ours(True), "BlackJAX": lambda: theirs(False)}
        pairs.append(("MALA", "BlackJAX", 0.95))
    return _beside(contenders, pairs, f"bare driver, {chains} x {D}-D", chains * steps)


def _compiled(name: str, model: Any, size: float, chains: int, draws: int) -> list[Row]:
    """The compiled loop of MALA on a model, all draws kept, against BlackJAX's on the same potential and step size."""
    if importlib.util.find_spec("blackjax") is None:
        return []
    kernel = dg.MALA(model, step_size=size, adapt_step_size=False, adapt_mass_matrix=False)
    state = kernel.init(jax.random.split(jax.random.key(0), chains), 0, None)
    advance = chains_numpyro._compiled(kernel)[0]

    def ours() -> Any:
        stores = jax.tree.map(lambda x: jnp.zeros((draws, *x.shape), x.dtype), chains_numpyro._kept(state, ()))
        none = jnp.zeros((), jnp.int32)
        span = none, none, jnp.asarray(draws), jnp.asarray(1)
        return jax.block_until_ready(advance((state, span, (), {}, 0, ()), stores))

    potential = initialize_model(jax.random.key(0), model).potential_fn
    theirs = _blackjax(lambda z: -potential(z), size, state.z, draws)
    contenders = {"MALA": ours, "BlackJAX": lambda: theirs(True)}
    label = f"compiled loop, {name}, {chains} chains"
    return _beside(contenders, [("MALA", "BlackJAX", 0.95)], label, chains * draws)


def _blackjax(log_density: Callable[[Any], Any], step_size: float, start: Any, steps: int) -> Callable[[bool], Any]:
    import blackjax

    mala, chains = blackjax.mala(log_density, step_size**2 / 2), len(jax.tree.leaves(start)[0])

    @partial(jax.jit, static_argnums=2)
    def run(key: jax.Array, x: Any, keep: bool) -> Any:
        def move(state: Any, key: jax.Array) -> Any:
            state, info = jax.vmap(mala.step)(jax.random.split(key, chains), state)
            return state, (state.position, state.logdensity, info.acceptance_rate) if keep else None

        end, kept = lax.scan(move, jax.vmap(mala.init)(x), jax.random.split(key, steps))
        return kept if keep else end.position

    return lambda keep: jax.block_until_ready(run(jax.random.key(0), start, keep))


def _beside(contenders: Any, pairs: list[tuple[str, str, float]], name: str, steps: int) -> list[Row]:
    taken, rows = seconds(contenders, 7 * REPEATS), []
    for ours, peer, goal in pairs:
        middle, half = median(taken[ours])
        value = steps / 1e6 / middle
        ratio = median([b / a for a, b in zip(taken[ours], taken[peer], strict=True)])[0]
        rows.append(Row(f"{ours}, {name}", value, value * half / middle, "M steps/s", ratio, peer, goal))
    return rows


def _again() -> list[Row]:
    """How often a second run with the same shapes compiles something."""
    run, count = _ours(dg.MALA(_mixture), 4, 200, 20), 0

    def listen(event: str, duration: float, **_: Any) -> None:
        nonlocal count
        count += event == "/jax/core/compile/backend_compile_duration"

    run()
    jax.monitoring.register_event_duration_secs_listener(listen)
    run()
    jax.monitoring.unregister_event_duration_listener(listen)
    return [Row("run_chains once more, MALA, 4 chains", count, 0.0, "compilations")]


def _pyro() -> list[Row]:
    """Vectorised chains of Pyro against one chain after another, and 256 chains against Pyro's NUTS."""
    warmup, draws = 100, 100
    settings = dict(num_warmup=warmup, num_samples=draws, progress=False)

    def mixture() -> None:
        x = pyro.sample("x", pyro.distributions.Normal(torch.zeros(2), 3.0).to_event(1))
        shift = torch.tensor([2.0, 0.0])
        pyro.factor("modes", torch.logaddexp(-0.5 * ((x - shift) ** 2).sum(), -0.5 * ((x + shift) ** 2).sum()))

    def vectorised(count: int) -> dict[str, Any]:
        return {"x": dgp.run_chains(dgp.MALA(mixture), num_chains=count, **settings).posterior.x.values}

    def one_by_one() -> dict[str, Any]:
        return {"x": np.concatenate([vectorised(1)["x"] for _ in range(16)])}

    def nuts() -> dict[str, Any]:
        mcmc = pyro.infer.MCMC(pyro.infer.NUTS(mixture), num_samples=draws, warmup_steps=warmup, disable_progbar=True)
        mcmc.run()
        return {"x": mcmc.get_samples(group_by_chain=True)["x"]}

    numpyro_256 = _ours(dg.MALA(_mixture), 256, warmup, draws)
    calls: dict[str, Callable[[], Any]] = {
        "16": lambda: vectorised(16),
        "16 one by one": one_by_one,
        "256": lambda: vectorised(256),
        "NumPyro 256": numpyro_256,
        "NUTS": nuts,
    }
    torch.manual_seed(0)
    taken = seconds(calls, 1)
    rate = {name: _ess(call()) / median(taken[name])[0] for name, call in calls.items()}
    return [
        Row(f"2-D mixture, {name}", rate[ours], 0.0, "ESS/s", rate[ours] / rate[peer], peer, goal)
        for name, ours, peer, goal in (
            ("Pyro MALA, 16 chains", "16", "16 one by one", 5),
            ("Pyro MALA, 256 chains", "256", "NUTS", 100),
            ("NumPyro MALA, 256 chains", "NumPyro 256", "NUTS", 100),
        )
    ]
