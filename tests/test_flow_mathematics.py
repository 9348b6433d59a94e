"""The mathematics of flows in NumPy float64: finite differences, round trips, integrals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepgen.models.flow import affine, recipe, shapes
from deepgen.models.flow.spline import num_params, spline
from deepgen.models.flow.spline_gradient import cotangent, tangent

BOUND = 2.5


def parameters(seed: int, num_bins: int, size: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((num_params(num_bins), size))


@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0.0, 2.0), st.booleans())
def test_a_spline_is_inverted(seed: int, num_bins: int, scale: float, inverse: bool) -> None:
    x = 1.5 * np.random.default_rng(seed).standard_normal(9)
    theta = parameters(seed, num_bins, 9, scale)
    y, log_slope = spline(x, theta, BOUND, inverse=inverse)
    back, log_back = spline(y, theta, BOUND, inverse=not inverse)
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(log_back, -log_slope, atol=1e-7)


@given(st.integers(0, 10_000), st.floats(0.0, 2.0))
def test_a_spline_is_inverted_in_float32(seed: int, scale: float) -> None:
    x = (1.5 * np.random.default_rng(seed).standard_normal(9)).astype(np.float32)
    theta = parameters(seed, 8, 9, scale).astype(np.float32)
    y, log_slope = spline(x, theta, BOUND)
    back, _ = spline(y, theta, BOUND, inverse=True)
    assert np.isfinite(back).all()
    # an error of rounding in y is an error of that over the slope in x
    np.testing.assert_array_less(np.abs(back - x), 1e-5 * (1 + np.exp(-log_slope)))


@pytest.mark.parametrize("inverse", [False, True])
def test_edges_are_finite_and_monotone(inverse: bool) -> None:
    """Knots, bounds, what lies far out, and slopes at their least, in float32."""
    x = np.concatenate([np.linspace(-BOUND, BOUND, 2001), [-1e30, -BOUND * 1.0000001, BOUND * 1.0000001, 1e30]])
    x = np.sort(x).astype(np.float32)
    theta = np.repeat(parameters(3, 8, 1, 6.0), len(x), axis=1).astype(np.float32)
    y, log_slope = spline(x, theta, BOUND, inverse=inverse)
    assert np.isfinite(y).all()
    assert np.isfinite(log_slope).all()
    assert (np.diff(y) >= -1e-6).all()


@pytest.mark.parametrize("inverse", [False, True])
def test_slopes_integrate_to_the_spline(inverse: bool) -> None:
    theta = parameters(1, 6, 1)
    x = np.linspace(-4.0, 3.5, 100_001)
    y, log_slope = spline(x, np.broadcast_to(theta, (len(theta), len(x))), BOUND, inverse=inverse)
    slope = np.exp(log_slope)
    area = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(x))])
    np.testing.assert_allclose(y[0] + area, y, atol=1e-5)
    assert np.abs(y[0] + area * 1.01 - y).max() > 1e-2


def test_zeros_are_the_identity() -> None:
    x = np.linspace(-4, 4, 101)
    y, log_slope = spline(x, np.zeros((num_params(8), 101)), BOUND)
    np.testing.assert_allclose(y, x, atol=1e-14)
    np.testing.assert_allclose(log_slope, 0, atol=1e-14)


def moved(inverse: bool, fault: float = 1.0) -> tuple[float, float]:
    """The largest errors of the closed-form derivatives against central differences and against each other."""
    rng = np.random.default_rng(4)
    x, theta = 2 * rng.standard_normal((5, 7)), rng.standard_normal((num_params(5), 5, 7))
    dx, dtheta, u, v = rng.standard_normal((5, 7)), rng.standard_normal(theta.shape), *rng.standard_normal((2, 5, 7))
    outputs, (dy, dlog) = tangent(x, theta, dx, fault * dtheta, BOUND, inverse=inverse)
    step = 1e-6
    after = spline(x + step * dx, theta + step * dtheta, BOUND, inverse=inverse)
    before = spline(x - step * dx, theta - step * dtheta, BOUND, inverse=inverse)
    difference = max(
        float(np.abs((a - b) / (2 * step) - d).max()) for a, b, d in zip(after, before, (dy, dlog), strict=True)
    )
    assert all(np.array_equal(a, b) for a, b in zip(outputs, spline(x, theta, BOUND, inverse=inverse), strict=True))
    by_x, by_theta = cotangent(x, theta, u, v, BOUND, inverse=inverse)
    pairing = float((u * dy + v * dlog).sum() - (by_x * dx).sum() - (by_theta * dtheta).sum())
    return difference, abs(pairing)


@pytest.mark.parametrize("inverse", [False, True])
def test_closed_form_derivatives(inverse: bool) -> None:
    difference, pairing = moved(inverse)
    assert difference < 1e-6
    assert pairing < 1e-10
    assert min(moved(inverse, fault=1.01)) > 1e-3


@given(st.integers(0, 1000), st.booleans())
def test_affine_maps_are_inverted(seed: int, inverse: bool) -> None:
    rng = np.random.default_rng(seed)
    x, theta = rng.standard_normal(6), 8 * rng.standard_normal((2, 6))
    y, log_slope = affine.affine(x, theta, inverse=inverse)
    back, log_back = affine.affine(y, theta, inverse=not inverse)
    np.testing.assert_allclose(back, x, atol=1e-10)
    np.testing.assert_array_equal(log_back, -log_slope)
    assert np.abs(log_slope).max() <= affine.LOG_SCALE


@given(st.floats(1e-6, 0.4), st.integers(0, 1000))
def test_the_logit_is_inverted(alpha: float, seed: int) -> None:
    x = np.random.default_rng(seed).random(8)
    y, log_slope = affine.logit(x, alpha)
    back, log_back = affine.logit(y, alpha, inverse=True)
    np.testing.assert_allclose(back, x, atol=1e-12)
    np.testing.assert_allclose(log_back, -log_slope, atol=1e-9)
    step = 1e-6 * np.minimum(x, 1 - x)
    slope = (affine.logit(x + step, alpha)[0] - affine.logit(x - step, alpha)[0]) / (2 * step)
    np.testing.assert_allclose(np.log(slope), log_slope, atol=1e-4)


def test_triangles_and_statistics() -> None:
    rng = np.random.default_rng(0)
    weight, diagonal = rng.standard_normal((4, 4)), rng.standard_normal(4)
    lower, upper = affine.triangles(weight, diagonal)
    assert np.array_equal(np.diag(lower), np.ones(4))
    assert np.array_equal(lower, np.tril(lower))
    np.testing.assert_allclose(np.linalg.slogdet(lower @ upper)[1], diagonal.sum())
    x = rng.standard_normal((500, 3)) * [0.1, 1.0, 30.0] + [5.0, 0.0, -2.0]
    x[::7, 1] = np.nan
    loc, log_scale = affine.statistics(x)
    z, _ = affine.affine(x, np.stack([loc, affine.raw_log_scale(log_scale)])[:, None], inverse=True)
    np.testing.assert_allclose(np.nanmean(z, 0), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(z, 0), 1)


def test_dequantised_integers() -> None:
    x = np.arange(6.0)
    y = affine.dequantize(x, np.linspace(0, 0.99, 6), 6)
    assert (y >= 0).all()
    assert (y < 1).all()
    assert np.array_equal(np.floor(y * 6), x)


@given(st.lists(st.booleans(), min_size=2, max_size=9))
def test_a_split_is_put_together_again(mask: list[bool]) -> None:
    if all(mask) or not any(mask):
        with pytest.raises(ValueError, match="at least one True and one False"):
            shapes.check_mask(mask)
        return
    found = shapes.split(shapes.check_mask(mask))
    joined = np.array((*found.kept, *found.moved))[list(found.back)]
    assert np.array_equal(joined, np.arange(len(mask)))
    assert np.array_equal(np.flatnonzero(mask), found.moved)


def test_halves_take_turns() -> None:
    for size in (2, 5, 8):
        assert not np.any(np.equal(recipe.mask(size, 0), recipe.mask(size, 1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: num_params(1), "num_bins: got 1"),
        (lambda: affine.logit(np.zeros(2), 0.5), "alpha: got 0.5"),
        (lambda: affine.statistics(np.zeros((1, 3))), "data: got 1 rows"),
        (lambda: shapes.check_permutation([0, 2]), "permutation: got"),
        (lambda: shapes.check_context(2, None), "context: got none"),
        (lambda: shapes.check_context(0, (3, 2)), "context: got shape"),
        (lambda: shapes.context_rows(np.zeros((3, 2)), 4, 2), "context: got 3 rows"),
        (lambda: shapes.check_network(4, (3, 3), 3), "network: got outputs"),
        (lambda: recipe.one_context([2, 0, 3]), "contexts of"),
        (lambda: recipe.ends((2,), num_transforms=0, mixing="none", base="normal", logit=None, data=None), "num_tran"),
        (
            lambda: recipe.ends((1,), num_transforms=1, mixing="none", base="normal", logit=0.1, data=[[2.0], [0.0]]),
            "values from 0.0 to 2.0",
        ),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
