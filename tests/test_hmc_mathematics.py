"""Hamiltonian dynamics and the adaptation of the warm-up, in NumPy float64 against theory, SciPy and NumPyro."""

import kernels
import numpy as np
import numpyro.infer.hmc_util as numpyro_hmc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from deepgen.inference.hmc import adaptation, hamiltonian
from deepgen.inference.hmc.hamiltonian import State

rng = np.random.default_rng


def anharmonic(q):
    """l(q) = -sum q^4/4 - (q_0 - q_1)^2 / 2, its gradient by hand."""
    difference = np.stack([q[:, 0] - q[:, 1], q[:, 1] - q[:, 0]], axis=-1)
    return -np.sum(q**4, axis=-1) / 4 - difference[:, 0] ** 2 / 2, -(q**3) - difference


def flow(time, num_steps, inverse_mass):
    """(q, p) -> (q, p) along the dynamics of `anharmonic`, by the leapfrog."""

    def run(q, p):
        state, step_size = State(q, *anharmonic(q)), np.full(len(q), time / num_steps)
        for _ in range(num_steps):
            state, p = hamiltonian.leapfrog(anharmonic, state, p, step_size, inverse_mass)
        return state.position, p

    return run


@pytest.fixture
def phase_space():
    q, p = rng(0).normal(size=(2, 20, 2))
    return q, p, np.exp(rng(1).normal(size=(20, 2)) / 2)


def energy(q, p, inverse_mass):
    return -anharmonic(q)[0] + 0.5 * np.sum(inverse_mass * p**2, axis=-1)


def order(phase_space):
    q, p, inverse_mass = phase_space
    numbers = [16, 32, 64, 128]
    errors = [
        np.abs(energy(*flow(1.0, n, inverse_mass)(q, p), inverse_mass) - energy(*phase_space)).max() for n in numbers
    ]
    return kernels.order_of_error(errors, [1 / n for n in numbers])


def halved_drift(position, p, step, inverse_mass):
    return position + step / 2 * inverse_mass * p


def sheared_drift(position, p, step, inverse_mass):
    return position + step * inverse_mass * p * (1 + 0.1 * np.tanh(position))


def one_sided_leapfrog(value_and_gradient, state, p, step_size, inverse_mass):
    p = p + step_size[:, None] * state.gradient
    position = hamiltonian.drift(state.position, p, step_size[:, None], inverse_mass)
    return State(position, *value_and_gradient(position)), p


def test_energy_error_is_of_second_order(phase_space, monkeypatch):
    assert order(phase_space) == pytest.approx(2, abs=0.1)
    with monkeypatch.context() as planted:
        planted.setattr(hamiltonian, "drift", halved_drift)
        assert order(phase_space) < 0.3
    monkeypatch.setattr(hamiltonian, "leapfrog", one_sided_leapfrog)
    assert order(phase_space) == pytest.approx(1, abs=0.1)


def test_leapfrog_follows_the_dynamics(phase_space):
    q, p, inverse_mass = (x[0] for x in phase_space)

    def velocity(_, y):
        return np.concatenate([inverse_mass * y[2:], anharmonic(y[None, :2])[1][0]])

    exact = integrate.solve_ivp(velocity, (0, 1), np.concatenate([q, p]), rtol=1e-11, atol=1e-11).y[:, -1]
    got = np.concatenate(flow(1.0, 2000, inverse_mass)(q[None], p[None]), axis=-1)[0]
    np.testing.assert_allclose(got, exact, atol=2e-6)


def test_leapfrog_is_reversible(phase_space, monkeypatch):
    q, p, inverse_mass = phase_space
    assert kernels.reversal_error(flow(1.0, 10, inverse_mass), q, p) < 1e-12
    monkeypatch.setattr(hamiltonian, "leapfrog", one_sided_leapfrog)
    assert kernels.reversal_error(flow(1.0, 10, inverse_mass), q, p) > 1e-3


