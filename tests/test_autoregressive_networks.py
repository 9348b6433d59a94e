"""PixelCNN, WaveNet and the causal transformer: causality by derivatives, caches, context, the same in both engines."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from deepgen.models.autoregressive import attention, channels
from deepgen.models.autoregressive.numpyro import pixelcnn as jax_pixelcnn
from deepgen.models.autoregressive.numpyro import transformer as jax_transformer
from deepgen.models.autoregressive.numpyro import wavenet as jax_wavenet
from deepgen.models.autoregressive.pyro import pixelcnn as torch_pixelcnn
from deepgen.models.autoregressive.pyro import transformer as torch_transformer
from deepgen.models.autoregressive.pyro import wavenet as torch_wavenet
from deepgen.nn import equinox as eqx_nn
from deepgen.nn import torch as torch_nn

CLASSES: dict[str, tuple[Any, Any]] = {
    "PixelCNN": (jax_pixelcnn.PixelCNN, torch_pixelcnn.PixelCNN),
    "WaveNet": (jax_wavenet.WaveNet, torch_wavenet.WaveNet),
    "CausalTransformer": (jax_transformer.CausalTransformer, torch_transformer.CausalTransformer),
}
PIXELS: dict[str, Any] = {
    "network": "PixelCNN",
    "channels": 6,
    "num_layers": 3,
    "first_kernel_size": 3,
    "activation": "gelu",
}
WAVES: dict[str, Any] = {
    "network": "WaveNet",
    "channels": 5,
    "skip_channels": 6,
    "dilations": [1, 2, 1],
    "activation": "gelu",
}
TOKENS: dict[str, Any] = {"network": "CausalTransformer", "width": 8, "num_heads": 2, "num_layers": 2}
SPECS: dict[str, dict[str, Any]] = {
    "pixels-grey": {**PIXELS, "event_shape": [1, 5, 6]},
    "pixels-colour-context": {
        **PIXELS,
        "event_shape": [3, 4, 3],
        "num_params": 2,
        "input_range": [0, 4],
        "context_size": 2,
    },
    "pixels-places": {**PIXELS, "event_shape": [1, 5, 4], "place_size": 2},
    "pixels-places-context": {**PIXELS, "event_shape": [1, 4, 3], "place_size": 3, "context_size": 2},
    "pixels-coupled": {**PIXELS, "event_shape": [3, 3, 4], "num_params": 10, "input_range": [0, 4], "coupled": True},
    "waves": {**WAVES, "event_shape": [11], "num_params": 2, "kernel_size": 3},
    "wave-frames-context": {**WAVES, "event_shape": [8, 2], "context_size": 2},
    "tokens-tied": {**TOKENS, "event_shape": [9], "num_params": 5, "num_categories": 5, "tied": True},
    "token-frames-context": {**TOKENS, "event_shape": [7, 3], "context_size": 2},
}
ROWS = 3
everything = pytest.mark.parametrize("name", SPECS)
NUMBERS = [name for name, spec in SPECS.items() if "num_categories" not in spec]


def built(spec: dict[str, Any]) -> tuple[Any, Any]:
    """The network in both engines, at the same random parameters."""
    classes, kwargs = CLASSES[spec["network"]], {name: value for name, value in spec.items() if name != "network"}
    network, rng = classes[0](**kwargs, key=jax.random.key(0)), np.random.default_rng(0)
    parameters = {
        name: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape).astype(np.float32)
        for name, leaf in eqx_nn.state_dict(network).items()
    }
    twin: Any = torch_nn.load_state_dict(classes[1](**kwargs), parameters)
    return eqx_nn.load_state_dict(network, parameters), twin


@cache
def pair(name: str) -> tuple[Any, Any]:
    return built(SPECS[name])


def data(name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows and, where the network takes one, a context that differs from place to place."""
    spec, rng = SPECS[name], np.random.default_rng(1)
    shape = spec["event_shape"]
    if "num_categories" in spec or "input_range" in spec:
        x = rng.integers(0, 5, (ROWS, *shape)).astype(np.int32)
    else:
        x = rng.standard_normal((ROWS, *shape)).astype(np.float32)
    places = shape[1:] if spec["network"] == "PixelCNN" else shape[:1]
    size = spec.get("context_size", 0)
    return x, rng.standard_normal((ROWS, size, *places)).astype(np.float32) if size else None


def given(context: np.ndarray | None, convert: Callable[[Any], Any]) -> Any:
    return None if context is None else convert(context)


@cache
def parallel(name: str) -> np.ndarray:
    x, context = data(name)
    return np.asarray(eqx.filter_jit(pair(name)[0])(jnp.asarray(x), given(context, jnp.asarray)))


