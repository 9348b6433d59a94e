"""Dropout of the causal transformer: what is dropped and by how much the rest grows, and that `fit` alone drops."""

from functools import cache
from typing import Any
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO

from deepgen.models.autoregressive import attention

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
RATE, ROWS, LENGTH = 0.25, 24, 5
SIZES: dict[str, Any] = {"width": 8, "num_heads": 2, "num_layers": 2}


@cache
def program(engine: Any, rate: float = RATE) -> Any:
    """Its parameters those of one draw, far from where they start."""
    made = engine.call(engine.face.AutoregressiveModel.transformer, (LENGTH,), "bernoulli", dropout=rate, **SIZES)
    rng = np.random.default_rng(3)
    moved = {
        name: 0.5 * rng.standard_normal(value.shape).astype(np.float32)
        for name, value in sorted(engine.tensors(made).items())
    }
    return engine.with_tensors(made, moved)


def rows(seed: int = 0, n: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (n, LENGTH)).astype(np.float32)


def uniforms(seed: int = 1) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    shapes = attention.noise_shapes(ROWS, LENGTH, 8, 2, 2)
    return [[rng.uniform(size=shape).astype(np.float32) for shape in own] for own in shapes]


def outputs(engine: Any, network: Any, noise: Any = None) -> np.ndarray:
    noise = None if noise is None else [[engine.array(own) for own in layer] for layer in noise]
    if engine is NUMPYRO:
        return np.asarray(whole(network, engine.array(rows()), noise))
    with torch.no_grad():
        return np.asarray(network(engine.array(rows()), noise=noise))


@eqx.filter_jit
def whole(network: Any, x: jax.Array, noise: Any) -> jax.Array:
    """What a network of Equinox gives, compiled once."""
    return network(x, noise=noise)


def losses(engine: Any, objective: Any, made: Any, number: int) -> np.ndarray:
    """A loss a row, its noise drawn again ``number`` times."""
    x = engine.array(rows())
    if engine is NUMPYRO:
        draw = jax.jit(lambda key: objective.loss(key, {}, made.model, made.guide, x))
        return np.array([float(draw(key)) for key in jax.random.split(jax.random.key(3), number)]) / ROWS
    with pyro.get_param_store().scope():
        pyro.set_rng_seed(3)
        return np.array([objective.loss(made.model, made.guide, x) for _ in range(number)]) / ROWS


def mean_log_prob(engine: Any, made: Any, x: np.ndarray) -> float:
    return float(np.asarray(engine.call("log_prob", made, x).value).mean())


def excess(drop: Any) -> float:
    """How far the mean of what is dropped is from what came, in five standard errors, and so the share that is kept."""
    x, noise = np.full(4000, 3.0), np.random.default_rng(0).uniform(size=4000)
    left = drop(x, noise, RATE)
    share = abs((left > 0).mean() - (1 - RATE)) / np.sqrt(RATE * (1 - RATE) / len(x))
    return max(share, abs(left.mean() - 3.0) / (left.std(ddof=1) / np.sqrt(len(x)))) / 5


def test_the_mean_over_the_noise_is_what_came() -> None:
    """By 5 standard errors (below 1e-5 a run); neither a missing scale nor a wrong share passes."""
    assert excess(attention.drop) < 1
    assert excess(lambda x, noise, rate: np.where(noise >= rate, x, 0.0)) > 1
    assert excess(lambda x, noise, rate: np.where(noise < rate, x / rate, 0.0)) > 1


def test_the_engines_drop_the_same_and_every_noise_counts() -> None:
    """At the same noise the same outputs; and a unit more or less anywhere changes them."""
    first, second = (outputs(engine, program(engine).network, uniforms()) for engine in ENGINES)
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
    assert np.abs(first - outputs(ENGINES[0], program(ENGINES[0]).network)).max() > 0.1
    for i, layer in enumerate(uniforms()):
        for j, own in enumerate(layer):
            noise = uniforms()
            # of the first row: what its last place takes from its first, or its first place's first unit
            at = (0, 0, LENGTH - 1, 0) if own.ndim == 4 else (0, 0, 0)
            noise[i][j][at] = 0.9 if own[at] < RATE else 0.1
            changed = np.abs(outputs(NUMPYRO, program(NUMPYRO).network, noise) - first).max(axis=(1, 2))
            assert changed[0] > 1e-4
            assert changed[1:].max() < 1e-6


