"""Small problems with a known course of the optimiser, in both engines, and `fit` under one signature."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
import pyro
import torch
from numpyro.infer import autoguide as nguides
from objectives import NUMPYRO, PYRO, Engine
from pyro.infer import autoguide as pguides

from deepgen.inference.svi import numpyro as nsvi
from deepgen.inference.svi import pyro as psvi
from deepgen.models.vae import numpyro as nvae
from deepgen.models.vae import pyro as pvae
from deepgen.nn.equinox import state_dict

ROWS = (np.random.default_rng(5).normal(size=(150, 6)) * [1, 2, 0.5, 1, 1, 3]).astype(np.float32)


@dataclass(frozen=True)
class Fitting:
    """An engine's `fit`, seeded, with its optimisers and a small VAE."""

    engine: Engine
    fit: Callable[..., Any]
    sgd: Callable[[float], Any]
    vae: Callable[[], Any]
    autonormal: Callable[..., Any]
    room: Any
    weights: Callable[[Any], dict[str, np.ndarray]]

    def __repr__(self) -> str:
        return self.engine.name

    def climb(self, loss: Callable[..., Any], start: float = 0.0) -> tuple[Any, Any]:
        """A pair without latents, whose loss is a function of the param site "a" and the data."""

        def model(x: Any) -> None:
            self.engine.factor("minus the loss", -loss(self.engine.param("a", self.engine.array(start)), x))

        def guide(x: Any) -> None:
            pass

        return model, guide


def _numpyro_fit(*args: Any, seed: int = 0, **kwargs: Any) -> Any:
    return nsvi.fit(jax.random.key(seed), *args, **kwargs)


def _pyro_fit(*args: Any, seed: int = 0, **kwargs: Any) -> Any:
    pyro.set_rng_seed(seed)
    return psvi.fit(*args, **kwargs)


def _numpyro_vae() -> Any:
    return nvae.VAE.mlp((6,), 2, likelihood="gaussian", hidden=(8,), key=jax.random.key(7))


def _pyro_vae() -> Any:
    pyro.set_rng_seed(7)
    return pvae.VAE.mlp((6,), 2, likelihood="gaussian", hidden=(8,))


def _numpyro_weights(program: Any) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in state_dict(program).items()}


def _pyro_weights(program: Any) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in program.state_dict().items()}


def _torch_sgd(learning_rate: float) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    return lambda params: torch.optim.SGD(params, lr=learning_rate)


FITTINGS = [
    Fitting(NUMPYRO, _numpyro_fit, optax.sgd, _numpyro_vae, nguides.AutoNormal, nsvi, _numpyro_weights),
    Fitting(PYRO, _pyro_fit, _torch_sgd, _pyro_vae, pguides.AutoNormal, psvi, _pyro_weights),
]


def leaves(params: dict[str, Any]) -> list[np.ndarray]:
    """A fit's parameters as arrays, in one order."""
    return [np.asarray(leaf) for name in sorted(params) for leaf in jax.tree.leaves(_bare(params[name]))]


def _bare(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value
