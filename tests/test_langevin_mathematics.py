"""Langevin steps in NumPy float64: their law from the target on, their bias against theory, and where a bug shows."""

import kernels
import numpy as np
import pytest
from scipy import stats

from deepgen.inference.langevin import metric, overdamped, schedules, stochastic, tuning, underdamped
from deepgen.inference.langevin.acceptance import metropolis
from deepgen.inference.langevin.overdamped import Noise, State

N = 20_000


def ridge(z):
    """A bent ridge and the logarithm of an exponential variable, with the gradient by hand."""
    a, b, c = z[:, 0], z[:, 1], z[:, 2]
    with np.errstate(over="ignore", invalid="ignore"):  # a wild proposal may be anywhere
        across = b - a**2 / 2
        value = -0.5 * a**2 - 0.5 * across**2 + c - np.exp(c)
        return value, np.stack([-a + across * a, -across, 1 - np.exp(c)], axis=-1)


def ridge_draws(n, seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.stack([a, a**2 / 2 + rng.normal(size=n), np.log(rng.exponential(size=n))], axis=-1)


RIDGE_LAWS = {
    "first": (lambda z: z[:, 0], stats.norm.cdf),
    "across": (lambda z: z[:, 1] - z[:, 0] ** 2 / 2, stats.norm.cdf),
    "radius": (lambda z: z[:, 0] ** 2 + (z[:, 1] - z[:, 0] ** 2 / 2) ** 2, stats.chi2(2).cdf),
    "exponential": (lambda z: np.exp(z[:, 2]), stats.expon.cdf),
}
SPEED = {"speed": (lambda zv: (zv[:, 3:] ** 2).sum(1), stats.chi2(3).cdf)}


def roots():
    rng = np.random.default_rng(1)
    dense = np.tril(rng.normal(size=(1, 3, 3)) * 0.3) + np.diag([1.0, 0.7, 1.4])
    return {"identity": None, "diagonal": np.exp(rng.normal(size=(N, 3)) * 0.4), "dense": dense}


ROOTS = roots()
STEP = np.random.default_rng(2).choice([0.3, 0.8], size=N)


def overdamped_p_values(take, root):
    rng = np.random.default_rng(3)

    def advance(z):
        noise = Noise(rng.normal(size=z.shape), rng.random(len(z)))
        return take(noise, State(z, *ridge(z)), ridge, STEP, root)[0].position

    return list(kernels.start_at_target(ridge_draws(N, 4), advance, RIDGE_LAWS).values())


def underdamped_p_values(take, root, steps=1, normals=2):
    """The velocity is part of the state: its law is asked too."""
    rng = np.random.default_rng(5)

    def advance(zv):
        z, v = zv[:, :3], zv[:, 3:]
        noise = underdamped.Noise(rng.normal(size=(len(z), normals * steps, 3)), rng.random(len(z)))
        new = take(noise, underdamped.State(z, *ridge(z), v), ridge, STEP, root, 0.7)[0]
        return np.concatenate([new.position, new.velocity], axis=-1)

    start = np.concatenate([ridge_draws(N, 6), rng.normal(size=(N, 3))], axis=-1)
    return list(kernels.start_at_target(start, advance, RIDGE_LAWS | SPEED).values())


@pytest.mark.parametrize("root", ROOTS)
def test_mala_keeps_its_target(root):
    assert kernels.holds(overdamped_p_values(overdamped.mala_step, ROOTS[root]))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("steps", [1, 3])
def test_trajectories_keep_their_target(root, steps):
    assert kernels.holds(underdamped_p_values(underdamped.obabo_step, ROOTS[root], steps))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_unadjusted_steps_do_not_keep_it():
    assert not kernels.holds(overdamped_p_values(overdamped.ula_step, None))
    assert not kernels.holds(underdamped_p_values(underdamped.baoab_step, None, normals=1))


def halved_drift(x, score, step_size, root=None):
    h = metric.column(step_size)
    return x + 0.25 * h * h * metric.apply(root, metric.apply_transposed(root, score))


def no_proposal_ratio(log_density, log_density_new, noise, noise_back):
    return log_density_new - log_density


def unscaled_noise(x, score, step_size, noise, root=None):
    return overdamped.mean(x, score, step_size, root) + 0.5 * noise


def always(uniform, log_ratio, sound):
    return metropolis(uniform * 0, log_ratio * 0, sound)


PLANTED = {
    "drift halved": (overdamped, "mean", halved_drift),
    "proposal ratio missing": (overdamped, "log_ratio", no_proposal_ratio),
    "noise not scaled": (overdamped, "propose", unscaled_noise),
    "always accepted": (overdamped.acceptance, "metropolis", always),
}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_in_mala_shows(bug, monkeypatch):
    monkeypatch.setattr(*PLANTED[bug])
    assert not kernels.holds(overdamped_p_values(overdamped.mala_step, None))


def no_flip(accepted, new, old):
    wide = accepted[:, None]
    return underdamped.State(
        np.where(wide, new.position, old.position), None, None, np.where(wide, new.velocity, old.velocity)
    )


PLANTED_UNDERDAMPED = {
    "velocity not turned round": ("flip", no_flip),
    "kinetic energy missing": ("energy", lambda log_density, v: -log_density),
    "noise not scaled": ("refresh", lambda v, noise, time, friction: 0.7 * v + noise * 0.5),
    "kick doubled": ("kick", lambda v, s, t, root=None: v + 2 * metric.column(t) * metric.apply_transposed(root, s)),
}


@pytest.mark.parametrize("bug", PLANTED_UNDERDAMPED)
def test_a_planted_bug_in_a_trajectory_shows(bug, monkeypatch):
    monkeypatch.setattr(underdamped, *PLANTED_UNDERDAMPED[bug])
    holds = kernels.holds(underdamped_p_values(underdamped.obabo_step, None))
    # a doubled kick is still reversible and keeps volumes: what it costs is acceptance, not the law
    assert holds == (bug == "kick doubled")


@pytest.mark.parametrize("root", ROOTS)
def test_the_ratio_is_that_of_the_densities(root):
    rng, chosen = np.random.default_rng(7), ROOTS[root]
    x, z, h = ridge_draws(N, 8), rng.normal(size=(N, 3)), STEP
    value, score = ridge(x)
    y = overdamped.propose(x, score, h, z, chosen)
    value_y, score_y = ridge(y)
    back = overdamped.reverse_noise(z, score, score_y, h, chosen)
    np.testing.assert_allclose(overdamped.propose(y, score_y, h, back, chosen), x, atol=1e-8)
    there = overdamped.log_proposal_density(y, x, score, h, chosen)
    home = overdamped.log_proposal_density(x, y, score_y, h, chosen)
    ratio = overdamped.log_ratio(value, value_y, z, back)
    fine = np.abs(ratio) < 1e3
    np.testing.assert_allclose(ratio[fine], (value_y + home - value - there)[fine], atol=1e-8)
    # reversible: the way back has the opposite ratio
    again = overdamped.log_ratio(value_y, value, back, overdamped.reverse_noise(back, score_y, score, h, chosen))
    np.testing.assert_allclose(again[fine], -ratio[fine], atol=1e-8)
    assert np.abs((value_y - value - ratio)[fine]).max() > 0.1


def test_the_proposal_density_is_a_normal():
    rng = np.random.default_rng(9)
    x, score, y = rng.normal(size=(3, 4, 3))
    root = np.tril(rng.normal(size=(1, 3, 3))) + 2 * np.eye(3)
    found = overdamped.log_proposal_density(y, x, score, 0.6, root)
    covariance = 0.36 * root[0] @ root[0].T
    for i in range(4):
        mean = x[i] + covariance @ score[i] / 2
        assert found[i] == pytest.approx(stats.multivariate_normal.logpdf(y[i], mean, covariance))


def stationary_variance(take, h, precision, steps=400, n=40_000, extra=False):
    """The variance of a Gaussian chain that began with the target's, after it has settled."""
    rng = np.random.default_rng(11)

    def target(x):
        return -0.5 * (precision * x**2).sum(1), -precision * x

    x = rng.normal(size=(n, len(precision))) / np.sqrt(precision)
    state = underdamped.State(x, *target(x), rng.normal(size=x.shape)) if extra else State(x, *target(x))
    for _ in range(steps):
        normal = rng.normal(size=(n, 1, len(precision)) if extra else x.shape)
        noise = (underdamped.Noise if extra else Noise)(normal, rng.random(n))
        state, _ = take(noise, state, target, h)
    return state.position.var(0)


PRECISION = np.array([0.5, 1.0, 2.0])


@pytest.mark.parametrize("h", [0.4, 0.8])
def test_the_bias_of_ula_is_that_of_theory(h):
    n = 40_000
    found = stationary_variance(overdamped.ula_step, h, PRECISION, steps=60)
    truth = 1 / (PRECISION * (1 - h**2 * PRECISION / 4))
    # the mean square of n independent normals; the slowest has forgotten its start to (1 - h^2/4)^120
    start = (1 - h**2 * PRECISION / 2) ** 120 * (1 / PRECISION - truth)
    score = (found - truth - start) / (truth * np.sqrt(2 / n))
    assert np.abs(score).max() < 5
    assert np.abs((found - 1 / PRECISION) / (truth * np.sqrt(2 / n))).max() > 5, "the bias itself is seen"


def test_the_bias_of_ula_falls_with_the_square_of_the_step():
    """The exact recursion of the variance, from the step itself: v' = (dx'/dx)^2 v + h^2."""
    sizes = [0.4, 0.2, 0.1, 0.05]
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    errors = []
    for h in sizes:
        slope = overdamped.propose(one, -one, h, zero)[0, 0]
        noise = overdamped.propose(zero, zero, h, one)[0, 0]
        errors.append(noise**2 / (1 - slope**2) - 1)
    assert kernels.order_of_error(errors, sizes) == pytest.approx(2, abs=0.05)


def test_baoab_is_exact_on_a_gaussian_and_ula_is_not():
    n, h = 40_000, 0.8
    found = stationary_variance(underdamped.baoab_step, h, PRECISION, steps=60, extra=True)
    assert np.abs((found * PRECISION - 1) / np.sqrt(2 / n)).max() < 5


def test_the_trajectory_without_refreshment_is_reversible_and_keeps_volumes():
    q, p = np.random.default_rng(12).normal(size=(2, 20, 3)) * 0.5
    root = np.tril(np.random.default_rng(13).normal(size=(1, 3, 3)) * 0.3) + np.eye(3)

    def flow(q, p):
        noise = underdamped.Noise(np.zeros((len(q), 4, 3)), np.zeros(len(q)))
        state = underdamped.State(q, *ridge(q), p)
        new, info = underdamped.obabo_step(noise, state, ridge, 0.1, root, 0.0)
        assert info.accepted.all()
        return new.position, new.velocity

    assert kernels.reversal_error(flow, q, p) < 1e-10
    assert kernels.volume_change(flow, q, p).max() < 1e-6


def test_refreshment_is_exact_in_time():
    """Two half refreshments are one: the same mean, and variances that add up."""
    v, one, zero = np.full((1, 1), 2.0), np.ones((1, 1)), np.zeros((1, 1))
    half = underdamped.refresh(underdamped.refresh(v, zero, 0.15, 0.9), zero, 0.15, 0.9)
    np.testing.assert_allclose(half, underdamped.refresh(v, zero, 0.3, 0.9))
    first = underdamped.refresh(underdamped.refresh(zero, one, 0.15, 0.9), zero, 0.15, 0.9)
    second = underdamped.refresh(zero, one, 0.15, 0.9)
    np.testing.assert_allclose(first**2 + second**2, underdamped.refresh(zero, one, 0.3, 0.9) ** 2)


def test_what_is_not_finite_is_rejected_and_counted():
    ratio = np.array([np.nan, -np.inf, np.inf, -1e4, 0.5, -0.5])
    info = metropolis(np.full(6, 0.7), ratio, np.ones(6, dtype=bool))
    np.testing.assert_array_equal(info.diverging, [True, True, True, True, False, False])
    np.testing.assert_array_equal(info.accepted, [False, False, False, False, True, False])
    assert not metropolis(np.zeros(1), np.ones(1), np.array([False])).accepted.any()


# adaptation, schedules


@pytest.mark.parametrize("pool", [True, False])
def test_the_dense_metric_is_the_covariance(pool):
    rng = np.random.default_rng(14)
    factor = np.tril(rng.normal(size=(3, 3))) + 2 * np.eye(3)
    draws = rng.normal(size=(50, 8, 3)) @ factor.T + 5
    learned = tuning.begin(draws[0], np.full(8, 0.1), pool=pool, dense=True)
    for x in draws:
        learned = tuning.observe(learned, x, pool=pool)
    closed = tuning.close_window(learned, step_size=True)
    sets = [draws.reshape(-1, 3)] if pool else draws.swapaxes(0, 1)
    for i, rows in enumerate(sets):
        n = len(rows)
        expected = np.cov(rows.T) * n / (n + 5) + 1e-3 * 5 / (n + 5) * np.eye(3)
        np.testing.assert_allclose(closed.root[i] @ closed.root[i].T, expected, rtol=1e-10)
        stretch = np.linalg.norm(np.linalg.inv(closed.root[i]), 2)
        np.testing.assert_allclose(tuning.learned_step_size(closed)[i], 0.1 * stretch)
    assert (closed.moments.count == 0).all()


def test_the_diagonal_metric_is_that_of_hmc():
    rng = np.random.default_rng(15)
    draws = rng.normal(size=(60, 8, 3)) * [1.0, 5.0, 0.1]
    learned = tuning.begin(draws[0], np.full(8, 0.1), pool=True, dense=False)
    for x in draws:
        learned = tuning.observe(learned, x, pool=True)
    root = tuning.close_window(learned, step_size=False).root
    np.testing.assert_allclose(root[0], draws.reshape(-1, 3).std(0), rtol=0.02)


def test_the_schedule_decays_by_its_power():
    counts = np.array([0.0, 1e6, 1e8])
    h = schedules.polynomial(counts, 0.3, delay=10.0, power=0.6)
    assert h[0] == pytest.approx(0.3)
    assert np.log(h[2] ** 2 / h[1] ** 2) / np.log(100) == pytest.approx(-0.6, abs=1e-4)
    assert (schedules.polynomial(counts, 0.3, power=0.0) == 0.3).all()


def test_sgld_widens_by_the_noise_of_its_gradient():
    """With a gradient of noise variance s^2 at a constant step, v = (1 + e s^2 / 4) / (1 - e / 4)."""
    rng, n, h, s = np.random.default_rng(16), 40_000, 0.5, 3.0

    def noisy(x):
        return np.zeros(n), -x + s * rng.normal(size=x.shape)

    state = stochastic.begin(rng.normal(size=(n, 1)), *noisy(np.zeros((n, 1))))
    for _ in range(80):
        noise = Noise(rng.normal(size=(n, 1)), rng.random(n))
        state, info = stochastic.sgld_step(noise, state, noisy, h, power=0.0)
    truth = (1 + h**2 * s**2 / 4) / (1 - h**2 / 4)
    assert abs(state.position.var() / truth - 1) < 5 * np.sqrt(2 / n)
    assert abs(state.position.var() - 1) > 5 * np.sqrt(2 / n)
    assert not info.diverging.any()
    assert (state.count == 80).all()


def test_psgld_is_ula_in_the_metric_of_the_running_mean():
    rng = np.random.default_rng(17)
    x, z = rng.normal(size=(2, 5, 3))
    precision = np.array([1.0, 100.0, 0.01])

    def target(x):
        return -0.5 * (precision * x**2).sum(1), -precision * x

    state = stochastic.begin(x, *target(x), scale=10.0)
    np.testing.assert_allclose(state.mean_square, (precision * x / 10) ** 2)
    new, _ = stochastic.psgld_step(Noise(z, None), state, target, 0.2, power=0.0, damping=0.1, scale=10.0)
    g = 1 / (0.1 + np.abs(precision * x) / 10)
    np.testing.assert_allclose(new.position, x - 0.02 * g * precision * x + 0.2 * np.sqrt(g) * z)
    np.testing.assert_allclose(new.mean_square, 0.99 * state.mean_square + 0.01 * (precision * new.position / 10) ** 2)
