"""PixelCNN at its initial parameters: rows far above are felt; and places that have features of their own."""

from typing import Any

import jax
import numpy as np
import pytest
import torch

from deepgen import numpyro as jax_face
from deepgen import pyro as torch_face
from deepgen.models.autoregressive import gates
from deepgen.nn import equinox as eqx_nn
from deepgen.nn import torch as torch_nn

FACES: dict[str, tuple[Any, Any]] = {"numpyro": (jax_face, eqx_nn), "pyro": (torch_face, torch_nn)}
engines = pytest.mark.parametrize("engine", FACES)


def made(engine: str, height: int, **options: Any) -> Any:
    kwargs = {"channels": 16, "num_layers": 8, "first_kernel_size": 3, **options}
    torch.manual_seed(0)
    key = {"key": jax.random.key(0)} if engine == "numpyro" else {}
    return FACES[engine][0].PixelCNN((1, height, 8), **kwargs, **key)


def outputs(network: Any, x: np.ndarray) -> np.ndarray:
    found = network(torch.as_tensor(x)).detach() if isinstance(network, torch.nn.Module) else network(x)
    return np.asarray(found)[:, 0, 0]


def images(height: int) -> np.ndarray:
    return np.sign(np.random.default_rng(5).standard_normal((50, 1, height, 8))).astype(np.float32)


@engines
def test_rows_far_above_are_felt_at_the_start(engine: str) -> None:
    """The last row sees the first by all layers of the vertical stack; without their gains next to nothing is left."""
    x = images(9)
    changed = x.copy()
    changed[:, :, 0] *= -1

    def felt(network: Any) -> float:
        return float(np.abs(outputs(network, changed) - outputs(network, x))[:, 8].mean())

    network = made(engine, 9)
    nn = FACES[engine][1]
    plain = {
        name: value / (gates.GATE_GAIN if name.endswith("vertical.weight") else 1)
        for name, value in nn.state_dict(network).items()
    }
    with_gains = felt(network)
    assert with_gains > 2e-4
    assert felt(nn.load_state_dict(network, plain)) < with_gains / 100


@engines
def test_only_features_of_places_tell_where_a_pixel_is(engine: str) -> None:
    """An image moved down by two rows, where neither its edges nor those of the frame are in sight."""
    x = images(12)
    moved = np.roll(x, 2, axis=2)

    def worst(place_size: int) -> float:
        network = made(engine, 12, num_layers=2, place_size=place_size)
        assert network.spec()["place_size"] == place_size
        return float(np.abs(outputs(network, moved)[:, 8:, 2:6] - outputs(network, x)[:, 6:10, 2:6]).max())

    assert worst(0) < 1e-5
    assert worst(3) > 1e-2


@engines
def test_the_constructor_passes_places_on(engine: str) -> None:
    face = FACES[engine][0]
    key = {"key": jax.random.key(0)} if engine == "numpyro" else {}
    options: dict[str, Any] = {"channels": 4, "num_layers": 2, "first_kernel_size": 3, **key}
    program = face.AutoregressiveModel.pixelcnn((1, 3, 2), place_dim=5, **options)
    assert program.network.spec()["place_size"] == 5
    assert tuple(program.network.places.shape) == (5, 3, 2)
    with pytest.raises(ValueError, match="place_size: got -1"):
        face.AutoregressiveModel.pixelcnn((1, 3, 2), place_dim=-1, **options)
