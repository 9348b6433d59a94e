"""Programs of every order, against the enumeration of all orders: densities, the loss of one place, imputations."""

from functools import cache
from itertools import permutations, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO
from montecarlo import limit, worst_moment, worst_stated_error
from scipy.special import log_expit, logsumexp

from deepgen.models.autoregressive import agnostic

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
D = 3
ORDERS = list(permutations(range(D)))
STATES = np.array(list(product([0.0, 1.0], repeat=D)), np.float32)
RNG = np.random.default_rng(8)
WEIGHT, BIAS = 1.5 * RNG.normal(size=(D, 2 * D)).astype(np.float32), RNG.normal(size=D).astype(np.float32)
HOLES = np.array([[np.nan, 1.0, np.nan], [0.0, np.nan, np.nan], [1.0, np.nan, 0.0], [0.0, 1.0, 1.0]], np.float32)


def conditionals(x: np.ndarray, decided: list[int]) -> np.ndarray:
    """log p of each entry given the decided ones, logistic regressions on values and mask."""
    mask = np.isin(np.arange(D), decided).astype(float)
    logits = np.concatenate([np.where(mask == 1, x, 0.0), np.broadcast_to(mask, x.shape)], axis=1) @ WEIGHT.T + BIAS
    return log_expit(np.where(x == 1, logits, -logits))


def under(x: np.ndarray, order: Any) -> np.ndarray:
    return sum(conditionals(x, list(order[:d]))[:, order[d]] for d in range(len(order)))


def mixture(x: np.ndarray) -> np.ndarray:
    return logsumexp([under(x, order) for order in ORDERS], axis=0) - np.log(len(ORDERS))


