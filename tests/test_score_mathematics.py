"""The mathematics of score models in float64: moments, flows, the order of a sampler, ladders, embeddings."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from deepgen.models.score import embedding, levels, recipe, sdes

SDES = pytest.mark.parametrize(
    "sde", [sdes.VE(0.02, 20.0), sdes.VP(), sdes.SubVP()], ids=lambda sde: type(sde).__name__
)
MEAN, VARIANCE = 0.8, 1.7


def scaled(sde: Any, x: Any, t: Any) -> Any:
    """sigma times the score of N(0.8, 1.7) noised."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return -sigma * (x - alpha * MEAN) / (alpha**2 * VARIANCE + sigma**2)


@SDES
def test_moments_solve_the_equations_of_the_diffusion(sde: Any) -> None:
    """d alpha / dt = a alpha, d sigma^2 / dt = 2 a sigma^2 + g^2, by a solver of the equations."""

    def rates(t: float, state: np.ndarray, halved: float = 1.0) -> list[float]:
        at = np.array(t)
        return [sde.drift(at) * state[0], 2 * sde.drift(at) * state[1] + halved * sde.diffusion(at) ** 2]

    ends = np.array([sde.t_min, 1.0])
    start = [sde.alpha(ends)[0], sde.sigma(ends)[0] ** 2]
    found = integrate.solve_ivp(rates, ends, start, rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(found, [sde.alpha(ends)[1], sde.sigma(ends)[1] ** 2], rtol=1e-6)
    wrong = integrate.solve_ivp(rates, ends, start, args=(0.5,), rtol=1e-10, atol=1e-12).y[:, -1]
    assert abs(wrong[1] / sde.sigma(ends)[1] ** 2 - 1) > 0.1
    assert sde.prior_scale == pytest.approx(sde.sigma(ends)[1], rel=1e-4)


def moments_of_the_sampler(sde: Any, num_steps: int, factor: float = 1.0) -> tuple[float, float]:
    """Mean and variance of Euler and Maruyama's draws, begun at the exact law: each step is linear."""
    times, one, zero = sdes.grid(sde, num_steps), np.ones(()), np.zeros(())
    ends = np.array(1.0)
    mean = sde.alpha(ends) * MEAN
    variance = sde.alpha(ends) ** 2 * VARIANCE + sde.sigma(ends) ** 2

    def step(x: Any, t: Any, after: Any, noise: Any) -> Any:
        return sdes.reverse_step(sde, x, t, after, factor * scaled(sde, x, t), noise)

    for t, after in pairwise(times):
        t, after = np.array(t), np.array(after)
        slope = step(one, t, after, zero) - step(zero, t, after, zero)
        noise = step(zero, t, after, one) - step(zero, t, after, zero)
        mean, variance = step(mean, t, after, zero), slope**2 * variance + noise**2
    return float(mean), float(variance)


@SDES
def test_the_reverse_diffusion_converges_with_order_one(sde: Any) -> None:
    end = np.array(sde.t_min)
    exact = sde.alpha(end) * MEAN, sde.alpha(end) ** 2 * VARIANCE + sde.sigma(end) ** 2
    counts = np.array([400, 800, 1600])

    def errors(factor: float) -> np.ndarray:
        return np.array([abs(moments_of_the_sampler(sde, int(n), factor)[1] - exact[1]) for n in counts])

    found = errors(1.0)
    slope = np.polyfit(np.log(counts), np.log(found), 1)[0]
    assert -1.2 < slope < -0.8
    assert found[-1] < 0.02 * exact[1]
    halved = errors(0.5)
    assert halved[-1] > 0.05 * exact[1], "half the score, as in the probability flow, would not be seen"


@SDES
def test_the_probability_flow_has_the_marginals_of_the_diffusion(sde: Any) -> None:
    """A point keeps its quantile."""
    ends = np.array([1.0, sde.t_min])
    loc = sde.alpha(ends) * MEAN
    sd = np.sqrt(sde.alpha(ends) ** 2 * VARIANCE + sde.sigma(ends) ** 2)

    def velocity(t: float, x: np.ndarray, factor: float = 1.0) -> Any:
        return sdes.flow(sde, x, np.array(t), factor * scaled(sde, x, np.array(t)))

    start = loc[0] + sd[0] * np.array([-1.5, 0.3, 2.0])
    found = integrate.solve_ivp(velocity, ends, start, rtol=1e-10, atol=1e-10).y[:, -1]
    np.testing.assert_allclose((found - loc[1]) / sd[1], [-1.5, 0.3, 2.0], rtol=1e-5)
    twice = integrate.solve_ivp(velocity, ends, start, args=(2.0,), rtol=1e-8, atol=1e-8).y[:, -1]
    assert np.abs((twice - loc[1]) / sd[1] - [-1.5, 0.3, 2.0]).max() > 0.1


@SDES
def test_denoising_gives_the_expected_datum(sde: Any) -> None:
    """E[x_0 | x_t] of a normal law, by regression."""
    t = np.array(0.4)
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    x = np.array([-1.0, 0.2, 3.0])
    gain = alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2)
    np.testing.assert_allclose(
        sdes.denoised(sde, x, t, scaled(sde, x, t)), MEAN + gain * (x - alpha * MEAN), rtol=1e-10
    )