def test_leapfrog_keeps_volumes(phase_space, monkeypatch):
    q, p, inverse_mass = phase_space
    assert kernels.volume_change(flow(1.0, 10, inverse_mass), q, p).max() < 1e-7
    monkeypatch.setattr(hamiltonian, "drift", sheared_drift)
    assert kernels.volume_change(flow(1.0, 10, inverse_mass), q, p).max() > 1e-3


def test_momentum_has_the_law_of_the_kinetic_energy():
    inverse_mass = np.array([0.1, 1.0, 9.0])
    noise = rng(2).normal(size=(5, 3))
    p = hamiltonian.momentum(noise, inverse_mass[None])
    np.testing.assert_allclose(hamiltonian.kinetic_energy(p, inverse_mass[None]), 0.5 * np.sum(noise**2, axis=-1))


@given(num_steps=st.integers(1, 40), jitter=st.floats(0, 1))
def test_trajectory_lengths_are_uniform_and_centred(num_steps, jitter):
    shortest, longest = hamiltonian.trajectory_bounds(num_steps, jitter)
    assert 1 <= shortest <= num_steps <= longest
    assert shortest + longest == 2 * num_steps
    count = longest - shortest + 1
    grid = (np.arange(count * 7) + 0.5) / (count * 7)
    lengths = [int(hamiltonian.trajectory_length(np.asarray(u), num_steps, jitter)) for u in grid]
    np.testing.assert_array_equal(np.bincount(lengths, minlength=longest + 1)[shortest:], np.full(count, 7))
    assert (
        int(hamiltonian.trajectory_length(np.asarray(np.nextafter(1, 0, dtype=np.float32)), num_steps, jitter))
        == longest
    )


def metropolis(l_start, l_end, uniform, gradient_end=0.0):
    """A proposal with equal momenta, so that the energy error is l_start - l_end."""
    start = State(np.zeros((1, 1)), np.array([l_start]), np.zeros((1, 1)))
    end = State(np.ones((1, 1)), np.array([l_end]), np.array([[gradient_end]]))
    zero = np.zeros((1, 1))
    with np.errstate(invalid="ignore"):
        state, info = hamiltonian.metropolis(np.array([uniform]), start, zero, end, zero, zero + 1, 3)
    return float(state.position[0, 0]), float(info.accept_prob[0]), bool(info.diverging[0])


@pytest.mark.parametrize(
    ("l_start", "l_end", "uniform", "expected"),
    [
        (0.0, 1.0, 0.999, (1.0, 1.0, False)),
        (0.0, np.log(0.25), 0.2499, (1.0, 0.25, False)),
        (0.0, np.log(0.25), 0.2501, (0.0, 0.25, False)),
        (0.0, -999.0, 0.5, (0.0, 0.0, False)),
        (0.0, -1001.0, 0.0, (0.0, 0.0, True)),
        (0.0, np.nan, 0.0, (0.0, 0.0, True)),
        (0.0, -np.inf, 0.0, (0.0, 0.0, True)),
        (0.0, np.inf, 0.0, (0.0, 0.0, True)),
        (-np.inf, 0.0, 0.0, (0.0, 0.0, True)),
    ],
)
def test_acceptance(l_start, l_end, uniform, expected):
    assert metropolis(l_start, l_end, uniform) == pytest.approx(expected)


def test_a_gradient_that_is_not_finite_is_never_moved_to():
    assert metropolis(0.0, 0.0, 0.5) == (1.0, 1.0, False)
    assert metropolis(0.0, 0.0, 0.5, gradient_end=np.inf) == (0.0, 0.0, True)


