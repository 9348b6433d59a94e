"""Clamped chains in NumPyro: every row and chain in one compiled run."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepgen.inference.imputation import result


def clamped(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """Chains of the program's own kernel over the missing entries, from its base, see `impute`."""
    start_key, run_key = jax.random.split(rng_key)
    law = program.distribution()
    shape = options["num_chains"], len(x)
    start = jnp.where(observed, jnp.nan_to_num(x), law.base.sample(start_key, shape).astype(x.dtype))
    run = law.kernel.run(
        run_key,
        law,
        start,
        num_warmup=options["num_warmup"],
        num_samples=options["num_samples"],
        num_steps=options["num_steps"],
        observed=observed,
        progress=progress,
    )
    stats, said = result.chain_stats(
        np.asarray(jnp.swapaxes(run.log_density, 0, 1)),
        acceptance_rate=np.asarray(run.accept_prob),
        step_size=None if run.step_size is None else np.asarray(run.step_size),
        diverging=None if run.diverging is None else np.asarray(run.diverging),
    )
    said = {**said, "kernel": type(law.kernel).__name__}
    return result.Draws(np.asarray(jnp.swapaxes(run.x, 0, 1)), {}, stats, said)