@eqx.filter_jit
def jax_step(network: Any, cache: Any, t: Any, previous: Any) -> Any:
    return network.step(cache, t, previous)


@cache
def engines(name: str) -> dict[str, Any]:
    """By engine: start, step and the whole pass, on NumPy arrays."""
    network, twin = pair(name)
    whole = eqx.filter_jit(lambda network, x, context: network(x, context))
    return {
        "numpyro": (
            lambda context: network.start(ROWS, given(context, jnp.asarray)),
            lambda cache, t, previous: jax_step(network, cache, jnp.asarray(t), jnp.asarray(previous)),
            lambda x, context: np.asarray(whole(network, jnp.asarray(x), given(context, jnp.asarray))),
        ),
        "pyro": (
            lambda context: twin.start(ROWS, given(context, torch.as_tensor)),
            lambda cache, t, previous: twin.step(cache, t, torch.as_tensor(previous)),
            lambda x, context: twin(torch.as_tensor(x), given(context, torch.as_tensor)).detach().numpy(),
        ),
    }


def of_step(outputs: np.ndarray, network: Any, t: int) -> np.ndarray:
    """(n, P, E) of all outputs, those of a step."""
    flat = outputs.reshape(*outputs.shape[:2], -1)
    return flat[:, :, network.order[t]] if flat.shape[2] == network.order.size else flat[:, :, [t]]


@everything
def test_engines_agree(name: str) -> None:
    twin = pair(name)[1]
    x, context = data(name)
    outputs = twin(torch.as_tensor(x), given(context, torch.as_tensor)).detach().numpy()
    assert outputs.shape == parallel(name).shape
    np.testing.assert_allclose(parallel(name), outputs, rtol=1e-4, atol=1e-5)


@everything
def test_specification_makes_the_network_again(name: str) -> None:
    network, twin = pair(name)
    written = json.loads(json.dumps(network.spec()))
    assert written == json.loads(json.dumps(twin.spec()))
    assert SPECS[name].items() <= written.items()
    again, other = built(written)
    assert eqx.tree_equal(again, network)
    assert other.state_dict().keys() == twin.state_dict().keys() == eqx_nn.state_dict(network).keys()


@everything
@pytest.mark.parametrize("engine", ["numpyro", "pyro"])
def test_cached_steps_are_the_parallel_pass(name: str, engine: str) -> None:
    """At all positions; midway the rows change their places, as particles do."""
    network, (start, step, _) = pair(name)[0], engines(name)[engine]
    x, context = data(name)
    rows, caches = np.arange(ROWS), start(context)
    previous = np.ones((ROWS, network.order.shape[1]), x.dtype)
    for t in range(len(network.order)):
        outputs, caches = step(caches, t, previous[rows])
        np.testing.assert_allclose(np.asarray(outputs), of_step(parallel(name), network, t)[rows], atol=2e-5)
        previous = x.reshape(ROWS, -1)[:, network.order[t]]
        if t == len(network.order) // 2:
            rows = rows[::-1]
            caches = jax.tree.map(lambda leaf: leaf[ROWS - 1 - np.arange(ROWS)], caches)


def test_a_wrong_dilation_or_position_shows() -> None:
    """What the caches are compared with would not be the same one tap further, or one place later."""
    spec = SPECS["waves"]
    tensors = eqx_nn.state_dict(pair("waves")[0])
    wrong = eqx_nn.load_state_dict(built({**spec, "dilations": [1, 3, 1]})[0], tensors)
    x = jnp.asarray(data("waves")[0])
    assert np.abs(np.asarray(wrong(x)) - parallel("waves")).max() > 1e-2
    network = pair("token-frames-context")[0]
    moved = eqx.tree_at(lambda n: n.positions, network, jnp.roll(network.positions, 1, 0))
    rows, context = data("token-frames-context")
    assert np.abs(np.asarray(moved(jnp.asarray(rows), context)) - parallel("token-frames-context")).max() > 1e-2


@everything
@pytest.mark.parametrize("engine", ["numpyro", "pyro"])
def test_cached_and_naive_draws_are_equal_on_the_same_noise(name: str, engine: str) -> None:
    network, (start, step, whole) = pair(name)[0], engines(name)[engine]
    _, context = data(name)
    order, rng = network.order, np.random.default_rng(3)
    noise = rng.random((len(order), ROWS, order.shape[1])).astype(np.float32)
    top = 5 if {"num_categories", "input_range"} & SPECS[name].keys() else 2

    def decide(outputs: Any, t: int) -> np.ndarray:
        chance = 1 / (1 + np.exp(-4 * np.asarray(outputs).sum(1)))
        drawn = np.minimum(np.floor(top * np.abs(noise[t] - chance)), top - 1)
        return drawn.astype(np.int32 if top > 2 else np.float32)

    x = np.zeros((ROWS, order.size), np.int32 if top > 2 else np.float32)
    caches, previous, drawn = start(context), np.zeros((ROWS, order.shape[1]), x.dtype), np.zeros_like(x)
    for t in range(len(order)):
        outputs, caches = step(caches, t, previous)
        previous = drawn[:, order[t]] = decide(outputs, t)
        x[:, order[t]] = decide(of_step(whole(x.reshape(ROWS, *network.event_shape), context), network, t), t)
    np.testing.assert_array_equal(drawn, x)
    assert 0 < (drawn > 0).mean() < 1


