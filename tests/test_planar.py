"""Laws in the plane: densities that integrate to one, draws that have them, and shares of modes that are counted."""

from typing import Any

import numpy as np
import pytest
from montecarlo import limit

from deepgen import data

WEIGHTS = np.arange(1.0, 9.0)
LAWS = (data.eight_gaussians(), data.eight_gaussians(weights=WEIGHTS), data.two_moons(), data.checkerboard())
EACH = pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.name}-{law.weights.max():.2g}")
TOLERANCE = 1e-4
"""Of shares by the grid: a normal of the circle lies nearest to another mode's centre as often."""


def mass(law: Any) -> tuple[np.ndarray, np.ndarray]:
    """Points of a grid and their probabilities by the midpoint rule."""
    points, area = law.grid(120)
    return points, np.exp(law.log_prob(points)) * area


@EACH
def test_the_density_integrates_to_one_and_to_the_weights_of_the_modes(law: Any) -> None:
    points, weights = mass(law)
    assert np.abs(points).max() < law.reach
    assert law.weights.sum() == pytest.approx(1)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(law.shares(points, weights), law.weights, atol=TOLERANCE)
    assert np.abs(law.shares(points, 1.01 * weights) - law.weights).max() > TOLERANCE, (
        "a density that is off by a little"
    )


@EACH
def test_draws_have_the_density(law: Any) -> None:
    """Means of functions of draws against the grid, and the shares of the modes."""
    x = law.draw(np.random.default_rng(0), 4000)
    assert x.shape == (4000, 2)
    assert x.dtype == np.float32
    points, weights = mass(law)

    def density(x: np.ndarray) -> np.ndarray:
        return np.maximum(law.log_prob(x), -20)[:, None]

    def worst(x: np.ndarray) -> float:
        found = [(law.shares(x) - law.weights) / np.sqrt(law.weights * (1 - law.weights) / len(x))]
        for function in (np.sin, np.square, lambda x: x[:, :1] * x[:, 1:], density):
            value, expected = function(x.astype(float)), weights @ function(points.astype(float))
            found.append((value.mean(0) - expected) / (value.std(0) / np.sqrt(len(x)) + 1e-4))
        scores = np.concatenate(found)
        return float(np.abs(scores).max() / limit(len(scores)))

    assert worst(x) < 1
    assert worst(x + 0.15) > 1, "draws of a law that is moved"
    assert worst(np.concatenate([x[law.mode(x) > 0], x[:20]])) > 1, "a mode left out"


def entropy(law: Any) -> float:
    points, weights = mass(law)
    points, weights = points[weights > 0], weights[weights > 0]
    return float(-weights @ law.log_prob(points))


def test_densities_in_closed_form() -> None:
    assert entropy(data.checkerboard()) == pytest.approx(np.log(8), abs=1e-6)
    assert entropy(data.eight_gaussians()) == pytest.approx(np.log(8 * 2 * np.pi * 0.2**2) + 1, abs=1e-3)
    moons = data.two_moons(noise=0.1)
    # beside the middle of an arc the density is that of the distance from it: 1 / 2 pi along it, normal across
    beside = np.array([[-0.5, 0.75 + 0.05]])
    assert moons.log_prob(beside)[0] == pytest.approx(
        -np.log(2 * np.pi) - 0.5 * 0.5**2 - np.log(0.1 * np.sqrt(2 * np.pi)), abs=0.05
    )
    np.testing.assert_allclose(moons.log_prob(-beside), moons.log_prob(beside))
    assert data.checkerboard().log_prob(np.array([[0.5, -0.5]]))[0] == -np.inf


def test_the_moons_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import make_moons

    x, label = make_moons(300, noise=0.05, random_state=0)
    law = data.two_moons(noise=0.05)
    moved = x - [0.5, 0.25]
    assert np.mean(law.mode(moved) == label) > 0.99
    assert law.log_prob(moved).mean() > law.log_prob(x).mean() + 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: data.eight_gaussians(weights=[1, 2]), r"weights: got \[1, 2\]; expected eight positive numbers"),
        (lambda: data.eight_gaussians(weights=[0] * 8), r"weights: got .* expected eight positive numbers"),
        (lambda: data.eight_gaussians(scale=0), r"scale: got 0; expected a finite number > 0"),
        (lambda: data.eight_gaussians(radius=-1), r"radius: got -1"),
        (lambda: data.two_moons(noise=0.01), r"noise: got 0.01; expected at least 1/30"),
        (lambda: data.two_moons(noise=np.nan), r"noise: got nan"),
        (lambda: data.checkerboard().grid(0), r"size: got 0"),
    ],
)
def test_what_is_refused(made: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()
