"""The autoregressive law: cached against naive draws, clamped entries, ensembles, and what is refused."""

from itertools import product
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO
from registry import INSTANCES, Instance, cases, randomised

MINE = [instance for instance in INSTANCES if instance.family == "autoregressive" and "program" not in instance.config]
SINGLE = [instance for instance in MINE if not instance.config.get("members")]
MEMBERS = next(instance for instance in MINE if instance.config.get("members"))
BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)


def plain(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def naive(engine: Any, program: Any, rows: int) -> np.ndarray:
    """Every step a whole pass over what is decided so far, the draws from the same keys or seeds as the cached loop."""
    network, element = program.network, program.observation.element(program.network.element_shape)
    order = network.order
    flat = np.zeros((rows, order.size), np.float32)
    keys = jax.random.split(jax.random.key(3), len(order))
    pyro.set_rng_seed(3)
    for t, entries in enumerate(order):
        x = flat.reshape(rows, *program.event_shape)
        outputs = plain(network(engine.array(x)))
        places = entries[:1] % len(order) if program.observation.outputs_shape[1:] != program.event_shape else entries
        mine = outputs.reshape(rows, network.num_params, -1)[:, :, places].reshape(rows, *element.outputs_shape)
        law = element(engine.array(mine))
        drawn = law.sample(keys[t]) if engine is NUMPYRO else law.sample()
        flat[:, entries] = plain(drawn).reshape(rows, -1)
    return flat.reshape(rows, *program.event_shape)


def cached(engine: Any, program: Any, rows: int) -> np.ndarray:
    law = program.distribution()
    if engine is NUMPYRO:
        return np.asarray(jax.jit(lambda key: law.sample(key, (rows,)))(jax.random.key(3)))
    pyro.set_rng_seed(3)
    return law.sample((rows,)).numpy()


@pytest.mark.parametrize(("instance", "engine"), cases(SINGLE))
def test_cached_draws_are_the_naive_ones(instance: Instance, engine: Any) -> None:
    program = randomised(engine, instance.family, instance.config, seed=4)
    expected = naive(engine, program, 6)
    np.testing.assert_allclose(cached(engine, program, 6), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("instance", "engine"), cases(SINGLE))
def test_a_forgotten_entry_shows_in_cached_draws(instance: Instance, engine: Any) -> None:
    """At weights so large that an entry hangs on the one before it, and not on biases alone."""
    program = randomised(engine, instance.family, instance.config, seed=4)
    program = engine.with_tensors(
        program, {name: 3 * value if value.ndim > 1 else value for name, value in engine.tensors(program).items()}
    )
    right = cached(engine, program, 40)
    kind = type(program.network)
    step = kind.step
    with mock.patch.object(kind, "step", lambda self, cache, t, x: step(self, cache, t, 0 * x)):
        assert not np.allclose(cached(engine, program, 40), right, atol=1e-2)


@pytest.mark.parametrize(("instance", "engine"), cases(MINE))
def test_known_entries_are_clamped(instance: Instance, engine: Any) -> None:
    program = randomised(engine, instance.family, instance.config, seed=4)
    x = instance.data(np.random.default_rng(0), 8)
    hidden = np.zeros(x.shape, bool)
    hidden[..., -1] = True
    holes = np.where(hidden, -1 if x.dtype.kind == "i" else np.nan, x).astype(x.dtype)
    found = plain(engine.call("sample", program, 8, given=holes))
    np.testing.assert_array_equal(found[~hidden], x[~hidden])
    assert np.isfinite(found).all()
    one = plain(engine.call("sample", program, 5, given=holes[0]))
    np.testing.assert_array_equal(one[:, ~hidden[0]], np.repeat(x[:1], 5, axis=0)[:, ~hidden[0]])


def every_state(shape: tuple[int, ...]) -> np.ndarray:
    return np.array(list(product([0, 1], repeat=int(np.prod(shape)))), np.float32).reshape(-1, *shape)


@BOTH
def test_an_ensemble_is_the_mixture_of_its_members(engine: Any) -> None:
    program = randomised(engine, MEMBERS.family, MEMBERS.config, seed=4)
    states = every_state(program.event_shape)
    p = np.exp(engine.call("log_prob", program, states).value)
    assert p.sum() == pytest.approx(1.0, abs=1e-5)
    tensors, single = engine.tensors(program), []
    for order, seed in MEMBERS.config["members"]:
        network = {**MEMBERS.config["network"], "order": order, "seed": seed}
        alone = engine.build(MEMBERS.family, {**MEMBERS.config, "network": network, "members": []})
        single.append(np.exp(engine.call("log_prob", engine.with_tensors(alone, tensors), states).value))
    np.testing.assert_allclose(p, np.mean(single, axis=0), rtol=1e-4, atol=1e-7)
    assert not np.allclose(p, np.exp(np.mean(np.log(single), axis=0)), rtol=1e-2), "averaged logarithms would pass"

    drawn = plain(engine.call("sample", program, 4000, seed=2)).reshape(4000, -1)
    counts = np.bincount((drawn @ 2 ** np.arange(5, -1, -1)).astype(int), minlength=64)

    def score(p: np.ndarray) -> float:
        """Chi-square of 64 cells, few of them rare, in standard deviations from its mean."""
        return float((((counts - 4000 * p) ** 2 / (4000 * p)).sum() - 63) / np.sqrt(2 * 63 + (1 / (4000 * p)).sum()))

    assert abs(score(p)) < 4.5
    assert score(single[0] / single[0].sum()) > 4.5


@BOTH
def test_a_random_member_bounds_the_mixture(engine: Any) -> None:
    program = randomised(engine, MEMBERS.family, MEMBERS.config, seed=4)
    x = MEMBERS.data(np.random.default_rng(1), 5)
    law = program.distribution()
    value = -float(np.asarray(engine.call("log_prob", program, x).value).sum())
    if engine is NUMPYRO:
        keys = jax.random.split(jax.random.key(0), 40)
        losses = [float(engine.face.RandomMember().loss(key, {}, program.model, program.guide, x)) for key in keys]
        members = [-float(law.at_random(jax.random.key(i)).log_prob(jnp.asarray(x)).sum()) for i in range(12)]
    else:
        with pyro.get_param_store().scope():
            pyro.set_rng_seed(0)
            x = torch.as_tensor(x)
            losses = [engine.face.RandomMember().loss(program.model, program.guide, x) for _ in range(40)]
        members = [-float(law.at_random().log_prob(x).sum().detach()) for _ in range(12)]
    assert {round(loss, 3) for loss in losses} == {round(member, 3) for member in members}
    assert len({round(loss, 3) for loss in losses}) == 2
    assert np.mean(list({round(loss, 3) for loss in losses})) > value


@BOTH
def test_refusals(engine: Any) -> None:
    made = engine.face.AutoregressiveModel.made
    with pytest.raises(ValueError, match=r"likelihood: got 'gaussian_per_dimension'.*the same for every entry"):
        engine.call(made, (3,), "gaussian_per_dimension")
    with pytest.raises(ValueError, match=r"order: got 'snake'; expected one of \['random'\]"):
        engine.call(made, (3,), order="snake")
    with pytest.raises(ValueError, match="num_members: got 0"):
        engine.call(made, (3,), num_members=0)
    program = engine.call(made, (3,), hidden=(4,))
    x = np.array([[0.0, 1.0, np.nan]], np.float32)
    with (
        mock.patch.object(type(program), "imputers", ()),
        pytest.raises(ValueError, match="whose family has no way to impute"),
    ):
        engine.call("impute", program, x)
    with pytest.raises(ValueError, match="given: got 1 rows for num_samples=2"):
        engine.call("sample", program, 2, given=x)
    vae = engine.call(engine.face.VAE.mlp, (3,), 2, hidden=(4,))
    with pytest.raises(ValueError, match="given: got known entries of a VAE"):
        engine.call("sample", vae, 1, given=x)
    with pytest.raises(ValueError, match="network: got 1 numbers for each entry; expected 2"):
        engine.face.Autoregressive(program.network, engine.face.likelihoods.observation("gaussian_predicted", (3,)))