@BOTH
def test_at_rate_zero_nothing_changes(engine: Any) -> None:
    """Neither a call with noise nor the objective."""
    still = program(engine, 0.0)
    np.testing.assert_allclose(
        outputs(engine, still.network, uniforms()), outputs(engine, still.network), rtol=1e-4, atol=1e-5
    )
    assert still.objective() == engine.face.ELBO()
    assert program(engine).objective() == engine.face.RandomDropout()
    assert np.unique(losses(engine, engine.face.RandomDropout(), still, 3)).size == 1


@BOTH
def test_the_objective_of_a_fit_is_noisy_and_nothing_else_is(engine: Any) -> None:
    """The plain bound of the same model and the log density agree, without noise."""
    drawn = losses(engine, engine.face.RandomDropout(), program(engine), 8)
    plain = losses(engine, engine.face.ELBO(), program(engine), 2)
    assert np.unique(drawn).size == 8
    assert plain[0] == plain[1]
    np.testing.assert_allclose(-plain[0], mean_log_prob(engine, program(engine), rows()), rtol=1e-5)
    np.testing.assert_allclose(plain[0], losses(engine, engine.face.ELBO(), program(engine, 0.0), 1)[0], rtol=1e-5)


@BOTH
def test_no_verb_but_fit_asks_for_noise(engine: Any) -> None:
    made = program(engine, 0.3)
    x = rows(n=2)
    x[:, -1] = np.nan
    with mock.patch.object(type(made.network), "noise", side_effect=AssertionError("noise")):
        engine.call("log_prob", made, rows(n=2))
        engine.call("sample", made, 2)
        engine.call("impute", made, x, method="exact", num_samples=2)
        engine.predictive(made, 1, 2, {})
        with pytest.raises(AssertionError, match="noise"):
            engine.call("fit", made, rows(), steps=1, progress=False)


@BOTH
def test_held_out_rows_are_judged_without(engine: Any) -> None:
    """The validation loss is that of the trained program; with the noise of training it would not be."""
    held = rows(seed=9)
    own = engine.face.RandomDropout

    def ended(rate: float) -> tuple[float, float]:
        fit = engine.call("fit", program(engine, rate), rows(), steps=2, validation=held, progress=False)
        return float(fit.validation_losses[-1]), -mean_log_prob(engine, fit.program, held)

    told, truth = ended(0.4)
    np.testing.assert_allclose(told, truth, rtol=1e-5)
    with mock.patch.object(own, "judging", lambda self: self):
        told, truth = ended(0.45)
    assert abs(told - truth) > 1e-3


@BOTH
def test_conditional_programs_drop_too(engine: Any) -> None:
    made = engine.call(
        engine.face.AutoregressiveModel.transformer, (LENGTH,), "bernoulli", context_dim=2, dropout=0.5, **SIZES
    )
    y = np.random.default_rng(2).standard_normal((ROWS, 2)).astype(np.float32)
    fit = engine.call("fit", made, rows(), y=y, steps=2, learning_rate=1e-9, progress=False)
    assert fit.losses[0] != fit.losses[1]
    np.testing.assert_allclose(fit.losses.mean(), np.log(2) * LENGTH, rtol=0.1)


@BOTH
def test_descriptions_and_refusals(engine: Any) -> None:
    spec = program(engine).spec()
    assert spec["network"]["dropout"] == RATE
    assert engine.build("autoregressive", spec).network.dropout == RATE
    older = {**spec, "network": {name: value for name, value in spec["network"].items() if name != "dropout"}}
    assert engine.build("autoregressive", older).network.dropout == 0.0
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"dropout: got .*; expected a rate in \[0, 1\)"):
            engine.call(engine.face.CausalTransformer, (3,), dropout=rate)
    law = engine.face.RandomDropout
    assert law() == law(engine.face.ELBO()) != law(engine.face.ELBO(num_particles=2))
    assert law() != engine.face.RandomMember()
    assert hash(law()) == hash(law())
    assert "RandomDropout(ELBO(" in repr(law())


def test_noise_is_uniform_and_drawn_anew() -> None:
    shapes = attention.noise_shapes(3, LENGTH, 8, 2, 2)
    drawn = program(NUMPYRO).network.noise(jax.random.key(0), 3)
    torch.manual_seed(0)
    own, other = (program(ENGINES[1]).network.noise(3) for _ in range(2))
    for found in (drawn, own):
        assert [[tuple(noise.shape) for noise in layer] for layer in found] == shapes
        flat = np.concatenate([np.asarray(noise).ravel() for layer in found for noise in layer])
        assert 0 <= flat.min() < 0.02
        assert 0.98 < flat.max() < 1
    assert not torch.equal(own[0][0], other[0][0])
    assert not jnp.array_equal(drawn[1][1], drawn[1][2])