def jacobian_by_jax(network: Any, x: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    """(steps of outputs, steps of entries) the largest derivative, of the first row."""
    given_context = given(context, jnp.asarray)

    def outputs(x: Any) -> Any:
        return network(x[None], None if given_context is None else given_context[:1])[0].reshape(network.num_params, -1)

    found = jax.jit(jax.jacrev(outputs))(jnp.asarray(x[0], jnp.float32))
    return by_step(np.asarray(found), network)


def jacobian_by_torch(twin: Any, x: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    given_context = given(context, torch.as_tensor)

    def outputs(x: Any) -> Any:
        return twin(x[None], None if given_context is None else given_context[:1])[0].reshape(twin.num_params, -1)

    found = torch.autograd.functional.jacobian(outputs, torch.as_tensor(x[0], dtype=torch.float32))
    return by_step(found.numpy(), twin)


def by_step(found: np.ndarray, network: Any) -> np.ndarray:
    found = np.abs(found).max(0)
    found = found.reshape(len(found), -1)
    order = network.order
    found = found[order].max(1) if len(found) == order.size else found
    return found[:, order].max(-1)


JACOBIANS: list[tuple[int, Any]] = [(0, jacobian_by_jax), (1, jacobian_by_torch)]
both_jacobians = pytest.mark.parametrize(("which", "jacobian"), JACOBIANS, ids=["numpyro", "pyro"])


def looks_ahead(found: np.ndarray) -> bool:
    return bool((np.triu(found) > 0).any())


@pytest.mark.parametrize("name", NUMBERS)
@both_jacobians
def test_a_step_sees_earlier_steps_alone(name: str, which: int, jacobian: Any) -> None:
    found = jacobian(pair(name)[which], *data(name))
    assert not looks_ahead(found)
    assert (found.max(1)[1:] > 0).all()


def test_a_token_sees_earlier_tokens_alone() -> None:
    for whole in (engine[2] for engine in engines("tokens-tied").values()):
        x, _ = data("tokens-tied")
        for s in range(x.shape[1]):
            other = x.copy()
            other[:, s] = (other[:, s] + 1) % 5
            changed = np.abs(whole(other, None) - whole(x, None)).max((0, 1))
            assert (changed[: s + 1] == 0).all()
            assert (changed[s + 1 :] > 1e-4).all()


@both_jacobians
def test_mask_b_in_the_first_layer_shows(which: int, jacobian: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = channels.taps_mask
    monkeypatch.setattr(channels, "taps_mask", lambda *args, strict: right(*args, strict=False))
    for name in ("pixels-grey", "pixels-colour-context"):
        assert looks_ahead(jacobian(built(SPECS[name])[which], *data(name)))


@both_jacobians
def test_a_convolution_off_by_one_shows(which: int, jacobian: Any) -> None:
    network = built(SPECS["waves"])[which]
    layer = network.blocks[1].convolution
    ((low, _),) = layer.padding
    object.__setattr__(layer, "padding", ((low - 1, 1),))
    assert looks_ahead(jacobian(network, *data("waves")))


@both_jacobians
def test_attention_to_the_present_shows(which: int, jacobian: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "causal", lambda length: np.tri(length, k=1, dtype=bool))
    assert looks_ahead(jacobian(pair("token-frames-context")[which], *data("token-frames-context")))


def seen_pixels(network: Any, jacobian: Any, row: int, column: int) -> np.ndarray:
    x = np.random.default_rng(4).standard_normal((1, *network.event_shape)).astype(np.float32)
    height, width = network.event_shape[1:]
    return jacobian(network, x, None)[row * width + column].reshape(height, width) > 0


@both_jacobians
def test_pixels_have_no_blind_spot(which: int, jacobian: Any) -> None:
    """Every earlier pixel within the receptive field is seen, none outside; without the link between the stacks not."""
    network = built({**PIXELS, "num_layers": 2, "event_shape": [1, 6, 8]})[which]
    reach, row, column = network.receptive_field, 4, 4
    assert reach == 2
    expected = np.zeros((6, 8), bool)
    expected[row - reach : row, column - reach : column + reach + 1] = True
    expected[row, column - reach : column] = True
    np.testing.assert_array_equal(seen_pixels(network, jacobian, row, column), expected)
    module: Any = (eqx_nn, torch_nn)[which]
    cut = {name: 0 * value if "link" in name else value for name, value in module.state_dict(network).items()}
    blind = module.load_state_dict(network, cut)
    assert (seen_pixels(blind, jacobian, row, column) != expected).any()


@both_jacobians
def test_receptive_field_of_dilations(which: int, jacobian: Any) -> None:
    network = built({**WAVES, "event_shape": [14], "dilations": [1, 4], "kernel_size": 2})[which]
    x = np.random.default_rng(5).standard_normal((1, 14)).astype(np.float32)
    last = jacobian(network, x, None)[-1]
    assert network.receptive_field == 6
    assert np.flatnonzero(last).max() == 12
    assert np.flatnonzero(last).min() == 13 - network.receptive_field


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if "context_size" in spec])
def test_context_acts(name: str) -> None:
    """It moves every step's outputs; a vector is a context that is the same everywhere."""
    x, context = data(name)
    assert context is not None
    vector = context.reshape(ROWS, 2, -1)[:, :, 0]
    everywhere = np.broadcast_to(vector.reshape(ROWS, 2, *(1,) * (context.ndim - 2)), context.shape)
    for _, _, whole in engines(name).values():
        outputs = whole(x, vector)
        np.testing.assert_allclose(outputs, whole(x, np.ascontiguousarray(everywhere)), atol=1e-5)
        assert (np.abs(outputs - whole(x, vector + 1)).max((0, 1)) > 1e-4).all()


def test_cached_steps_with_a_vector_as_context() -> None:
    for name in ("pixels-colour-context", "wave-frames-context", "token-frames-context"):
        x, context = data(name)
        assert context is not None
        vector = np.ascontiguousarray(context.reshape(ROWS, 2, -1)[:, :, 0])
        for start, step, whole in engines(name).values():
            network, caches = pair(name)[0], start(vector)
            previous, outputs = x.reshape(ROWS, -1)[:, network.order[0]], whole(x, vector)
            for t in range(4):
                found, caches = step(caches, t, previous)
                np.testing.assert_allclose(np.asarray(found), of_step(outputs, network, t), atol=2e-5)
                previous = x.reshape(ROWS, -1)[:, network.order[t]]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "even kernel": ({**PIXELS, "event_shape": [1, 4, 4], "kernel_size": 4}, "kernel_size: got 4; expected an odd"),
    "no image": ({**PIXELS, "event_shape": [4, 4]}, r"event_shape: got \(4, 4\); expected three numbers"),
    "few channels": ({**PIXELS, "event_shape": [3, 4, 4], "channels": 2}, "channels: got 2; expected at least 3"),
    "no dilations": ({**WAVES, "event_shape": [4], "dilations": []}, "dilations: got none; expected at least one"),
    "no sequence": ({**WAVES, "event_shape": [4, 2, 2]}, r"event_shape: got \(4, 2, 2\); expected \(length,\)"),
    "heads": ({**TOKENS, "event_shape": [4], "num_heads": 3}, "width: got 8 for 3 heads; expected a multiple"),
    "tied": ({**TOKENS, "event_shape": [4], "tied": True}, "tied: got num_params=1, num_categories=None"),
    "both": (
        {**WAVES, "event_shape": [4], "num_categories": 3, "input_range": [0, 1]},
        r"input_range: got \(0.0, 1.0\) beside num_categories=3; expected one of both",
    ),
    "range": ({**WAVES, "event_shape": [4], "input_range": [1, 0]}, r"input_range: got \(1.0, 0.0\); expected \(low"),
}


@pytest.mark.parametrize(("spec", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals_of_arguments(spec: dict[str, Any], message: str) -> None:
    for which in (0, 1):
        keys = {"key": jax.random.key(0)} if which == 0 else {}
        with pytest.raises(ValueError, match=message):
            CLASSES[spec["network"]][which](**{k: v for k, v in spec.items() if k != "network"}, **keys)


@everything
def test_refusals_of_data_and_context(name: str) -> None:
    kind = SPECS[name]["network"]
    size = SPECS[name].get("context_size", 0)
    for network, convert in zip(pair(name), (jnp.asarray, torch.as_tensor), strict=True):
        x, context = data(name)
        with pytest.raises(ValueError, match=rf"input of {kind}: got shape"):
            network(convert(x[:, 1:]), given(context, convert))
        with pytest.raises(ValueError, match=rf"context of {kind}: got {'none' if size else 'shape'}"):
            network(convert(x), None if size else convert(np.zeros((ROWS, 2), np.float32)))
        with pytest.raises(ValueError, match=rf"context of {kind}: got shape"):
            network.start(ROWS, convert(np.zeros((ROWS, 4), np.float32)))
