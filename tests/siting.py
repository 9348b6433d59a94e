"""Models of a user's own, written once for both engines, and the engines' plain SVI and NUTS around them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import numpyro
import numpyro.infer
import pyro
import pyro.infer
import pyro.optim
import torch
from engines import NUMPYRO

Losses = tuple[np.ndarray, Mapping[str, Any]]


def language(engine: Any) -> Any:
    """What has ``sample``, ``plate`` and ``distributions``."""
    return numpyro if engine is NUMPYRO else pyro


def nothing(*args: Any) -> None:
    """The guide of a model without latents."""


def train(
    engine: Any,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: np.ndarray,
    steps: int,
    learning_rate: float = 1e-2,
    num_particles: int = 1,
    seed: int = 0,
) -> Losses:
    """The losses and the parameters of the engine's own SVI, its Adam with falling steps and ``Trace_ELBO``."""
    values = [engine.array(value) for value in args]
    if engine is NUMPYRO:
        loss = numpyro.infer.Trace_ELBO(num_particles=num_particles)
        optimizer = numpyro.optim.Adam(lambda step: learning_rate * 0.05 ** (step / steps))
        svi = numpyro.infer.SVI(model, guide, optimizer, loss)
        run = svi.run(jax.random.key(seed), steps, *values, progress_bar=False)
        return np.asarray(run.losses), run.params
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    elbo = pyro.infer.Trace_ELBO(num_particles=num_particles, vectorize_particles=num_particles > 1)
    with pyro.validation_enabled(False):
        trainer = pyro.infer.SVI(
            model, guide, pyro.optim.ClippedAdam({"lr": learning_rate, "lrd": 0.05 ** (1 / steps)}), elbo
        )
        losses = [trainer.step(*values) for _ in range(steps)]
    return np.array(losses), {name: value.detach().clone() for name, value in pyro.get_param_store().items()}


def numbers(values: Any) -> np.ndarray:
    """An array or tensor as NumPy in float64."""
    values = values.detach() if isinstance(values, torch.Tensor) else values
    return np.asarray(values).astype(float)