def test_levels_are_trained_at_and_no_other() -> None:
    sde = sdes.VE(0.1, 10.0, levels=3)
    times = sde.time(np.linspace(0, 0.999, 50))
    np.testing.assert_allclose(np.unique(np.round(sde.sigma(times), 9)), [0.1, 1.0, 10.0])
    assert len(np.unique(sdes.VE(0.1, 10.0).time(np.linspace(0, 0.999, 50)))) == 50


@SDES
def test_grids_go_from_noise_to_data(sde: Any) -> None:
    times = sdes.grid(sde, 10)
    assert len(times) == 11
    assert times[0] == 1.0
    assert times[-1] == sde.t_min
    assert (np.diff(times) < 0).all()


@SDES
def test_rungs_reach_from_the_prior_to_the_least_noise(sde: Any) -> None:
    found = levels.rungs(sde, 30)
    ends = np.array([1.0, sde.t_min])
    np.testing.assert_allclose(found.rho[[0, -1]], sde.sigma(ends) / sde.alpha(ends))
    np.testing.assert_allclose(found.rho[1:] / found.rho[:-1], found.rho[1] / found.rho[0])
    np.testing.assert_allclose(found.step_size / found.rho, found.step_size[0] / found.rho[0])
    assert found.start == pytest.approx(found.rho[0], rel=1e-4)


def test_the_prior_is_normal() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    np.testing.assert_allclose(sdes.prior_log_prob(x, 2.5), stats.norm.logpdf(x, scale=2.5).sum((1, 2)))


def test_a_silent_network_has_the_score_of_the_prior() -> None:
    """With F = 0 the score is that of N(0, scale^2 I) noised; with small noise it is F / rho."""
    x, rho = np.array([[1.0, -2.0]]), np.array([[0.5]])
    np.testing.assert_allclose(embedding.scaled_score(x, rho, 2.0, 0 * x) / rho, -x / (4 + 0.25))
    np.testing.assert_allclose(embedding.scaled_score(x, 1e-9 * rho, 2.0, 3 + 0 * x), 3 + 0 * x, rtol=1e-6)
    np.testing.assert_allclose(embedding.scaled_input(x, rho, 2.0), x / np.sqrt(4.25))


def test_fourier_features_tell_levels_apart() -> None:
    rho = np.geomspace(1e-3, 1e2, 200)
    found = embedding.fourier(rho, 8)
    assert found.shape == (200, 8)
    np.testing.assert_allclose(found[:, :4] ** 2 + found[:, 4:] ** 2, 1.0)
    distance = np.linalg.norm(found[:, None] - found[None], axis=-1)
    assert distance[np.triu_indices(200, 1)].min() > 1e-2


def test_noise_reaches_as_far_as_the_data() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    found = recipe.ends((2,), "ve", None, x)
    assert found.sde.sigma_max == pytest.approx(5.0)
    assert found.sde.levels is None
    assert found.scale == pytest.approx(np.sqrt(((x - x.mean(0)) ** 2).mean()))
    assert recipe.ends((2,), None, "auto", x).sde.levels == recipe.FEWEST_LEVELS
    many = np.random.default_rng(0).standard_normal((20, 100))
    assert recipe.ends((100,), None, "auto", many).sde.levels > 20
    assert recipe.ends((2,), None, 12, x).sde.levels == 12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sdes.VE(2.0, 1.0), r"sigma_min and sigma_max: got 2.0 and 1.0; expected 0 < sigma_min < sigma_max"),
        (lambda: sdes.VE(levels=1), r"levels: got 1; expected a whole number >= 2"),
        (lambda: sdes.VP(beta_min=0.0), r"beta_min and beta_max: got 0.0 and 20.0"),
        (lambda: sdes.VP(t_min=1.0), r"t_min: got 1.0; expected a number in \(0, 1\)"),
        (lambda: sdes.check("vx"), r"sde: got 'vx'; expected one of \['ve', 'vp', 'subvp'\]"),
        (lambda: recipe.ends((2,), "vp", 10, None), r"levels: got 10 with sde='vp'; expected levels with sde=\"ve\""),
        (lambda: recipe.ends((2,), None, "auto", None), r"levels: got 'auto' without data"),
        (lambda: recipe.check_network((2,), 3, 1.0, 0), r"features: got 3; expected an even number.*Pass 4"),
        (lambda: recipe.check_network((2,), 4, 0.0, 0), r"scale: got 0.0; expected a finite number > 0"),
        (lambda: recipe.check_sampling("euler", None), r"method: got 'euler'; expected one of \['ode', 'sde'"),
        (lambda: recipe.check_sampling("ode", 5), r"num_steps: got 5; expected none for method='ode'"),
        (lambda: recipe.check_guidance(1.0, 0.1, 0), r"guidance: got 1.0 without a context"),
        (lambda: recipe.check_guidance(0.0, 1.0, 0), r"drop: got 1.0; expected a share in \[0, 1\)"),
        (lambda: recipe.probes(-1, (3,)), r"num_probes: got -1"),
        (lambda: recipe.check_context(2, (4, 3)), r"context: got shape \(4, 3\); expected \(n, 2\)"),
        (lambda: recipe.context_rows(np.zeros((3, 2)), 4, 2), r"context: got 3 rows; expected 4"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
