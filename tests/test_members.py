"""Members of an ensemble in turn, and draws and densities of both engines on the same noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO, Tape

from deepgen.models.flow import recipe

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
D = 4
MEMBERS = [[None, None], [[2, 0, 3, 1], 3], [[1, 3, 0, 2], 5]]
CONFIG = {
    "observation": {"law": "gaussian_predicted", "event_shape": [D]},
    "network": {"network": "MaskedMLP", "event_shape": [D], "num_params": 2, "hidden": [6]},
    "members": MEMBERS,
}
X = np.random.default_rng(0).standard_normal((20, D)).astype(np.float32)
STILL: dict[Any, Any] = {NUMPYRO: optax.sgd(0.0), PYRO: lambda params: torch.optim.SGD(params, lr=0.0)}


def shaken(engine: Any, program: Any, scale: float = 0.7) -> Any:
    """The same parameters in both engines."""
    rng = np.random.default_rng(1)
    found = {name: value + scale * rng.standard_normal(value.shape) for name, value in engine.tensors(program).items()}
    return engine.with_tensors(program, {name: np.float32(value) for name, value in found.items()})


def ensemble(engine: Any) -> Any:
    program = engine.build("autoregressive", CONFIG)
    zeros = {name: np.zeros_like(value) for name, value in engine.tensors(program).items()}
    return shaken(engine, engine.with_tensors(program, zeros))


def of_each_member(engine: Any) -> np.ndarray:
    """The mean loss of a row by the law of each member alone."""
    tensors, found = engine.tensors(ensemble(engine)), []
    for order, seed in MEMBERS:
        network = {**CONFIG["network"], "order": order, "seed": seed}
        alone = engine.build("autoregressive", {**CONFIG, "network": network, "members": []})
        found.append(-engine.call("log_prob", engine.with_tensors(alone, tensors), X).value.mean())
    return np.array(found)


def losses(engine: Any, steps: int, **kwargs: Any) -> np.ndarray:
    """Of steps that change nothing."""
    still = {"optimizer": STILL[engine], "batch_size": None, "chunk": 2, "progress": False}
    return engine.call("fit", ensemble(engine), X, steps=steps, **still, **kwargs).losses


@BOTH
def test_fit_takes_the_members_in_turn_and_goes_on_where_it_stopped(engine: Any, tmp_path: Path) -> None:
    each = of_each_member(engine)
    assert np.abs(np.diff(np.sort(each))).min() > 0.01
    assert len(losses(engine, 4, checkpoint=tmp_path / "fit")) == 4
    found = losses(engine, 8, checkpoint=tmp_path / "fit")
    np.testing.assert_allclose(found, np.resize(each, 8), rtol=1e-5)
    with mock.patch.object(engine.face.RandomMember, "takes_turns", False):
        jax.clear_caches()
        by_chance = losses(engine, 8)
    jax.clear_caches()
    assert not np.allclose(by_chance, np.resize(each, 8), rtol=1e-5)
    assert all(np.isclose(each, loss, rtol=1e-5).any() for loss in by_chance)


@BOTH
def test_held_out_rows_are_judged_alike_at_every_step(engine: Any) -> None:
    each = of_each_member(engine)
    still = {"optimizer": STILL[engine], "batch_size": None, "chunk": 1, "progress": False, "validation": X}
    fit = engine.call("fit", ensemble(engine), X, steps=4, **still)
    assert np.ptp(fit.validation_losses) == 0
    assert np.isclose(each, fit.validation_losses[0], rtol=1e-5).any()


@BOTH
def test_schedules_of_the_objective_within_are_followed(engine: Any) -> None:
    face = engine.face
    inner = face.ELBO(beta=face.Linear(4))
    assert face.RandomMember(inner).at(2) == face.RandomMember(inner.at(2))
    assert face.RandomMember(inner).at(2) != face.RandomMember(inner)
    assert face.RandomMember().at(2) == face.RandomMember()
    np.testing.assert_allclose(losses(engine, 3, objective=face.RandomMember(inner)), of_each_member(engine), rtol=1e-5)


@contextmanager
def noise(engine: Any, seed: int) -> Iterator[None]:
    """Normals and Gumbel noise from one tape, nothing compiled."""
    tape = Tape(seed)

    def normal(key: Any, shape: Any = (), dtype: Any = jnp.float32, **_: Any) -> Any:
        # where shapes alone are asked for, nothing is drawn
        return jnp.zeros(shape) if isinstance(key, jax.core.Tracer) else jnp.asarray(tape(tuple(shape)), dtype)

    def categorical(key: Any, logits: Any, axis: int) -> Any:
        return jnp.argmax(logits + jnp.asarray(tape(jnp.shape(logits))), axis=axis)

    def torch_normal(loc: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return loc + scale * torch.as_tensor(tape(tuple(loc.shape)))

    def exponential(self: torch.Tensor) -> torch.Tensor:
        # minus its logarithm is Gumbel noise
        return self.copy_(torch.exp(-torch.as_tensor(tape(tuple(self.shape)))))

    own: dict[Any, tuple[Any, Any, str, str]] = {
        NUMPYRO: (jax.random, jax.random, "normal", "categorical"),
        PYRO: (torch, torch.Tensor, "normal", "exponential_"),
    }
    first, second, name, other = own[engine]
    drawn = {NUMPYRO: (normal, categorical), PYRO: (torch_normal, exponential)}[engine]
    with mock.patch.object(first, name, drawn[0]), mock.patch.object(second, other, drawn[1]), jax.disable_jit():
        yield


def test_clamped_draws_of_an_ensemble_are_the_same_on_the_same_noise() -> None:
    given = np.where(np.arange(D) < 2, X[:6], np.nan).astype(np.float32)

    def draws(engine: Any, seed: int) -> np.ndarray:
        with noise(engine, seed):
            return np.asarray(engine.call("sample", ensemble(engine), len(given), given=given))

    first, second = (draws(engine, 3) for engine in ENGINES)
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(first[:, :2], given[:, :2])
    other = draws(PYRO, 4)
    assert not np.allclose(other, second, atol=1e-2)


def test_estimates_of_a_large_continuous_flow_are_the_same_by_the_same_probes() -> None:
    """And by others they are others, which a density that is exact would not be."""

    def found(engine: Any, seed: int) -> Any:
        program = engine.call(engine.face.Flow.cnf, (D,), hidden=(8,), num_probes=1, rtol=1e-6, atol=1e-6)
        zeros = {name: np.zeros_like(value) for name, value in engine.tensors(program).items()}
        program, tape = shaken(engine, engine.with_tensors(program, zeros), 0.5), Tape(seed)

        def signs(key: Any, shape: Any, dtype: Any) -> Any:
            return jnp.asarray(np.sign(tape(tuple(shape))), dtype)

        def coins(sides: int, shape: Any, device: Any = None) -> Any:
            return torch.as_tensor((tape(tuple(shape)) > 0).astype(np.int64))

        own = (jax.random, "rademacher", signs) if engine is NUMPYRO else (torch, "randint", coins)
        with mock.patch.object(recipe, "EXACT_SIZE", D - 1), mock.patch.object(*own):
            # its solver is compiled here alone: nothing else has estimates of so few entries
            return engine.call("log_prob", program, X[:5], num_particles=3)

    first, second, other = found(NUMPYRO, 3), found(PYRO, 3), found(PYRO, 4)
    assert first.kind == second.kind == "estimate"
    np.testing.assert_allclose(first.value, second.value, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(first.stderr, second.stderr, rtol=1e-3, atol=1e-4)
    assert np.abs(other.value - second.value).max() > 1e-2