def evidence(x: np.ndarray) -> np.ndarray:
    """log p of the observed entries, decided first, over all of their orders."""
    found = []
    for row in x:
        seen = np.flatnonzero(~np.isnan(row))
        each = [under(row[None], order)[0] for order in permutations(seen)]
        found.append(logsumexp(each) - np.log(len(each)))
    return np.array(found)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row given what is observed, over all orders of the missing entries."""
    mean, covariance = np.zeros((len(x), D)), np.zeros((len(x), D, D))
    for i, row in enumerate(x):
        seen, lost = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        states = STATES[(STATES[:, seen] == row[seen]).all(1)]
        p = np.zeros(len(states))
        for order in permutations(lost):
            steps = [conditionals(states, [*seen, *order[:d]])[:, order[d]] for d in range(len(order))]
            p += np.exp(np.sum(steps, axis=0)) / len(list(permutations(lost)))
        mean[i] = p @ states
        covariance[i] = np.einsum("s,si,sj->ij", p, states - mean[i], states - mean[i])
    return mean, covariance


@cache
def program(engine: Any) -> Any:
    network = {"network": "MLP", "in_size": 2 * D, "out_size": D, "hidden": []}
    config = {"program": "order_agnostic", "observation": {"law": "bernoulli", "event_shape": [D]}, "network": network}
    tensors = {"network.layers.0.weight": WEIGHT, "network.layers.0.bias": BIAS}
    return engine.with_tensors(engine.build("autoregressive", config), tensors)


def plain(values: Any) -> np.ndarray:
    return np.asarray(values.detach() if hasattr(values, "detach") else values, float)


def law(engine: Any, order: Any, rows: int, place: float | None = None) -> Any:
    priorities = np.broadcast_to(np.argsort(order).astype(np.float32), (rows, D))
    places = None if place is None else engine.array(np.full(rows, place, np.float32))
    own = program(engine)
    return engine.face.AnyOrder(own.network, own.observation, engine.array(priorities.copy()), places)


@BOTH
def test_the_density_of_every_order_is_the_product_of_its_conditionals(engine: Any) -> None:
    for order in ORDERS:
        found = plain(law(engine, order, len(STATES)).log_prob(engine.array(STATES)))
        np.testing.assert_allclose(found, under(STATES, order), atol=1e-5)
        assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-5)
    assert np.abs(under(STATES, ORDERS[0]) - under(STATES, ORDERS[-1])).max() > 0.1, "orders that agree prove nothing"


@BOTH
def test_the_loss_of_one_place_has_the_mean_over_orders_without_bias(engine: Any) -> None:
    each = [
        [plain(law(engine, order, len(STATES), (d + 0.5) / D).log_prob(engine.array(STATES))) for d in range(D)]
        for order in ORDERS
    ]
    truth = np.mean([under(STATES, order) for order in ORDERS], axis=0)
    np.testing.assert_allclose(np.mean(each, axis=(0, 1)), truth, atol=1e-5)
    weights = D / (D - np.arange(D))
    unscaled = np.mean(np.array(each) / weights[:, None], axis=(0, 1))
    assert np.abs(unscaled - truth).max() > 0.1, "a scale left out would pass"


@BOTH
def test_a_plain_svi_estimates_that_mean(engine: Any) -> None:
    """The loss of `RandomMember` over many keys, and that of the whole order beside it."""
    own, truth = program(engine), -np.mean([under(STATES, order) for order in ORDERS], axis=0).sum()
    for objective in (engine.face.RandomMember(), engine.face.ELBO()):
        if engine is NUMPYRO:
            value = jax.jit(lambda key, o=objective: o.loss(key, {}, own.model, own.guide, jnp.asarray(STATES)))
            losses = np.array([float(value(key)) for key in jax.random.split(jax.random.key(1), 400)])
        else:
            with pyro.get_param_store().scope():
                pyro.set_rng_seed(1)
                x = torch.as_tensor(STATES)
                losses = np.array([objective.loss(own.model, own.guide, x) for _ in range(400)])
        score = (losses.mean() - truth) / (losses.std(ddof=1) / np.sqrt(len(losses)))
        assert abs(score) < limit(2)
        assert losses.std() > 0


@BOTH
def test_log_prob_averages_over_orders(engine: Any) -> None:
    found = engine.call("log_prob", program(engine), STATES, num_particles=4000)
    assert found.kind == "bound"
    assert worst_stated_error(found.value, found.stderr, mixture(STATES)) < 1
    assert np.abs(found.value - np.mean([under(STATES, o) for o in ORDERS], axis=0)).max() > 0.05
    holes = engine.call("log_prob", program(engine), HOLES, num_particles=4000)
    assert worst_stated_error(holes.value, holes.stderr, evidence(HOLES)) < 1
    filled = engine.call("log_prob", program(engine), np.nan_to_num(HOLES), num_particles=100)
    assert np.abs(filled.value - evidence(HOLES)).max() > 0.1


@BOTH
def test_draws_have_the_law_of_the_mixture(engine: Any) -> None:
    draws = plain(engine.call("sample", program(engine), 8000, seed=2))
    p = np.exp(mixture(STATES))
    assert p.sum() == pytest.approx(1.0)
    mean = p @ STATES
    covariance = np.einsum("s,si,sj->ij", p, STATES - mean, STATES - mean)
    assert worst_moment(draws.reshape(1, 8000, 1, D), mean[None], covariance[None]) < 1
    assert worst_moment(draws.reshape(1, 8000, 1, D), mean[None] + 0.05, covariance[None]) > 1


@BOTH
def test_imputations_take_what_is_observed_as_decided(engine: Any) -> None:
    post = engine.call("impute", program(engine), HOLES, num_samples=2000, seed=3)
    assert post.attrs["method"] == "observed-first"
    assert post.attrs["law"] == "exact"
    assert "observed entries decided first" in post.attrs["law_of"]
    draws = post.posterior["x"].values.astype(float)
    np.testing.assert_array_equal(draws[..., ~np.isnan(HOLES)], np.broadcast_to(HOLES[~np.isnan(HOLES)], (4, 2000, 7)))
    assert worst_moment(draws, *moments(HOLES)) < 1
    blind = moments(np.where(np.isnan(HOLES), np.nan, 1 - HOLES))
    shifted = np.where(np.isnan(HOLES), blind[0], HOLES)
    assert worst_moment(draws, shifted, moments(HOLES)[1]) > 1, "draws that do not see the observed would pass"


@BOTH
def test_a_fit_learns_a_law_and_takes_holes(engine: Any) -> None:
    rng = np.random.default_rng(4)
    first = rng.integers(0, 2, (400, 1))
    x = np.concatenate([first, first, 1 - first], axis=1).astype(np.float32)
    start = engine.call(engine.face.OrderAgnostic.mlp, (D,), hidden=(16,), data=x)
    fit = engine.call("fit", start, x, steps=400, learning_rate=0.02, progress=False)
    assert engine.call("log_prob", fit.program, x[:20], num_particles=20).value.mean() > -0.9
    one = np.array([[np.nan, np.nan, 1.0]], np.float32)
    assert engine.call("impute", fit.program, one, num_samples=100).posterior["x"].values[..., :2].mean() < 0.1
    x[rng.random(x.shape) < 0.3] = np.nan
    x = x[~np.isnan(x).all(1)]
    holed = engine.call("fit", start, x, steps=400, learning_rate=0.02, progress=False)
    assert engine.call("impute", holed.program, one, num_samples=100).posterior["x"].values[..., :2].mean() < 0.1


@BOTH
def test_integers_and_real_numbers(engine: Any) -> None:
    rng = np.random.default_rng(5)
    data = {
        "categorical": (rng.integers(0, 3, (12, 2, 2)).astype(np.int32), {"num_classes": 3}),
        "gaussian_predicted": (rng.standard_normal((12, 2, 2)).astype(np.float32), {}),
        "discretized_logistic": (rng.integers(0, 7, (12, 2, 2)).astype(np.int32), {"num_classes": 7}),
    }
    for name, (x, options) in data.items():
        start = engine.call(engine.face.OrderAgnostic.mlp, (2, 2), name, hidden=(6,), data=x, **options)
        fit = engine.call("fit", start, x, steps=3, progress=False)
        holes = x.copy()
        holes[:, 0, 1] = -1 if x.dtype.kind == "i" else np.nan
        post = engine.call("impute", fit.program, holes, num_samples=2)
        assert np.isfinite(post.posterior["x"].values.astype(float)).all()
        assert np.isfinite(engine.call("log_prob", fit.program, holes, num_particles=4).value).all()


def test_ranks_and_places() -> None:
    observed = np.array([[True, False, True], [True, True, True]])
    rank = agnostic.ranks(np.array([[0.9, 0.1, 0.2], [0.3, 0.2, 0.1]]), observed)
    np.testing.assert_array_equal(rank, [[1, 2, 0], [2, 1, 0]])
    place = agnostic.position(np.array([[0.0, 0.0], [0.49, 0.34], [0.99, 0.99]]), observed)
    np.testing.assert_array_equal(place, [[0, 0], [0, 1], [1, 2]])


@BOTH
def test_refusals(engine: Any) -> None:
    face = engine.face
    network, law = engine.call(face.nn.MLP, 4, 3), face.likelihoods.observation("gaussian_predicted", (2,))
    with pytest.raises(ValueError, match=r"network: got outputs of shape \(1, 3\) .* expected \(1, 4\)"):
        face.OrderAgnostic(network, law)
    with pytest.raises(ValueError, match="likelihood: got 'discretized_logistic' with coupled channels"):
        engine.call(face.OrderAgnostic.mlp, (3, 2, 2), "discretized_logistic")
    with pytest.raises(ValueError, match=r"program: got 'agnostic'; expected one of"):
        engine.build("autoregressive", {"program": "agnostic"})
