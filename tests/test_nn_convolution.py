"""The convolutions of both engines: against torch, against XLA's own derivatives, and the form that keeps them fast."""

import equinox as eqx
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from deepgen.nn import equinox as eqx_nn
from deepgen.nn import equinox_convolution as maps
from deepgen.nn import geometry as sizes
from deepgen.nn import torch as torch_nn
from deepgen.nn.geometry import Geometry

KEY = jax.random.key(0)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def arrays(geometry, n=2, c=2, o=3):
    x = normal(0, n, *geometry.input_size, c)
    w = normal(1, *geometry.kernel_size, c, o)
    y = normal(2, n, *geometry.output_size, o)
    return x, w, y


def stock(x, w, geometry):
    layout = ("NHWC", "HWIO", "NHWC") if len(geometry.stride) == 2 else ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(
        x, w, geometry.stride, geometry.padding, rhs_dilation=geometry.dilation, dimension_numbers=layout
    )


def by_torch(x, w, geometry):
    """The convolution by torch, of tensors in our layout."""
    dims = len(geometry.stride)
    convolve = torch.nn.functional.conv2d if dims == 2 else torch.nn.functional.conv1d
    padded = torch.nn.functional.pad(x.movedim(-1, 1), [end for pair in geometry.padding[::-1] for end in pair])
    kernel = w.movedim((-1, -2), (0, 1))
    return convolve(padded, kernel, stride=geometry.stride, dilation=geometry.dilation).movedim(1, -1)


def derivatives(convolve, geometry):
    """Value, both gradients, and the gradients of a function of these gradients."""

    def inner(x, w):
        return jnp.sum(jnp.sin(convolve(x, w, geometry)))

    def outer(x, w):
        x_bar, w_bar = jax.grad(inner, (0, 1))(x, w)
        return jnp.sum(x_bar**3) + jnp.sum(w_bar**2 * w)

    return jax.jit(
        lambda x, w: (convolve(x, w, geometry), jax.grad(inner, (0, 1))(x, w), jax.grad(outer, (0, 1))(x, w))
    )


def derivatives_by_torch(x, w, geometry):
    x, w = (torch.tensor(a, requires_grad=True) for a in (x, w))
    y = by_torch(x, w, geometry)
    x_bar, w_bar = torch.autograd.grad(y.sin().sum(), (x, w), create_graph=True)
    second = torch.autograd.grad((x_bar**3).sum() + (w_bar**2 * w).sum(), (x, w))
    return jax.tree.map(lambda t: t.detach().numpy(), (y, (x_bar, w_bar), second))


def assert_close(got, expected, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(b).max())))


def check_against_torch(geometry):
    x, w, _ = arrays(geometry)
    with jax.enable_x64(True):
        got = derivatives(maps.convolution, geometry)(x, w)
    assert_close(got, derivatives_by_torch(x, w, geometry))


@st.composite
def geometries(draw):
    dims = draw(st.sampled_from([1, 2]))

    def each(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * dims))

    padding = draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * dims))
    return Geometry(each(1, 7), each(1, 4), each(1, 3), padding, each(1, 3))


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(geometries())
def test_value_gradients_and_their_gradients_are_torchs(geometry):
    assume(min(geometry.slack) >= 0)
    check_against_torch(geometry)


