"""The bin in which a spline finds a value: one and the same at a knot, and for derivatives of derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from deepgen.models.flow import spline, spline_gradient
from deepgen.models.flow.numpyro.elements import rational_quadratic
from deepgen.models.flow.pyro import elements

BOUND, VALUES = 5.0, 20_000


def torn(x: Any, parameters: Any, bound: float, *, inverse: bool) -> spline.Bin:
    """`spline.find` with what a compiler could make of it: the widths' bin found by a sum that is rounded otherwise."""
    place, other = (spline.find(x + shift, parameters, bound, inverse=inverse) for shift in (0.0, 1e-5))
    return place._replace(width=other.width, height=other.height)


def errors(inverse: bool) -> tuple[int, float]:
    """How many values and log-slopes are not finite, and the largest error of a value over what one of x brings."""
    rng = np.random.default_rng(0)
    weight, inputs = rng.normal(size=(6, 23)).astype(np.float32), rng.normal(size=(VALUES, 6)).astype(np.float32)

    def parameters(weight: Any) -> Any:
        return jnp.moveaxis(inputs @ weight, -1, 0)

    theta = np.asarray(jax.jit(parameters)(weight))
    place = spline.find(rng.uniform(-4, 4, VALUES).astype(np.float32), theta, BOUND, inverse=inverse)
    x = place.y if inverse else place.x

    def loss(weight: Any) -> Any:
        found = rational_quadratic(jnp.asarray(x), parameters(weight), BOUND, inverse)
        return sum(part.sum() for part in found), found

    (_, found), _ = jax.jit(jax.value_and_grad(loss, has_aux=True))(weight)
    value, log_slope = (np.asarray(part) for part in found)
    true, true_slope = spline.spline(x.astype(np.float64), theta.astype(np.float64), BOUND, inverse=inverse)
    finite = np.isfinite(value) & np.isfinite(log_slope)
    error = np.abs(value - true) / (1 + np.exp(np.maximum(true_slope, log_slope)))
    return int((~finite).sum()), float(np.nanmax(error))


@pytest.mark.parametrize("inverse", [False, True])
def test_a_value_at_a_knot_is_in_one_bin(inverse: bool) -> None:
    lost, error = errors(inverse)
    assert lost == 0
    assert error < 1e-3


def test_numbers_of_two_bins_would_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spline_gradient, "find", torn)
    assert all(lost > 0 or error > 0.1 for lost, error in map(errors, (False, True)))


@pytest.mark.parametrize("inverse", [False, True])
def test_second_derivatives_see_how_the_bin_depends_on_the_parameters(inverse: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    x = (2 * torch.randn(6, dtype=torch.float64, generator=draw)).requires_grad_()
    theta = torch.randn(23, 6, dtype=torch.float64, generator=draw, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *args: elements.rational_quadratic(*args, BOUND, inverse), (x, theta))