def test_dual_averaging_is_that_of_the_paper():
    accept_probs = rng(3).uniform(size=40)
    state = adaptation.dual_averaging(np.array([0.3]))
    start, update = numpyro_hmc.dual_averaging()
    theirs = start(np.log(10 * 0.3))
    for accept_prob in accept_probs:
        state = adaptation.dual_averaging_update(state, np.array([accept_prob]), 0.8)
        theirs = update(0.8 - accept_prob, theirs)
        np.testing.assert_allclose(state.log_step_size[0], theirs[0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(state.log_average[0], theirs[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", [0.6, 0.8])
def test_dual_averaging_finds_the_target(target):
    scales = np.array([1e-3, 1.0, 1e3])
    state = adaptation.dual_averaging(np.full(3, 0.1))
    for _ in range(2000):
        state = adaptation.dual_averaging_update(state, np.exp(-np.exp(state.log_step_size) / scales), target)
    np.testing.assert_allclose(np.exp(-np.exp(state.log_average) / scales), target, atol=0.02)


@pytest.mark.parametrize("pool", [True, False])
def test_running_moments_are_the_moments(pool):
    draws = rng(4).normal(size=(30, 4, 3, 2)) * 5 + 100
    start = adaptation.adaptation(draws[0], np.ones((4, 3)), pool=pool)
    learned = start
    for draw in draws:
        learned = adaptation.observe(learned, draw, pool=pool)
    axes = (0, 1) if pool else 0
    expected, n = draws.var(axis=axes, ddof=1), 120 if pool else 30
    moments = learned.moments
    np.testing.assert_allclose((moments.squares / (n - 1))[0] if pool else moments.squares / (n - 1), expected)
    np.testing.assert_allclose(moments.mean[0] if pool else moments.mean, draws.mean(axis=axes))
    closed = adaptation.close_window(learned)
    regularised = n / (n + 5) * expected + 5 / (n + 5) * 1e-3
    np.testing.assert_allclose(closed.inverse_mass[0] if pool else closed.inverse_mass, regularised)
    assert closed.inverse_mass.shape == ((1, 3, 2) if pool else (4, 3, 2))
    assert float(closed.moments.count.max()) == 0
    # from unit mass to the variances: the narrowest scale was what limited the step
    np.testing.assert_allclose(
        adaptation.adapted_step_size(closed), 1 / np.sqrt(closed.inverse_mass.min(axis=-1)), rtol=1e-12
    )


def test_a_rescaled_step_is_as_stable_as_before():
    scales = np.array([[0.01, 1.0, 50.0]])
    old, new = np.array([[1.0, 4.0, 1.0]]), scales**2
    step = np.array([0.004])
    rescaled = adaptation.rescaled_step_size(step, old, new)

    def frequency(step_size, inverse_mass):
        return (step_size[:, None] * np.sqrt(inverse_mass) / scales).max()

    assert frequency(rescaled, new) == pytest.approx(frequency(step, old))


@pytest.mark.parametrize("num_warmup", [500, 501, 777, 1000, 2000])
def test_the_windows_of_long_warm_ups_are_those_of_stan(num_warmup):
    theirs = [(w.start, w.end + 1) for w in numpyro_hmc.build_adaptation_schedule(num_warmup)]
    assert adaptation.windows(num_warmup) == theirs[1:-1]


@given(num_warmup=st.integers(0, 1500))
def test_windows_tile_the_middle_and_double(num_warmup):
    found = adaptation.windows(num_warmup)
    assert bool(found) == (num_warmup >= 20)
    observing, closing = adaptation.schedule(num_warmup, adapt_mass_matrix=True)
    assert list(np.flatnonzero(closing)) == [stop - 1 for _, stop in found]
    if found:
        assert 0.1 * num_warmup >= num_warmup - found[-1][1] >= min(50, num_warmup // 10)
        assert [start for start, _ in found[1:]] == [stop for _, stop in found[:-1]]
        sizes = [stop - start for start, stop in found]
        assert sizes[:-1] == [25 * 2**k for k in range(len(sizes) - 1)]
        assert observing.sum() == sum(sizes)
    assert not any(flags.any() for flags in adaptation.schedule(num_warmup, adapt_mass_matrix=False))
