"""Masked perceptrons: what depends on what, by the Jacobian; steps against the pass; the engines against each other."""

from typing import Any
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgen.math import degrees
from deepgen.nn import equinox as eqx_nn
from deepgen.nn import masked
from deepgen.nn import torch as torch_nn

ORDER = [3, 0, 5, 1, 4, 2]
CASES: dict[str, dict[str, Any]] = {
    "no hidden layer": {"hidden": []},
    "one layer": {"hidden": [9]},
    "three layers": {"hidden": [7, 8, 6], "direct": False},
    "few units, mixed": {"hidden": [3], "order": ORDER, "seed": 2},
    "context": {"hidden": [8, 8], "order": ORDER, "context_size": 2},
    "context alone": {"hidden": [], "context_size": 2},
    "one-hot": {"hidden": [8], "num_categories": 3, "order": ORDER},
    "range": {"hidden": [8], "input_range": [0.0, 4.0]},
    "pixels": {"hidden": [8, 5], "element_shape": [2]},
    "coupled pixels": {"hidden": [8, 5], "element_shape": [2], "coupled": True, "order": [2, 5, 0, 3, 1, 4]},
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
ROWS = 4


def spec(case: dict[str, Any]) -> dict[str, Any]:
    return {"network": "MaskedMLP", "event_shape": [2, 3], "num_params": 2, "activation": "tanh", **case}


def networks(case: dict[str, Any]) -> tuple[Any, Any]:
    """The network in both engines, at the same random parameters."""
    network = eqx_nn.build(spec(case), jax.random.key(0))
    rng = np.random.default_rng(1)
    parameters = {name: rng.normal(size=leaf.shape) for name, leaf in eqx_nn.state_dict(network).items()}
    return eqx_nn.load_state_dict(network, parameters), torch_nn.load_state_dict(torch_nn.build(spec(case)), parameters)


def data(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng(2)
    x = rng.integers(0, 3, (ROWS, 2, 3)).astype(np.float32)
    return x, rng.normal(size=(ROWS, 2)).astype(np.float32) if "context_size" in case else None


def jacobians(case: dict[str, Any]) -> list[np.ndarray]:
    """(places, D) in each engine, how much the outputs of a place move with an entry: the largest derivative."""
    case = {name: value for name, value in case.items() if name != "num_categories"}
    x, context = data(case)
    first, second = networks(case)
    one, two = jnp.asarray(x[:1]), torch.as_tensor(x[:1])
    c = None if context is None else context[:1]
    by_jax = eqx.filter_jit(jax.jacrev(lambda x: first(x, None if c is None else jnp.asarray(c))))(one)
    by_torch = torch.autograd.functional.jacobian(lambda x: second(x, None if c is None else torch.as_tensor(c)), two)
    return [np.abs(np.asarray(found)).reshape(2, -1, 6).max(0) for found in (by_jax, by_torch)]


def expected(case: dict[str, Any]) -> np.ndarray:
    """(places, D) what is decided before, written down entry by entry."""
    element = tuple(case.get("element_shape", ()))
    table = degrees.order_of((2, 3), element, case.get("order"))
    when = {entry: t for t, row in enumerate(table) for entry in row}
    places = range(3 if case.get("coupled") else 6)
    return np.array([[when[entry] < when[place] for entry in range(6)] for place in places])


@EACH
def test_outputs_depend_on_earlier_entries_and_on_no_others(case: dict[str, Any]) -> None:
    for found in jacobians(case):
        assert ((found > 0) == expected(case)).all()


def forget() -> None:
    """Masks are kept by the sizes they are for."""
    for module in (degrees, masked):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


@EACH
def test_a_mask_that_lets_an_entry_see_itself_shows(case: dict[str, Any]) -> None:
    right = degrees.degrees

    def faulty(*args: Any, **kwargs: Any) -> degrees.Degrees:
        found = right(*args, **kwargs)
        return found._replace(outputs=found.outputs + 1)

    forget()
    with mock.patch.object(degrees, "degrees", faulty):
        for found in jacobians(case):
            assert ((found > 0) != expected(case)).any()
    forget()


def by_steps(case: dict[str, Any]) -> list[np.ndarray]:
    """(n, num_params, places) of each engine, step by step over data that are known."""
    x, context = data(case)
    flat, engines = x.reshape(ROWS, -1), []
    for network, array in zip(networks(case), (jnp.asarray, torch.as_tensor), strict=True):
        order = network.order
        places = order[:, :1] % 3 if case.get("coupled") else order
        cache = network.start(ROWS, None if context is None else array(context))
        previous = array(np.zeros((ROWS, order.shape[1]), np.float32))
        found = np.zeros((ROWS, 2, 3 if case.get("coupled") else 6), np.float32)
        with torch.no_grad():
            for t in range(len(order)):
                outputs, cache = network.step(cache, t, previous)
                found[:, :, places[t]] = np.asarray(outputs)
                previous = array(flat[:, order[t]])
        engines.append(found)
    return engines


def by_pass(case: dict[str, Any]) -> list[np.ndarray]:
    x, context = data(case)
    first, second = networks(case)
    found = first(jnp.asarray(x), None if context is None else jnp.asarray(context))
    with torch.no_grad():
        other = second(torch.as_tensor(x), None if context is None else torch.as_tensor(context)).numpy()
    return [np.asarray(found).reshape(ROWS, 2, -1), other.reshape(ROWS, 2, -1)]


@EACH
def test_engines_agree_and_steps_agree_with_the_pass(case: dict[str, Any]) -> None:
    first, second = by_pass(case)
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
    for found in by_steps(case):
        np.testing.assert_allclose(found, first, rtol=1e-4, atol=1e-5)


def test_a_step_taken_at_the_wrong_time_shows() -> None:
    network = networks(CASES["one layer"])[0]
    x, _ = data({})
    cache = network.start(ROWS)
    found, _ = network.step(cache, 1, jnp.asarray(x.reshape(ROWS, -1)[:, :1]))
    assert not np.allclose(found[..., 0], by_pass(CASES["one layer"])[0][:, :, 2], atol=1e-3)


@pytest.mark.parametrize("name", ["one layer", "one-hot"])
def test_steps_with_gradients_leave_the_cache_as_it_was(name: str) -> None:
    network = networks(CASES[name])[1]
    cache = network.start(ROWS)
    parts = [part for part in (cache.before, *cache.hidden, cache.outputs, cache.decided) if part is not None]
    assert len(parts) == 2 + len(cache.hidden)
    before = [part.clone() for part in parts]
    network.step(cache, 1, torch.ones(ROWS, 1))
    for kept, part in zip(before, parts, strict=True):
        assert torch.equal(kept, part)
    with torch.no_grad():
        network.step(cache, 1, torch.ones(ROWS, 1))
    assert not torch.equal(before[0], parts[0]), "without gradients the cache that came is spent"


@EACH
def test_specifications_make_the_network_again(case: dict[str, Any]) -> None:
    first, second = networks(case)
    assert first.spec() == second.spec()
    assert eqx_nn.build(first.spec(), jax.random.key(3)).spec() == first.spec()
    shapes = {name: tuple(leaf.shape) for name, leaf in eqx_nn.state_dict(first).items()}
    assert shapes == {name: tuple(leaf.shape) for name, leaf in torch_nn.state_dict(second).items()}


@settings(max_examples=50, deadline=None)
@given(width=st.integers(1, 40), steps=st.integers(1, 12), context=st.booleans(), seed=st.none() | st.integers(0, 9))
def test_hidden_layers_hold_every_degree_about_equally(width: int, steps: int, context: bool, seed: int | None) -> None:
    found = degrees.hidden_degrees(width, steps, context=context, seed=seed)
    low = 0 if context or steps == 1 else 1
    assert found.min() >= low
    assert found.max() < max(steps, 1)
    counts = np.bincount(found, minlength=steps)[low:]
    if width >= steps - low:
        assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1


def test_every_unit_is_completed_once() -> None:
    order = degrees.order_of((2, 3), (), ORDER)
    (table,) = degrees.schedule(order, (9,), seed=1)
    assert sorted(table[table < 9].tolist()) == list(range(9))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": [0, 1, 2, 3, 4, 4]}, r"order: got 6 indices.*each of 0 … 5 once"),
        ({"order": [0.0, 1, 2, 3, 4, 5]}, "order: got 6 indices of dtype float64"),
        ({"element_shape": [3]}, r"element_shape: got \(3,\); expected how the event's shape"),
        ({"element_shape": [4], "order": ORDER}, r"element_shape: got \(4,\).*size divides 6"),
        ({"element_shape": [2], "order": ORDER, "coupled": True}, "coupled: got True.*all channels of one pixel"),
        ({"num_categories": 1}, "num_categories: got 1; expected a whole number >= 2"),
        ({"input_range": [1.0, 1.0]}, r"input_range: got \(1.0, 1.0\)"),
        ({"input_range": [0.0, 1.0], "num_categories": 2}, "input_range: .*no num_categories"),
        ({"seed": -1}, "seed: got -1; expected a whole number >= 0"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eqx_nn.build(spec(arguments), jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        torch_nn.build(spec(arguments))


def test_a_context_that_does_not_fit_is_refused() -> None:
    x = np.zeros((ROWS, 2, 3), np.float32)
    for case, context in ((CASES["context"], None), (CASES["one layer"], np.zeros((ROWS, 2), np.float32))):
        for network, array in zip(networks(case), (jnp.asarray, torch.as_tensor), strict=True):
            with pytest.raises(ValueError, match="context: got"):
                network(array(x), None if context is None else array(context))
            with pytest.raises(ValueError, match="context: got"):
                network.start(ROWS, None if context is None else array(context))
