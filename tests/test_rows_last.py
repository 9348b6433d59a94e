"""Networks with their rows last give what they give with their rows first, in both engines; so do their gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyro.distributions as dist
import pytest
import torch

from deepgen.models.flow.pyro import Flow
from deepgen.nn import equinox as eqx_nn
from deepgen.nn import torch as torch_nn
from deepgen.nn.torch_layers import spent

MLP: dict[str, Any] = {"network": "MLP", "in_size": 6, "out_size": 5, "hidden": [6, 4, 4]}
MASKED: dict[str, Any] = {"network": "MaskedMLP", "event_shape": [3, 2], "num_params": 2, "hidden": [7, 7]}
CASES: dict[str, dict[str, Any]] = {
    "plain": {**MLP, "activation": "relu"},
    "all": {**MLP, "activation": "tanh", "residual": True, "layer_norm": True, "skip": True},
    "masked": {**MASKED, "activation": "sigmoid"},
    "context": {**MASKED, "context_size": 2, "direct": False},
}


def both(spec: dict[str, Any], fault: float = 0.0) -> list[list[np.ndarray]]:
    """Outputs and gradients by the input, rows first and rows last, in each engine."""
    own = eqx_nn.build(spec, jax.random.key(0))
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=leaf.shape).astype(np.float32) for name, leaf in eqx_nn.state_dict(own).items()}
    own, other = eqx_nn.load_state_dict(own, values), torch_nn.load_state_dict(torch_nn.build(spec), values)
    x = rng.normal(size=(4, 6)).astype(np.float32)
    shape = (4, *spec.get("event_shape", [6]))
    context = [rng.normal(size=(4, 2)).astype(np.float32)] if "context_size" in spec else []

    def first(network: Any, x: Any, given: list[Any]) -> Any:
        return network(x.reshape(shape), *given).reshape(4, -1)

    def last(network: Any, x: Any, given: list[Any]) -> Any:
        return network.leading(x.T, *(each.T for each in given)).T + fault

    found = []
    for way in (first, last):
        in_jax, given = jnp.asarray(x), [jnp.asarray(each) for each in context]
        slope = jax.grad(lambda x: (way(own, x, given) ** 2).sum())(in_jax)  # noqa: B023
        in_torch = torch.tensor(x, requires_grad=True)
        y = way(other, in_torch, [torch.as_tensor(each) for each in context])
        (gradient,) = torch.autograd.grad((y**2).sum(), in_torch)
        found += [[np.asarray(way(own, in_jax, given)), np.asarray(slope)], [y.detach().numpy(), gradient.numpy()]]
    return found


@pytest.mark.parametrize("name", CASES)
def test_rows_last_are_rows_first(name: str) -> None:
    found = both(CASES[name])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4 * np.abs(one).max())
    assert np.abs(found[0][0] - both(CASES[name], fault=0.01)[2][0]).max() > 5e-3


@pytest.mark.parametrize("name", CASES)
def test_wrong_sizes_are_refused(name: str) -> None:
    spec = CASES[name]
    given = [np.zeros((2, 4), np.float32)] if "context_size" in spec else []
    with pytest.raises(ValueError, match="MLP"):
        eqx_nn.build(spec, jax.random.key(0)).leading(jnp.zeros((5, 4)), *(jnp.asarray(each) for each in given))
    with pytest.raises(ValueError, match="MLP"):
        torch_nn.build(spec).leading(torch.zeros(5, 4), *(torch.as_tensor(each) for each in given))


def test_a_context_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="context: got shape"):
        eqx_nn.build(CASES["context"], jax.random.key(0)).leading(jnp.zeros((6, 4)), jnp.zeros((3, 4)))
    with pytest.raises(ValueError, match="context: got shape"):
        torch_nn.build(CASES["context"]).leading(torch.zeros(6, 4), torch.zeros(3, 4))


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "gelu"])
def test_what_is_overwritten_keeps_its_derivatives(activation: str) -> None:
    """First and second derivatives against differences; only the named three overwrite their argument."""
    x = torch.tensor([[-1.3, 0.4, 2.1]], dtype=torch.float64, requires_grad=True)
    act = spent(activation)
    assert torch.autograd.gradcheck(lambda x: act(1.5 * x), (x,))
    assert torch.autograd.gradgradcheck(lambda x: act(1.5 * x), (x,))
    before = 1.5 * x.detach()
    after = act(before)
    assert (after is before) == (activation != "gelu")


def test_second_derivatives_of_an_affine_flow() -> None:
    """Through couplings, permutations and the base, against differences."""
    torch.manual_seed(0)
    flow = Flow.realnvp((4,), num_transforms=3, hidden=(5,), activation="tanh").double()
    for param in flow.parameters():
        torch.nn.init.normal_(param, std=0.5)
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(flow.distribution().log_prob, (x,))
    assert torch.autograd.gradgradcheck(flow.distribution().log_prob, (x,))


def test_the_base_has_the_density_of_a_standard_normal() -> None:
    base = Flow(3, [])._base()
    x = torch.tensor([[0.0, -2.0, 5.0], [1.0, 30.0, 0.3]])
    np.testing.assert_allclose(base.log_prob(x), dist.Normal(0.0, 1.0).log_prob(x).sum(-1), rtol=1e-6)
    wide = base.expand((2,))
    assert wide.log_prob(x[0]).shape == (2,)
    np.testing.assert_allclose(wide.log_prob(x), base.log_prob(x))
    with pytest.raises(ValueError, match="within the support"):
        base.base_dist.log_prob(torch.tensor([np.nan, 0.0, 0.0]))
