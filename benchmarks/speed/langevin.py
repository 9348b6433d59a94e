"""Langevin kernels against NumPyro's BarkerMH and NUTS, a bare loop of ULA, and Pyro one chain after another.

Effective draws are the smallest bulk ESS of any variable, of the draws after the warm-up; times are of whole runs with
their warm-up. Ours are compiled before; NumPyro's MCMC compiles its loop anew in each run, and that is in its times, so
a ratio against it is of what a user waits for, not of the kernels alone. BlackJAX is compared where it is installed.
"""

import importlib.util
from collections.abc import Callable
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

import deepgen.numpyro as dg
import deepgen.pyro as dgp
from benchmarks.speed.timing import Row, median, seconds
from deepgen.inference.langevin import numpyro as langevin
from deepgen.inference.langevin.dynamics import Overdamped

D, REPEATS = 100, 3
Y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=np.float32)
S = np.array([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=np.float32)
RHO = 0.5 ** np.abs(np.subtract.outer(np.arange(D), np.arange(D)))


def measure() -> list[Row]:
    """Effective draws a second on three targets with 4 and 256 chains, and the plain costs of a step."""
    rows = []
    for name, model in (("100-D Gaussian", _gaussian), ("eight schools", _schools), ("2-D mixture", _mixture)):
        rows += _compare(name, model, 4, 1000, 1000)
        rows += _compare(name, model, 256, 300, 100)
    return rows + _ula() + _pyro()


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
    ess = {label: _ess(run()) for label, run in runs.items()}
    taken = seconds(runs, REPEATS)
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


def _ula() -> list[Row]:
    """A step of the driver against a scan of three lines."""
    chains, steps = 256, 2000

    def potential(x: jax.Array) -> jax.Array:
        return 0.5 * (x**2).sum(-1)

    def ours() -> Any:
        draws, _ = langevin.run(
            jax.random.key(0),
            Overdamped(adjusted=False),
            jnp.zeros((chains, D)),
            potential_fn=potential,
            num_samples=1,
            thinning=steps,
        )
        return jax.block_until_ready(draws)

    @jax.jit
    def bare(key: jax.Array, x: jax.Array) -> jax.Array:
        def move(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            gradient = jax.grad(lambda x: potential(x).sum())(x)
            return x - 0.005 * gradient + 0.1 * jax.random.normal(key, x.shape), None

        return lax.scan(move, x, jax.random.split(key, steps))[0]

    contenders: dict[str, Callable[[], Any]] = {
        "ours": ours,
        "scan": lambda: jax.block_until_ready(bare(jax.random.key(0), jnp.zeros((chains, D)))),
    }
    if importlib.util.find_spec("blackjax") is not None:
        import blackjax

        mala = blackjax.mala(lambda x: -potential(x), 0.005)

        @jax.jit
        def theirs(key: jax.Array, x: jax.Array) -> jax.Array:
            def move(state: Any, key: jax.Array) -> tuple[Any, None]:
                return jax.vmap(mala.step)(jax.random.split(key, chains), state)[0], None

            return lax.scan(move, jax.vmap(mala.init)(x), jax.random.split(key, steps))[0].position

        def adjusted() -> Any:
            draws, _ = langevin.run(
                jax.random.key(0),
                Overdamped(),
                jnp.zeros((chains, D)),
                potential_fn=potential,
                num_samples=1,
                thinning=steps,
            )
            return jax.block_until_ready(draws)

        contenders["blackjax"] = lambda: jax.block_until_ready(theirs(jax.random.key(0), jnp.zeros((chains, D))))
        contenders["MALA"] = adjusted
    taken = {name: median(values) for name, values in seconds(contenders, REPEATS).items()}
    rows = []
    for name, peer in (("ours", "scan"), ("MALA", "blackjax")):
        if peer in taken:
            middle, half = taken[name]
            value = chains * steps / 1e6 / middle
            label = "ULA, bare driver, 256 x 100-D" if name == "ours" else "MALA, bare driver, 256 x 100-D"
            rows.append(Row(label, value, value * half / middle, "M steps/s", taken[peer][0] / taken[name][0], peer))
    return rows


def _pyro() -> list[Row]:
    """Vectorised chains of Pyro against one after another, and against Pyro's NUTS."""
    chains, warmup, draws = 16, 50, 50

    def model() -> None:
        mu = pyro.sample("mu", pyro.distributions.Normal(0.0, 5.0))
        tau = pyro.sample("tau", pyro.distributions.HalfCauchy(5.0))
        with pyro.plate("schools", 8):
            eta = pyro.sample("eta", pyro.distributions.Normal(0.0, 1.0))
            pyro.sample("y", pyro.distributions.Normal(mu + tau * eta, torch.tensor(S)), obs=torch.tensor(Y))

    def ours(count: int) -> Any:
        settings = dict(num_warmup=warmup, num_samples=draws, num_chains=count, progress=False)
        return dgp.run_chains(dgp.MALA(model), **settings)

    def nuts() -> Any:
        mcmc = pyro.infer.MCMC(pyro.infer.NUTS(model), num_samples=draws, warmup_steps=warmup, disable_progbar=True)
        mcmc.run()

    taken = {
        name: median(values)
        for name, values in seconds({"vector": lambda: ours(chains), "one": lambda: ours(1), "nuts": nuts}, 1).items()
    }
    value = chains * draws / taken["vector"][0]
    rows = []
    for peer, label in (("one", "one chain after another"), ("nuts", "Pyro NUTS, draws a second")):
        ratio = value / (draws / taken[peer][0])
        rows.append(Row(f"Pyro MALA, eight schools, {chains} chains", value, 0.0, "draws/s", ratio, label))
    return rows
