"""Conditional autoregressive programs under every verb: laws, caches, causality, checkpoints, starts, refusals."""

from functools import cache
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pyro
import pytest
from engines import ENGINES, NUMPYRO
from montecarlo import worst_moment
from registry import randomised
from sequence_laws import binary_table

from deepgen.inference.imputation.enumeration import completions

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
CONSTRUCTORS: dict[str, tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]] = {
    "made": ((2, 3), {"hidden": (8,)}, ()),
    "pixelcnn": ((1, 3, 2), {"channels": 6, "num_layers": 2, "first_kernel_size": 3, "activation": "gelu"}, (3, 2)),
    "wavenet": (
        (6,),
        {"likelihood": "bernoulli", "channels": 4, "skip_channels": 5, "dilations": (1, 2), "activation": "gelu"},
        (6,),
    ),
    "transformer": ((6,), {"likelihood": "bernoulli", "width": 8, "num_heads": 2, "num_layers": 1}, (6,)),
}
ALL = pytest.mark.parametrize("name", CONSTRUCTORS)
GIVEN = np.eye(2, dtype=np.float32)[np.arange(8) % 2]


@cache
def made(engine: Any, name: str) -> Any:
    """A program at random parameters, moved far from where the context says nothing."""
    shape, options, _ = CONSTRUCTORS[name]
    start = engine.call(getattr(engine.face.AutoregressiveModel, name), shape, context_dim=2, **options)
    return randomised(engine, "autoregressive", start.spec(), seed=3)


def rows(name: str, count: int = 8) -> np.ndarray:
    shape = CONSTRUCTORS[name][0]
    return np.random.default_rng(1).integers(0, 2, (count, *shape)).astype(np.float32)


def value(engine: Any, program: Any, x: np.ndarray, y: Any) -> np.ndarray:
    return np.asarray(engine.call("log_prob", program, x, y=y).value)


def plain(values: Any) -> np.ndarray:
    return np.asarray(values.detach() if hasattr(values, "detach") else values)


@ALL
@BOTH
def test_each_row_has_the_law_of_its_own_context(engine: Any, name: str) -> None:
    program, x = made(engine, name), rows(name)
    assert program.context_dim == 2
    found = value(engine, program, x, GIVEN)
    for own in (0, 1):
        np.testing.assert_allclose(value(engine, program, x, np.eye(2)[own])[own::2], found[own::2], atol=1e-5)
    assert np.abs(value(engine, program, x, 4 * (1 - GIVEN)) - found).max() > 1e-2
    states = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T.reshape(-1, *program.event_shape)
    total = np.exp(value(engine, program, states.astype(np.float32), np.eye(2)[1])).sum()
    assert total == pytest.approx(1.0, abs=1e-4)


@ALL
@BOTH
def test_cached_draws_are_the_naive_ones(engine: Any, name: str) -> None:
    given, count = np.tile(GIVEN, (50, 1)), 400
    program, context = made(engine, name), engine.array(given)
    law = program.distribution(context)
    order, flat = program.network.order, np.zeros((count, 6), np.float32)
    keys = jax.random.split(jax.random.key(3), len(order))
    element = program.observation.element(())
    pyro.set_rng_seed(3)
    for t, entries in enumerate(order):
        outputs = plain(program.network(engine.array(flat.reshape(count, *program.event_shape)), context)).reshape(
            count, 1, -1
        )
        own = element(engine.array(outputs[:, :, entries].reshape(count, 1)))
        flat[:, entries] = plain(own.sample(keys[t]) if engine is NUMPYRO else own.sample()).reshape(count, 1)
    pyro.set_rng_seed(3)
    drawn = law.sample(jax.random.key(3)) if engine is NUMPYRO else law.sample()
    np.testing.assert_array_equal(plain(drawn).reshape(count, 6), flat)
    pyro.set_rng_seed(3)
    other = program.distribution(engine.array(1 - given))
    drawn = other.sample(jax.random.key(3)) if engine is NUMPYRO else other.sample()
    assert (plain(drawn).reshape(count, 6) != flat).any(), "a context that nobody sees would pass"


