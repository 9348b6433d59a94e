"""Networks: the same outputs and gradients at the same parameters in both engines; specifications, names, refusals."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepgen.nn import arguments
from deepgen.nn import equinox as eqx_nn
from deepgen.nn import torch as torch_nn
from deepgen.nn.bounded import bounded, unbounded

KEY = jax.random.key(0)

SPECS = {
    "linear": {"network": "MLP", "in_size": 3, "out_size": 2},
    "mlp": {"network": "MLP", "in_size": 3, "out_size": 2, "hidden": [5, 4], "activation": "tanh"},
    "mlp-residual-norm": {
        "network": "MLP",
        "in_size": 4,
        "out_size": 2,
        "hidden": [4, 4, 3],
        "residual": True,
        "layer_norm": True,
    },
    "encoder-8x8": {"network": "ConvEncoder", "in_shape": [1, 8, 8], "out_size": 3, "channels": [4, 5]},
    "encoder-7x9": {
        "network": "ConvEncoder",
        "in_shape": [2, 7, 9],
        "out_size": 3,
        "channels": [4],
        "hidden": [6],
        "kernel_size": 4,
        "activation": "silu",
    },
    "encoder-28x28": {"network": "ConvEncoder", "in_shape": [1, 28, 28], "out_size": 3, "channels": [2, 3, 4]},
    "decoder-8x8": {"network": "ConvDecoder", "in_size": 3, "out_shape": [1, 8, 8], "channels": [5, 4]},
    "decoder-7x9": {
        "network": "ConvDecoder",
        "in_size": 3,
        "out_shape": [2, 7, 9],
        "channels": [4],
        "hidden": [6],
        "kernel_size": 4,
        "activation": "silu",
    },
    "decoder-28x28": {"network": "ConvDecoder", "in_size": 3, "out_shape": [1, 28, 28], "channels": [4, 3, 2]},
    "decoder-1x3": {
        "network": "ConvDecoder",
        "in_size": 3,
        "out_shape": [3, 1, 3],
        "channels": [4, 3],
        "kernel_size": 2,
    },
    "net": {"network": "ConvNet", "in_channels": 2, "out_channels": 3, "hidden": [4, 5], "activation": "silu"},
    "net-linear": {"network": "ConvNet", "in_channels": 2, "out_channels": 1, "hidden": [], "kernel_size": 2},
}


def shapes(spec):
    """The shape of one input and of one output."""
    if "in_channels" in spec:
        return (spec["in_channels"], 4, 3), (spec["out_channels"], 4, 3)
    inner = tuple(spec["in_shape"]) if "in_shape" in spec else (spec["in_size"],)
    outer = tuple(spec["out_shape"]) if "out_shape" in spec else (spec["out_size"],)
    return inner, outer


def pair(spec, seed=0):
    """The network in both engines, at the same parameters, none of them at its initial value."""
    network = eqx_nn.build(spec, jax.random.key(seed))
    random = np.random.default_rng(seed)
    parameters = {
        name: np.asarray(leaf) + random.normal(size=leaf.shape, scale=0.1).astype(np.float32)
        for name, leaf in eqx_nn.state_dict(network).items()
    }
    return eqx_nn.load_state_dict(network, parameters), torch_nn.load_state_dict(torch_nn.build(spec), parameters)


def value_and_gradients(network, x):
    """Outputs and gradients of sum sin(output), by the input and by name of the parameter."""

    def loss(both):
        y = both[0](both[1])
        return jnp.sum(jnp.sin(y)), y

    (bars, x_bar), y = eqx.filter_jit(eqx.filter_grad(loss, has_aux=True))((network, jnp.asarray(x)))
    return y, x_bar, eqx_nn.state_dict(bars)


def value_and_gradients_by_torch(network, x):
    x = torch.tensor(x, requires_grad=True)
    y = network(x)
    y.sin().sum().backward()
    return y.detach().numpy(), x.grad.numpy(), {k: v.grad.numpy() for k, v in network.named_parameters()}


def check_parity(spec, change=lambda network: network):
    network, twin = pair(spec)
    inner, outer = shapes(spec)
    x = np.random.default_rng(1).normal(size=(2, 3, *inner)).astype(np.float32)
    got, expected = value_and_gradients(change(network), x), value_and_gradients_by_torch(twin, x)
    assert got[0].shape == (2, 3, *outer) == expected[0].shape
    assert list(got[2]) == list(expected[2]) == list(torch_nn.state_dict(twin))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_engines_agree(spec):
    check_parity(spec)


def test_a_wrong_activation_or_flattening_is_caught():
    other_activation = eqx_nn.build(SPECS["mlp"] | {"activation": "relu"}, KEY)
    with pytest.raises(AssertionError):
        check_parity(SPECS["mlp"], lambda network: eqx_nn.load_state_dict(other_activation, eqx_nn.state_dict(network)))

    def channels_last(network):
        weight = network.head.layers[0].weight
        mixed = weight.reshape(3, 5, 2, 2).transpose(0, 2, 3, 1).reshape(weight.shape)
        return eqx.tree_at(lambda n: n.head.layers[0].weight, network, mixed)

    with pytest.raises(AssertionError):
        check_parity(SPECS["encoder-8x8"], channels_last)


@pytest.mark.parametrize("name", arguments.ACTIVATIONS)
def test_activations_are_the_same_functions(name):
    spec = {"network": "MLP", "in_size": 1, "out_size": 1, "hidden": [1], "activation": name}
    network, twin = (network for network in pair(spec))
    identity = {"layers.0.weight": np.ones((1, 1)), "layers.0.bias": np.zeros(1)}
    identity |= {"layers.1.weight": np.ones((1, 1)), "layers.1.bias": np.zeros(1)}
    network, twin = eqx_nn.load_state_dict(network, identity), torch_nn.load_state_dict(twin, identity)
    x = np.linspace(-12, 12, 97, dtype=np.float32)[:, None]
    np.testing.assert_allclose(network(x), twin(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_perceptron_is_its_formula():
    """Residual where the widths agree, the first layer included; normalised before the activation."""
    spec = SPECS["mlp-residual-norm"] | {"activation": "relu"}
    network, _ = pair(spec)
    p = {k: np.asarray(v, np.float64) for k, v in eqx_nn.state_dict(network).items()}
    x = np.random.default_rng(2).normal(size=(6, 4))
    h = x
    for i, residual in enumerate([True, True, False]):
        a = h @ p[f"layers.{i}.weight"].T + p[f"layers.{i}.bias"]
        a = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)
        a = np.maximum(a * p[f"norms.{i}.weight"] + p[f"norms.{i}.bias"], 0)
        h = h + a if residual else a
    expected = h @ p["layers.3.weight"].T + p["layers.3.bias"]
    np.testing.assert_allclose(network(x.astype(np.float32)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_specification_makes_the_network_again(spec):
    network, twin = eqx_nn.build(spec, KEY), torch_nn.build(spec)
    assert network.spec() == twin.spec()
    written = json.loads(json.dumps(network.spec()))
    assert written == network.spec()
    assert spec.items() <= written.items()
    again = eqx_nn.build(written, KEY)
    assert eqx.tree_equal(network, again)
    assert torch_nn.build(written).spec() == written


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_names_and_shapes_agree(spec):
    network, twin = eqx_nn.build(spec, KEY), torch_nn.build(spec)
    assert {k: tuple(v.shape) for k, v in eqx_nn.state_dict(network).items()} == {
        k: tuple(v.shape) for k, v in twin.state_dict().items()
    }


def test_names_are_torchs():
    assert list(eqx_nn.state_dict(eqx_nn.MLP(3, 2, [4], key=KEY))) == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
    ]


def test_names_of_any_module():
    """Fields, indices and keys; what is no array has no name."""

    class Program(eqx.Module):
        encoder: eqx.Module
        parts: dict
        scale: jax.Array
        name: str = "program"

    program = Program(eqx_nn.Linear(2, 1, key=KEY), {"a": [jnp.zeros(3)]}, jnp.ones(()))
    assert list(eqx_nn.state_dict(program)) == ["encoder.weight", "encoder.bias", "parts.a.0", "scale"]
    loaded = eqx_nn.load_state_dict(program, {k: np.full(v.shape, 7.0) for k, v in eqx_nn.state_dict(program).items()})
    assert loaded.name == "program"
    assert all((v == 7).all() and v.dtype == jnp.float32 for v in eqx_nn.state_dict(loaded).values())


@pytest.mark.parametrize("name", ["mlp", "encoder-8x8", "decoder-7x9"])
def test_output_bias(name):
    """The output moves by exactly the new bias less the old one."""
    spec = SPECS[name]
    inner, outer = shapes(spec)
    network, twin = pair(spec)
    x = np.random.default_rng(3).normal(size=(2, *inner)).astype(np.float32)
    value = np.random.default_rng(4).normal(size=np.prod(outer))
    zero, moved = eqx_nn.output_bias(network, 0.0), eqx_nn.output_bias(network, value)
    np.testing.assert_allclose(moved(x) - zero(x), np.broadcast_to(value.reshape(outer), (2, *outer)), atol=1e-5)
    assert torch_nn.output_bias(twin, value) is twin
    np.testing.assert_allclose(twin(torch.tensor(x)).detach().numpy(), moved(x), atol=1e-5)
    torch_nn.output_bias(twin, 0.0)
    np.testing.assert_allclose(twin(torch.tensor(x)).detach().numpy(), zero(x), atol=1e-5)
    with pytest.raises(ValueError, match=r"value of the output's bias: got shape \(1,\)"):
        eqx_nn.output_bias(network, [1.0])
    with pytest.raises(ValueError, match="value of the output's bias: got shape"):
        torch_nn.output_bias(twin, np.zeros((2, *outer)))


def test_networks_compile_once_and_vectorise():
    traces = []

    @jax.jit
    def apply(network, x):
        traces.append(1)
        return network(x)

    x = np.random.default_rng(0).normal(size=(4, 2, 1, 8, 8)).astype(np.float32)
    for seed in range(3):
        network = eqx_nn.build(SPECS["encoder-8x8"], jax.random.key(seed))
        together = apply(network, x)
    assert len(traces) == 1
    np.testing.assert_allclose(jax.jit(jax.vmap(network))(x), together, atol=1e-5)


@pytest.mark.parametrize("key", [jax.random.key, jax.random.PRNGKey], ids=["typed", "legacy"])
def test_both_kinds_of_keys(key):
    assert eqx_nn.MLP(2, 1, [3], key=key(0))(jnp.ones((5, 2))).shape == (5, 1)


def test_initial_law_of_linear_layers():
    """Uniform up to b = 1/sqrt(in_size), as in torch; the variance b^2/3 within five standard errors (1e-6 a layer)."""
    torch.manual_seed(0)
    for layer in (eqx_nn.Linear(100, 40, key=KEY), torch_nn.Linear(100, 40)):
        weight, bias = np.array(layer.weight.tolist()), np.array(layer.bias.tolist())
        assert 0.099 < np.abs(weight).max() <= 0.1 + 1e-7
        assert np.abs(bias).max() <= 0.1 + 1e-7
        assert abs(weight.var() - 0.01 / 3) < 5 * 0.01 * np.sqrt((1 / 5 - 1 / 9) / weight.size)


def test_a_function_may_be_the_activation_but_is_not_written():
    for network in (eqx_nn.MLP(2, 1, [3], activation=jnp.sin, key=KEY), torch_nn.MLP(2, 1, [3], activation=torch.sin)):
        with pytest.raises(
            ValueError, match=r"spec of MLP: got the function .* as activation; expected the name of one"
        ):
            network.spec()
    network, twin = (
        eqx_nn.MLP(2, 1, [3], activation=jnp.sin, key=KEY),
        torch_nn.MLP(2, 1, [3], activation=torch.sin),
    )
    torch_nn.load_state_dict(twin, eqx_nn.state_dict(network))
    x = np.ones((1, 2), np.float32)
    np.testing.assert_allclose(network(x), twin(torch.tensor(x)).detach().numpy(), atol=1e-6)


REFUSED = {
    "no name": ({"in_size": 3}, r"spec: got the keys \['in_size'\]; expected the key \"network\""),
    "unknown": ({"network": "Transformer"}, r"spec\[\"network\"\]: got 'Transformer'; expected one of \['ConvDecoder'"),
    "size": ({"network": "MLP", "in_size": 0, "out_size": 1}, "in_size: got 0; expected a whole number >= 1"),
    "hidden": ({"network": "MLP", "in_size": 1, "out_size": 1, "hidden": [3, 0]}, r"hidden\[1\]: got 0"),
    "activation": (
        {"network": "MLP", "in_size": 1, "out_size": 1, "activation": "swish"},
        "activation: got 'swish'; expected one of",
    ),
    "image": ({"network": "ConvEncoder", "in_shape": [8, 8], "out_size": 1}, r"in_shape: got \(8, 8\); expected three"),
    "channels": (
        {"network": "ConvDecoder", "in_size": 1, "out_shape": [1, 8, 8], "channels": []},
        "channels: got none",
    ),
    "kernel": (
        {"network": "ConvEncoder", "in_shape": [1, 8, 8], "out_size": 1, "kernel_size": 1},
        "kernel_size: got 1; expected a whole number >= 2",
    ),
}


@pytest.mark.parametrize(("spec", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_of_specifications(spec, message):
    with pytest.raises(ValueError, match=message):
        eqx_nn.build(spec, KEY)
    with pytest.raises(ValueError, match=message):
        torch_nn.build(spec)


def test_refusals_of_arguments_that_are_no_sequence():
    with pytest.raises(ValueError, match="hidden: got 'wide'; expected a sequence of whole numbers"):
        arguments.wholes("hidden", "wide")
    with pytest.raises(ValueError, match=r"hidden\[0\]: got 2.5"):
        arguments.wholes("hidden", [2.5])


@pytest.mark.parametrize("name", ["mlp", "encoder-8x8", "decoder-8x8", "net"])
def test_refusals_of_inputs(name):
    network, twin = pair(SPECS[name])
    images = name in ("encoder-8x8", "net")
    x = np.zeros((2, 8, 8, 1), np.float32) if images else np.zeros((2, 5), np.float32)
    for apply in (network, lambda x: twin(torch.tensor(x))):
        with pytest.raises(ValueError, match=f"input of {SPECS[name]['network']}: got shape"):
            apply(x)


def test_refusals_of_parameters():
    for module, network in ((eqx_nn, eqx_nn.MLP(3, 2, key=KEY)), (torch_nn, torch_nn.MLP(3, 2))):
        right = {k: np.asarray(v.tolist()) for k, v in module.state_dict(network).items()}
        with pytest.raises(ValueError, match=r"\['extra'\] too much and \['layers.0.bias'\] missing"):
            module.load_state_dict(network, {"layers.0.weight": right["layers.0.weight"], "extra": np.zeros(1)})
        with pytest.raises(ValueError, match=r"parameter layers.0.weight: got shape \(3, 2\); expected \(2, 3\)"):
            module.load_state_dict(network, right | {"layers.0.weight": np.zeros((3, 2))})
    with pytest.raises(TypeError, match="network: got a Linear; expected one of"):
        eqx_nn.output_bias(eqx_nn.Linear(2, 1, key=KEY), 0.0)
    with pytest.raises(TypeError, match="network: got a Linear; expected one of"):
        torch_nn.output_bias(torch_nn.Linear(2, 1), 0.0)


def test_names_need_fields_indices_or_keys():
    @jax.tree_util.register_pytree_with_keys_class
    class Odd:
        def __init__(self, key):
            self.key = key

        def tree_flatten_with_keys(self):
            return ((self.key, jnp.zeros(1)),), self.key

        @classmethod
        def tree_unflatten(cls, key, _):
            return cls(key)

    class Holder(eqx.Module):
        odd: Odd

    assert list(eqx_nn.state_dict(Holder(Odd(jax.tree_util.FlattenedIndexKey(0))))) == ["odd.0"]
    with pytest.raises(ValueError, match="path of a parameter: got 'pi'; expected a field, an index or a key"):
        eqx_nn.state_dict(Holder(Odd("pi")))


finite = st.floats(-1e6, 1e6, width=64)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(arrays(np.float64, 5, elements=finite), st.floats(-10, 10), st.floats(0.1, 10))
def test_bounded_stays_inside_and_increases(x, low, width):
    x = np.sort(x)
    y = bounded(x, low, low + width)
    assert ((y >= low) & (y <= low + width)).all()
    assert (np.diff(y) >= 0).all()
    inner = low + width * np.linspace(0.01, 0.99, 9)
    np.testing.assert_allclose(bounded(unbounded(inner, low, low + width), low, low + width), inner, atol=1e-9)


def test_bounded_is_smooth_and_keeps_its_gradient():
    """Slope (1 + u^2)^(-3/2), never zero in float32 where tanh's is; the same in NumPy, JAX and torch."""
    x = np.array([-1e30, -300.0, -7.0, -2.0, 0.0, 3.0, 300.0, 1e30])
    expected = bounded(x, -7.0, 3.0)
    u = (x + 2.0) / 5.0
    single = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(bounded(single, -7.0, 3.0), expected, rtol=1e-6)
    leaf = torch.tensor(x, requires_grad=True)
    y = bounded(leaf, -7.0, 3.0)
    np.testing.assert_allclose(y.detach().numpy(), expected)
    y.sum().backward()
    slope = jax.vmap(jax.grad(lambda x: bounded(x, -7.0, 3.0)))(single)
    np.testing.assert_allclose(leaf.grad.numpy()[1:-1], (1 + u[1:-1] ** 2) ** -1.5)
    np.testing.assert_allclose(slope[1:-1], (1 + u[1:-1] ** 2) ** -1.5, rtol=1e-3)
    assert (slope[1:-1] > 0).all()
    assert np.isfinite(slope).all()
    assert np.isfinite(leaf.grad.numpy()).all()
    assert expected[3] == -2.0


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (2.0, 1.0), (-np.inf, 1.0), (0.0, np.nan)])
def test_bounds_are_refused(bounds):
    for function in (bounded, unbounded):
        with pytest.raises(ValueError, match="bounds: got low="):
            function(np.zeros(2), *bounds)
