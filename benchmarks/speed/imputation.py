"""Imputing 1,000 half-missing rows at once, against the same sampler called for one row after another."""

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import HMC, MCMC

import deepgen.numpyro as dg
from benchmarks.speed.timing import Row, median, seconds

ROWS, LOOPED, OWN, EVENT, LATENT = 1000, 20, 3, 64, 8
SETTINGS = {"num_samples": 100, "num_warmup": 100, "num_chains": 4, "progress": False}


def measure() -> list[Row]:
    """Rows per second of both, in NumPyro and in Pyro; the loop is timed on some rows and scaled."""
    rng = np.random.default_rng(0)
    x = (rng.random((ROWS, EVENT)) < 0.3).astype(np.float32)
    x[rng.random(x.shape) < 0.5] = np.nan
    vae = dg.VAE.mlp((EVENT,), LATENT, hidden=(64,), key=jax.random.key(0))
    key = jax.random.key(1)

    def batched() -> None:
        dg.impute(key, vae, x, **SETTINGS)

    def looped() -> None:
        for i in range(LOOPED):
            dg.impute(jax.random.fold_in(key, i), vae, x[i : i + 1], **SETTINGS)

    def own() -> None:
        for i in range(OWN):
            model = dg.missing(vae.model, data={"x": x[i : i + 1]}, latent=False)
            kernel = HMC(model, trajectory_length=None, num_steps=8)
            mcmc = MCMC(
                kernel, num_warmup=100, num_samples=100, num_chains=4, chain_method="vectorized", progress_bar=False
            )
            mcmc.run(key, None)
            jnp.asarray(mcmc.get_samples()["z"]).block_until_ready()

    taken = seconds({"batched": batched, "looped": looped, "own": own}, repeats=3)
    rows = _rows("NumPyro", taken)
    label = f"impute {ROWS} half-missing rows of {EVENT}, 4 chains of 100 + 100, NumPyro"
    value, spread = median([OWN / t for t in taken["own"]])
    ratio = rows[-1].value / value
    rows.append(
        Row(f"{label}: NumPyro's own HMC, one MCMC.run a row", value, spread, "rows/s", ratio, "at once over this")
    )
    return rows + _pyro(x)


def _pyro(x: np.ndarray) -> list[Row]:
    import deepgen.pyro as dgp

    vae = dgp.VAE.mlp((EVENT,), LATENT, hidden=(64,))

    def batched() -> None:
        dgp.impute(vae, x, **SETTINGS)

    def looped() -> None:
        dgp.impute(vae, x[:1], **SETTINGS)

    return _rows("Pyro", seconds({"batched": batched, "looped": looped}, repeats=3), looped=1)


def _rows(engine: str, taken: dict[str, list[float]], looped: int = LOOPED) -> list[Row]:
    batched, spread = median([ROWS / t for t in taken["batched"]])
    one_by_one, loop_spread = median([looped / t for t in taken["looped"]])
    label = f"impute {ROWS} half-missing rows of {EVENT}, 4 chains of 100 + 100, {engine}"
    return [
        Row(f"{label}: row by row", one_by_one, loop_spread, "rows/s"),
        Row(f"{label}: at once", batched, spread, "rows/s", batched / one_by_one, "row by row", 50.0),
    ]