@ALL
def test_outputs_depend_on_what_was_before_and_on_the_context(name: str) -> None:
    program = made(NUMPYRO, name)
    x, context = jnp.asarray(rows(name, 1)), jnp.asarray(GIVEN[:1])
    slopes = jax.jit(jax.jacrev(lambda x, c: program.network(x, c).reshape(-1), argnums=(0, 1)))
    by_x, by_context = slopes(x, context)
    order = program.network.order.reshape(-1)
    seen = np.asarray(by_x).reshape(6, 6)[order][:, order]
    assert np.abs(np.triu(seen)).max() == 0
    assert np.abs(np.tril(seen, -1)).max() > 1e-3
    assert np.abs(np.asarray(by_context)).max() > 1e-3


@ALL
def test_engines_agree_and_read_each_other(name: str, tmp_path: Any) -> None:
    first, second = ENGINES
    first.face.save(made(first, name), tmp_path)
    read = second.face.load(tmp_path)
    assert read.spec() == made(first, name).spec()
    x, places = rows(name), CONSTRUCTORS[name][2]
    contexts = [GIVEN] + ([np.random.default_rng(2).standard_normal((8, 2, *places)).astype(np.float32)] * bool(places))
    for context in contexts:
        mine = value(first, made(first, name), x, context)
        np.testing.assert_allclose(mine, value(second, read, x, context), rtol=1e-4, atol=1e-5)


@ALL
@BOTH
def test_the_context_is_learnt_and_drawn_from(engine: Any, name: str) -> None:
    """Rows of ones and rows of zeros, told apart by nothing else."""
    shape, options, _ = CONSTRUCTORS[name]
    x = np.repeat(GIVEN[:, 1], 6).reshape(8, *shape)
    program = engine.call(getattr(engine.face.AutoregressiveModel, name), shape, context_dim=2, **options)
    fit = engine.call("fit", program, x, GIVEN, steps=150, learning_rate=0.03, progress=False)
    own, other = (value(engine, fit.program, x, y).mean() for y in (GIVEN, 1 - GIVEN))
    assert own > -1
    assert own - other > 2
    first = np.full((8, *shape), np.nan, np.float32)
    first.reshape(8, 6)[:, 0] = 1.0
    assert plain(engine.call("sample", fit.program, 40, y=GIVEN[1])).mean() > 0.8
    clamped = plain(engine.call("sample", fit.program, 8, y=GIVEN, given=first))
    np.testing.assert_array_equal(clamped.reshape(8, 6)[:, 0], 1.0)


SHIFTS = np.array([[1.0, -0.5, 0.3, 0.8], [-1.2, 0.6, 0.0, -0.4]], np.float32)


@cache
def shifted(engine: Any) -> Any:
    """Logistic regressions whose offsets the context moves: given a context a binary table of its own."""
    law = binary_table()
    config = {**law["config"], "network": {**law["config"]["network"], "context_size": 2}}
    tensors = {**law["tensors"], "network.context.weight": np.ascontiguousarray(SHIFTS.T)}
    return engine.with_tensors(engine.build("autoregressive", config), tensors)


@BOTH
@pytest.mark.parametrize("method", ["enumerate", "smc", "exact"])
def test_missing_entries_have_the_law_of_their_row_s_context(engine: Any, method: str) -> None:
    laws, rng = [binary_table(shift=shift) for shift in SHIFTS], np.random.default_rng(3)
    which = np.arange(24) % 2
    x = np.stack([laws[own]["draw"](rng, 1)[0] for own in which])
    hidden = np.tile([False, True, False, True] if method == "exact" else [True, False, False, True], (24, 1))
    x[hidden] = np.nan
    few = {"num_particles": 2000} if method == "smc" else {}
    post = engine.call("impute", shifted(engine), x, y=np.eye(2)[which], method=method, num_samples=500, seed=4, **few)
    found = post.sample_stats["log_evidence"].values
    draws = post.posterior["x"].values.astype(float)
    ess = post.sample_stats["ess"].values if method == "smc" else np.inf

    def score(own: np.ndarray) -> float:
        moments = [laws[own[i]]["conditional"](x[i : i + 1]) for i in range(24)]
        return worst_moment(draws, *(np.concatenate(part) for part in zip(*moments, strict=True)), ess)

    truth = np.array([laws[own]["log_prob"](x[i : i + 1])[0] for i, own in enumerate(which)])
    np.testing.assert_allclose(found, truth, atol=0.1 if method == "smc" else 2e-5)
    assert score(which) < 1
    assert score(1 - which) > 1, "the context of another row would pass"
    with mock.patch.object(completions, "MOST", 0 if method == "smc" else completions.MOST):
        value = engine.call("log_prob", shifted(engine), x, y=np.eye(2)[which])
    assert value.kind == ("estimate" if method == "smc" else "exact")
    assert (np.abs(value.value - truth) < 5 * value.stderr + 2e-5).all()