CORNERS = {
    "plain": Geometry((5, 4), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "stride leaves a rest": Geometry((8, 7), (3, 2), (3, 2), ((0, 1), (0, 0)), (1, 1)),
    "stride and dilation": Geometry((9, 8), (3, 2), (2, 3), ((2, 1), (1, 2)), (2, 3)),
    "kernel larger than input": Geometry((2, 1), (4, 5), (1, 2), ((2, 1), (2, 3)), (1, 1)),
    "padding beyond the kernel": Geometry((3,), (2,), (1,), ((4, 3),), (1,)),
    "nothing but padding is seen": Geometry((1,), (3,), (4,), ((5, 0),), (1,)),
    "causal": Geometry((6,), (3,), (1,), ((4, 0),), (2,)),
}


@pytest.mark.parametrize("geometry", CORNERS.values(), ids=CORNERS.keys())
def test_corners(geometry):
    check_against_torch(geometry)


@pytest.mark.parametrize("name", ["stride and dilation", "causal"])
def test_derivatives_are_those_of_the_stock_convolution(name):
    x, w, _ = arrays(CORNERS[name])
    with jax.enable_x64(True):
        assert_close(
            derivatives(maps.convolution, CORNERS[name])(x, w), derivatives(stock, CORNERS[name])(x, w), tolerance=1e-11
        )


@pytest.mark.parametrize("fault", ["unflipped kernel", "rest forgotten"])
def test_a_wrong_gradient_is_caught(monkeypatch, fault):
    right = maps.input_gradient

    def unflipped(y, w, geometry):
        return right(y, jnp.flip(w, range(len(geometry.stride))), geometry)

    def forgotten(y, w, geometry):
        shifted = tuple((low + 1, max(high - 1, 0)) for low, high in geometry.padding)
        return right(y, w, geometry._replace(padding=shifted))

    monkeypatch.setattr(maps, "input_gradient", unflipped if fault == "unflipped kernel" else forgotten)
    with pytest.raises(AssertionError):
        check_against_torch(CORNERS["plain"])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(geometries())
def test_sizes_are_those_of_the_definition(geometry):
    """y exists exactly where the whole kernel lies inside the padded input."""
    assume(min(geometry.slack) >= 0)
    for n, k, s, (low, high), d, size, unused in zip(*geometry, geometry.output_size, geometry.unused, strict=True):
        starts = [i * s for i in range(n + low + high) if i * s + d * (k - 1) < n + low + high]
        assert size == len(starts)
        assert unused == n + low + high - 1 - (starts[-1] + d * (k - 1))


def convolutions_of(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation.params
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from convolutions_of(inner)


def canonical(function, *arguments):
    """Whether every convolution is in the one form that XLA's CPU compiler runs fast inside loops."""
    found = list(convolutions_of(jax.make_jaxpr(function)(*arguments).jaxpr))
    assert found
    last = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    return all(
        p["dimension_numbers"] == last
        and p["feature_group_count"] == p["batch_group_count"] == 1
        and min(end for pair in p["padding"] for end in pair) >= 0
        for p in found
    )


@pytest.mark.parametrize("convolve", [maps.convolution, stock], ids=["ours", "stock"])
def test_every_derivative_stays_in_the_fast_form(convolve):
    geometry = CORNERS["stride leaves a rest"]
    x, w, _ = arrays(geometry)

    def gradients(x, w):
        return jax.grad(lambda x, w: jnp.sum(convolve(x, w, geometry) ** 2), (0, 1))(x, w)

    def second(x, w):
        return jax.grad(lambda x, w: sum(jnp.sum(g**2) for g in gradients(x, w)), (0, 1))(x, w)

    assert canonical(gradients, x, w) == (convolve is maps.convolution)
    assert canonical(second, x, w) == (convolve is maps.convolution)


@pytest.mark.parametrize("convolve", [maps.convolution, stock], ids=["ours", "stock"])
def test_chains_stay_in_the_fast_form_inside_a_compiled_loop(convolve):
    """What is compiled for the gradient by the input under ``vmap``, inside ``scan``: chains join the batch."""
    geometry = Geometry((4, 4), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    x, w, _ = (a.astype(np.float32) for a in arrays(geometry))
    step = jax.vmap(jax.grad(lambda x: jnp.sum(convolve(x, w, geometry) ** 2)))
    loop = jax.jit(lambda xs: jax.lax.scan(lambda xs, _: (xs - step(xs), None), xs, length=3)[0])
    compiled = loop.lower(np.stack([x] * 3)).compile().as_text()
    found = [line for line in compiled.splitlines() if " convolution(" in line]
    assert len(found) == 2
    fast = all("dim_labels=b01f_01io->b01f" in line and "group_count" not in line for line in found)
    assert fast == (convolve is maps.convolution)


def test_vmap_over_chains_and_over_networks():
    geometry = CORNERS["stride and dilation"]
    x, w, y = arrays(geometry)
    xs, ws = np.stack([x, x[::-1]]), np.stack([w, -w])

    @jax.jit
    def gradients(x, w):
        return jax.grad(lambda x, w: jnp.sum(maps.convolution(x, w, geometry) * y), (0, 1))(x, w)

    with jax.enable_x64(True):
        for axes in [(0, None), (None, 0), (0, 0)]:
            got = jax.vmap(gradients, axes)(xs if axes[0] == 0 else x, ws if axes[1] == 0 else w)
            each = [gradients(xs[i] if axes[0] == 0 else x, ws[i] if axes[1] == 0 else w) for i in range(2)]
            assert_close(got, jax.tree.map(lambda *a: np.stack(a), *each))


def test_there_is_no_forward_mode():
    x, w, _ = (jnp.asarray(a, jnp.float32) for a in arrays(CORNERS["plain"]))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: maps.convolution(x, w, CORNERS["plain"]), (x,), (x,))


LAYERS = {
    "Conv1d": dict(kernel_size=3, stride=2, padding=1, dilation=2),
    "Conv2d": dict(kernel_size=(3, 2), stride=(2, 1), padding=(2, 0), dilation=(1, 2)),
    "ConvTranspose1d": dict(kernel_size=3, stride=3, padding=1, output_padding=2, dilation=2),
    "ConvTranspose2d": dict(kernel_size=(4, 3), stride=2, padding=(1, 0), output_padding=(0, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_torchs_own(name):
    """Values and gradients of both engines' layers at the parameters of the layer that torch ships."""
    reference = getattr(torch.nn, name)(3, 4, **LAYERS[name])
    ours = getattr(torch_nn, name)(3, 4, **LAYERS[name])
    equinox = getattr(eqx_nn, name)(3, 4, **LAYERS[name], key=KEY)
    parameters = {k: v.detach().numpy() for k, v in reference.state_dict().items()}
    torch_nn.load_state_dict(ours, parameters)
    equinox = eqx_nn.load_state_dict(equinox, parameters)
    x = normal(3, 2, 3, *((9,) if name.endswith("1d") else (7, 8))).astype(np.float32)

    def torch_gradients(layer):
        leaf = torch.tensor(x, requires_grad=True)
        y = layer(leaf)
        gradients = torch.autograd.grad(y.sin().sum(), (leaf, layer.weight, layer.bias))
        return y.detach().numpy(), *(g.numpy() for g in gradients)

    expected = torch_gradients(reference)

    def loss(both):
        y = both[0](both[1])
        return jnp.sum(jnp.sin(y)), y

    gradients = eqx.filter_jit(eqx.filter_grad(loss, has_aux=True))
    (layer_bar, x_bar), y = gradients((equinox, jnp.asarray(x)))
    got = (y, x_bar, layer_bar.weight, layer_bar.bias)
    assert_close(torch_gradients(ours), expected, tolerance=1e-5)
    assert_close(got, expected, tolerance=1e-5)


ASYMMETRIC = {
    "Conv1d": dict(kernel_size=3, padding="causal", dilation=2),
    "Conv2d": dict(kernel_size=4, stride=3, padding="same"),
    "ConvTranspose1d": dict(kernel_size=3, stride=2, padding="causal", output_padding=1),
    "ConvTranspose2d": dict(kernel_size=4, stride=(2, 3), padding=((1, 2), 0), output_padding=1),
}


@pytest.mark.parametrize("name", ASYMMETRIC)
@pytest.mark.parametrize("bias", [True, False])
def test_engines_agree_on_uneven_paddings_and_leading_axes(name, bias):
    equinox = getattr(eqx_nn, name)(3, 4, **ASYMMETRIC[name], bias=bias, key=KEY)
    ours = getattr(torch_nn, name)(3, 4, **ASYMMETRIC[name], bias=bias)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in eqx_nn.state_dict(equinox).items()
    }
    torch_nn.load_state_dict(ours, eqx_nn.state_dict(equinox))
    shape = (3, 9) if name.endswith("1d") else (3, 7, 8)
    for lead in [(), (2, 3)]:
        x = normal(4, *lead, *shape).astype(np.float32)
        got, expected = eqx.filter_jit(equinox)(x), ours(torch.tensor(x)).detach().numpy()
        assert got.shape[: len(lead) + 1] == (*lead, 4)
        assert_close(got, expected, tolerance=1e-5)
    assert equinox(np.zeros((0, *shape), np.float32)).shape == tuple(ours(torch.zeros(0, *shape)).shape)


@pytest.mark.parametrize("padding", ["causal", "same"])
@pytest.mark.parametrize("name", ["Conv1d", "ConvTranspose1d"])
def test_causal_layers_see_no_later_input(name, padding):
    """An output at time t moves with the inputs up to t alone; with "same" padding it would not."""
    layer = getattr(eqx_nn, name)(1, 1, 3, padding=padding, dilation=2, key=KEY)
    engine_twin = torch_nn.load_state_dict(
        getattr(torch_nn, name)(1, 1, 3, padding=padding, dilation=2), eqx_nn.state_dict(layer)
    )
    x = normal(5, 1, 10).astype(np.float32)
    later = x + np.where(np.arange(10) >= 6, 1.0, 0.0).astype(np.float32)
    for outputs in [
        (layer(x), layer(later)),
        (engine_twin(torch.tensor(x)).detach(), engine_twin(torch.tensor(later)).detach()),
    ]:
        moved = np.flatnonzero(np.abs(np.asarray(outputs[0]) - np.asarray(outputs[1]))[0] > 1e-6)
        assert (moved.min() >= 6) == (padding == "causal")
        assert moved.size > 0
    assert layer(x).shape == (1, 10)


@pytest.mark.parametrize("n", [1, 4, 7, 28])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_divides_the_size_by_the_stride(n, stride):
    for kernel in (2, 3, 5):
        pads = sizes.paddings("same", (kernel,), (1,))
        assert sizes.of_input((n,), (kernel,), (stride,), pads, (1,)).output_size == (-(-n // stride),)


def test_compiles_once_for_equal_layers():
    traces = []

    @jax.jit
    def apply(layer, x):
        traces.append(1)
        return layer(x)

    x = np.ones((2, 3, 5, 5), np.float32)
    for seed in range(3):
        apply(eqx_nn.Conv2d(3, 4, 3, padding="same", key=jax.random.key(seed)), x)
    assert len(traces) == 1


@pytest.mark.parametrize("name", LAYERS)
def test_initial_parameters_have_torchs_law(name):
    """Uniform up to 1/sqrt(fan in): of 2,500 draws one lies within 1 % of the bound, but for a chance of 1e-11."""
    torch.manual_seed(0)
    kwargs = LAYERS[name] | {"kernel_size": 5}
    reference = getattr(torch.nn, name)(20, 25, **kwargs)
    for layer in (getattr(torch_nn, name)(20, 25, **kwargs), getattr(eqx_nn, name)(20, 25, **kwargs, key=KEY)):
        assert tuple(layer.weight.shape) == tuple(reference.weight.shape)
        bound = (reference.weight[0].numel()) ** -0.5
        weight = np.abs(np.array(layer.weight.tolist()))
        assert 0.99 * bound < weight.max() <= bound
        assert np.abs(np.array(layer.bias.tolist())).max() <= bound


REFUSED = {
    "stride": (dict(kernel_size=3, stride=0), r"stride: got 0; expected a whole number >= 1"),
    "stride for three axes": (
        dict(kernel_size=3, stride=(1, 2, 1)),
        r"stride: got \(1, 2, 1\); expected one number, or 2",
    ),
    "kernel": (dict(kernel_size=True), r"kernel_size: got True; expected a whole number"),
    "negative padding": (dict(kernel_size=3, padding=-1), r"padding: got -1; expected a whole number >= 0"),
    "padding for one axis": (
        dict(kernel_size=3, padding=(1,)),
        r"padding: got \(1,\); expected one number, or for each",
    ),
    "padding in words": (dict(kernel_size=3, padding="full"), r'padding: got \'full\'; expected numbers, "same"'),
    "causal images": (dict(kernel_size=3, padding="causal"), r'"causal" is for one dimension'),
    "dilation": (dict(kernel_size=3, dilation=0), r"dilation: got 0"),
}


@pytest.mark.parametrize(("kwargs", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals(kwargs, message):
    with pytest.raises(ValueError, match=message):
        torch_nn.Conv2d(3, 4, **kwargs)
    with pytest.raises(ValueError, match=message):
        eqx_nn.ConvTranspose2d(3, 4, **kwargs, key=KEY)


def test_refusals_of_inputs():
    for conv, transposed, array in [
        (
            eqx_nn.Conv2d(3, 4, 5, key=KEY),
            eqx_nn.ConvTranspose2d(3, 4, 1, padding=2, key=KEY),
            lambda *shape: np.zeros(shape, np.float32),
        ),
        (torch_nn.Conv2d(3, 4, 5), torch_nn.ConvTranspose2d(3, 4, 1, padding=2), torch.zeros),
    ]:
        with pytest.raises(
            ValueError, match=r"input of Conv: got shape \(2, 8, 8, 3\); expected \(\.\.\., 3, height, width\)"
        ):
            conv(array(2, 8, 8, 3))
        with pytest.raises(ValueError, match="channels first"):
            conv(array(8, 8))
        with pytest.raises(ValueError, match=r"input of a convolution: got spatial shape \(4, 8\)"):
            conv(array(3, 4, 8))
        with pytest.raises(ValueError, match="input of a transposed convolution: got spatial shape"):
            transposed(array(3, 4, 4))
    with pytest.raises(ValueError, match="output_padding: got"):
        torch_nn.ConvTranspose1d(1, 1, 3, stride=2, output_padding=2)
    with pytest.raises(ValueError, match="dims: got 3"):
        maps.Conv(3, 1, 1, 3, key=KEY)