@BOTH
def test_an_ensemble_takes_a_context(engine: Any) -> None:
    model = engine.face.AutoregressiveModel.made
    program = engine.call(model, (4,), hidden=(6,), order="random", num_members=3, context_dim=2)
    x = np.random.default_rng(0).integers(0, 2, (8, 4)).astype(np.float32)
    fit = engine.call("fit", program, x, GIVEN, steps=3, progress=False)
    members = fit.program.sequential(engine.array(GIVEN)).members
    each = np.stack([plain(member.log_prob(engine.array(x), engine.array(np.arange(8)))) for member in members])
    np.testing.assert_allclose(value(engine, fit.program, x, GIVEN), np.log(np.exp(each).mean(0)), atol=1e-5)
    assert plain(engine.call("sample", fit.program, 5, y=GIVEN[0])).shape == (5, 4)


STARTED = {
    **{name: (*CONSTRUCTORS[name][:2], "bernoulli") for name in ("pixelcnn", "wavenet", "transformer")},
    "pixelcnn-colours": ((3, 2, 2), {"channels": 6, "num_layers": 1, "first_kernel_size": 3}, "bernoulli"),
    "wavenet-frames": ((4, 2), {"channels": 4, "skip_channels": 5, "dilations": (1,)}, "bernoulli"),
}


@pytest.mark.parametrize("name", STARTED)
@BOTH
def test_outputs_start_at_the_marginals(engine: Any, name: str) -> None:
    """With all other weights of the last layer at zero, the law of an entry is the marginal of its channel."""
    shape, options, law = STARTED[name]
    rng = np.random.default_rng(5)
    channels = np.array([0.2, 0.7, 0.9])
    axis = {"pixelcnn-colours": 1, "wavenet-frames": 2}.get(name)
    chance = channels[:1] if axis is None else channels[: shape[axis - 1]]
    spread = chance if axis != 1 else chance[:, None, None]
    x = (rng.random((400, *shape)) < spread).astype(np.float32)
    constructor = getattr(engine.face.AutoregressiveModel, name.split("-")[0])
    program = engine.call(constructor, shape, **{**options, "likelihood": law}, data=x)
    tensors = dict(engine.tensors(program))
    tensors["network.output.weight"] = 0 * tensors["network.output.weight"]
    found = plain(engine.call(constructor, shape, **{**options, "likelihood": law}).network(engine.array(x[:1])))
    assert found.shape == (1, 1, *shape)
    program = engine.with_tensors(program, tensors)
    means = 1 / (1 + np.exp(-plain(program.network(engine.array(x[:1])))[0, 0]))
    observed = x.mean(tuple(i for i in range(x.ndim) if i != axis), keepdims=True)[0]
    np.testing.assert_allclose(means, np.broadcast_to(observed, shape), atol=1e-5)


@BOTH
def test_refusals(engine: Any) -> None:
    model = engine.face.AutoregressiveModel
    x = rows("wavenet", 3)
    program, bare = made(engine, "wavenet"), engine.call(model.made, (6,), hidden=(4,))
    with pytest.raises(ValueError, match=r"context: got none; expected \(n, 2\) or \(n, 2, 6\)"):
        engine.call("log_prob", program, x)
    with pytest.raises(ValueError, match=r"context: got shape \(3, 3\); expected \(3, 2\) or \(3, 2, 6\)"):
        engine.call("log_prob", program, x, y=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="context: got 4 rows; expected 3"):
        engine.call("log_prob", program, x, y=np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"context: got shape \(3, 2\); expected none.*Make the program with"):
        engine.call("fit", bare, x, np.zeros((3, 2)), steps=1)
    with pytest.raises(ValueError, match=r"context: got shape \(3, 2\); expected none"):
        bare.distribution(engine.array(np.zeros((3, 2), np.float32)))
    tied = {"num_classes": 2, "tied": True, "width": 8, "num_heads": 2, "num_layers": 1}
    with pytest.raises(ValueError, match="data: got some for outputs tied to the embeddings"):
        engine.call(model.transformer, (6,), data=x.astype(np.int64), **tied)
    with pytest.raises(ValueError, match="x: got values from 0 to 3"):
        engine.call(model.pixelcnn, (1, 3, 2), data=3 * rows("pixelcnn"))
