"""Discrete Langevin proposals against enumeration, and the noise ladder against its closed forms, in NumPy float64."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import RATE
from scipy import stats

from deepgen.inference.hmc.hamiltonian import State
from deepgen.inference.langevin import discrete, ladder
from deepgen.inference.langevin.discrete import Binary, Categorical, Noise

N = 60_000
RNG = np.random.default_rng
W = RNG(0).normal(size=(3, 3))
B = RNG(1).normal(size=3)
U, V = RNG(2).normal(size=(2, 3)), RNG(3).normal(size=(3, 3))


def spins(x):
    """Three coupled bits, with a cubic term: the gradient is an estimate only."""
    value = x @ B + np.einsum("ni,ij,nj->n", x, W, x) - 0.15 * np.sum(x, axis=1) ** 3
    return value, B + x @ (W + W.T) - 0.45 * np.sum(x, axis=1, keepdims=True) ** 2


def letters(x):
    """Two coupled letters of three."""
    value = np.sum(x * U, axis=(1, 2)) + np.einsum("ni,ij,nj->n", x[:, 0], V, x[:, 1]) + np.sum(x[:, 0] ** 3, axis=1)
    gradient = U + np.stack([x[:, 1] @ V.T + 3 * x[:, 0] ** 2, x[:, 0] @ V], axis=1)
    return value, gradient


BITS = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
ROWS = np.eye(3)[np.array(list(itertools.product(range(3), repeat=2)))]
STATES = {"binary": (Binary, spins, BITS), "categorical": (Categorical, letters, ROWS)}


def probabilities(target, states):
    value = target(states)[0]
    p = np.exp(value - value.max())
    return p / p.sum()


def place(states, x):
    return np.argmax((states.reshape(len(states), -1)[None] == x.reshape(len(x), 1, -1)).all(-1), axis=1)


def p_values(which, move, after=(1, 2, 4)):
    """Chi-square of where exact draws are after k steps."""
    kind, target, states = STATES[which]
    p, rng = probabilities(target, states), RNG(4)
    x = states[rng.choice(len(states), size=N, p=p)]
    found = []
    for k in range(1, max(after) + 1):
        noise = Noise(rng.random(x.shape), rng.random(N))
        x = move(noise, State(x, *target(x)), target, kind)[0].position
        if k in after:
            found.append(stats.chisquare(np.bincount(place(states, x), minlength=len(states)), N * p).pvalue)
    return np.array(found)


def one(noise, state, target, kind):
    return discrete.change_one(noise, state, target, kind)


def many(noise, state, target, kind, **options):
    return discrete.change_many(noise, state, target, np.where(np.arange(N) % 2, 0.7, 1.6), kind, **options)


MOVES = {"gibbs with gradients": one, "discrete Langevin": many}


@pytest.mark.parametrize("which", STATES)
@pytest.mark.parametrize("move", MOVES)
def test_the_target_stays_the_target(which, move):
    assert p_values(which, MOVES[move]).min() > RATE


PLANTED = {
    "not locally balanced": ("log_flips", lambda original: lambda x, x_new, g, h: original(x, x_new, g, h) * 0),
    "forward twice": ("log_flips", lambda original: lambda x, x_new, g, h: 0.5 * original(x, x_new, g, h)),
}


@pytest.mark.parametrize("which", STATES)
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_in_the_ratio_shows(which, bug, monkeypatch):
    kind = STATES[which][0]
    name, broken = PLANTED[bug]
    monkeypatch.setattr(kind, name, staticmethod(broken(getattr(kind, name))))
    assert p_values(which, many).min() < RATE


@pytest.mark.parametrize("which", STATES)
def test_without_the_test_or_the_ratio_the_law_is_another(which, monkeypatch):
    assert p_values(which, lambda *given: many(*given, adjusted=False)).min() < RATE
    monkeypatch.setattr(discrete, "picked", lambda values, chosen: 0.0)
    assert p_values(which, one).min() < RATE


@pytest.mark.parametrize("which", STATES)
def test_proposal_probabilities_sum_to_one(which):
    kind, target, states = STATES[which]
    for x in states:
        everywhere = np.broadcast_to(x, states.shape)
        gradient = target(everywhere)[1]
        assert np.exp(kind.log_flips(everywhere, states, gradient, 0.8)).sum() == pytest.approx(1)
        preferences = discrete.log_softmax(kind.changes(everywhere, gradient)[:1].reshape(1, -1))
        assert np.exp(preferences).sum() == pytest.approx(1)


@pytest.mark.parametrize("which", STATES)
def test_proposals_come_with_their_probabilities(which):
    kind, target, states = STATES[which]
    x = np.repeat(states[3:4], N, axis=0)
    gradient = target(x)[1]
    drawn = kind.flips(x, gradient, RNG(5).random(x.shape), 0.8)
    p = np.exp(kind.log_flips(x[: len(states)], states, gradient[: len(states)], 0.8))
    assert stats.chisquare(np.bincount(place(states, drawn), minlength=len(states)), N * p).pvalue > RATE


def test_bits_are_letters_of_two():
    """Gibbs with gradients on one-hot pairs proposes what it does on bits."""
    x, rng = BITS[[1, 4, 6]], RNG(6)
    pairs = np.stack([1 - x, x], axis=-1)
    gradient = rng.normal(size=x.shape)
    wide = np.stack([np.zeros_like(gradient), gradient], axis=-1)
    single = Categorical.changes(pairs, wide)
    np.testing.assert_allclose(np.max(single, axis=-1), Binary.changes(x, gradient))
    chosen = np.eye(3)[[0, 1, 2]]
    flipped = Binary.change(x, chosen)
    np.testing.assert_array_equal(np.abs(flipped - x), chosen)
    changed = Categorical.change(pairs, np.stack([chosen * x, chosen * (1 - x)], axis=-1))
    np.testing.assert_array_equal(changed[..., 1], flipped)


@given(st.floats(0, 1, exclude_max=True, width=32))
def test_gumbels_are_finite(u):
    for dtype in (np.float32, np.float64):
        assert np.isfinite(discrete.gumbel(np.array([u], dtype=dtype))).all()


# the ladder


def test_the_geometric_ladder():
    sigmas = ladder.geometric(50.0, 0.01, 5)
    np.testing.assert_allclose(sigmas[1:] / sigmas[:-1], (0.01 / 50) ** 0.25)
    assert sigmas[0] == 50
    assert sigmas[-1] == pytest.approx(0.01)
    np.testing.assert_array_equal(ladder.geometric(50.0, 0.01, 1), [0.01])
    np.testing.assert_allclose(ladder.step_sizes(sigmas, 0.003)[-1], 0.003)
    np.testing.assert_allclose(ladder.step_sizes(sigmas, 0.003) / sigmas, 0.3)


def test_levels_overlap_by_half():
    """The setting of Song and Ermon for 32 x 32 colour images: they round to 232 levels."""
    count = ladder.num_levels(50.0, 0.01, 3072)
    assert 210 < count < 240
    for levels, enough in ((count, True), (count - 2, False)):
        ratio = (50 / 0.01) ** (1 / (levels - 1))
        assert (ladder.overlap(ratio, 3072) >= 0.5) == enough
    assert ladder.num_levels(1.0, 0.9, 1) == 2


def test_the_step_size_meets_the_noise_of_each_level():
    """The paper's epsilon for that ladder, 6.2e-6 at five steps, is half of our squared step."""
    sigmas = ladder.geometric(50.0, 0.01, 232)
    h = ladder.best_step_size(sigmas, 5)
    assert h**2 / 2 == pytest.approx(6.2e-6, rel=0.03)
    errors = [abs(ladder.variance_ratio(c * h, 0.01, sigmas[-2] / sigmas[-1], 5) - 1) for c in (1, 0.98, 1.02)]
    assert errors[0] == min(errors) < 0.06


@pytest.mark.parametrize("h", [0.05, 0.4])
def test_the_variance_ratio_is_that_of_the_chain(h):
    sigma, above, steps = 0.5, 0.8, 4
    variance = above**2
    for _ in range(steps):
        variance = (1 - h**2 / (2 * sigma**2)) ** 2 * variance + h**2
    assert ladder.variance_ratio(h, sigma, above / sigma, steps) == pytest.approx(variance / sigma**2)


def test_the_predictor_and_the_denoiser_on_a_gaussian():
    """Data N(m, v): the score of noise s is -(x - m) / (v + s^2), and Tweedie's mean is the posterior's."""
    m, v, sigma, below = 2.0, 0.5, 1.5, 1.499
    x = RNG(7).normal(m, np.sqrt(v + sigma**2), size=(N, 1))
    score = -(x - m) / (v + sigma**2)
    np.testing.assert_allclose(ladder.denoise(x, score, sigma), (v * x + sigma**2 * m) / (v + sigma**2))
    gap = sigma**2 - below**2
    slope = ladder.predict(x, score, sigma, below, 0 * x) - x
    np.testing.assert_allclose(slope, gap * score)
    noise = ladder.predict(0 * x, 0 * x, sigma, below, np.ones_like(x))
    # to first order in the gap the variance goes down by it
    variance = (1 - gap / (v + sigma**2)) ** 2 * (v + sigma**2) + noise[0, 0] ** 2
    assert variance == pytest.approx(v + below**2, abs=gap**2)
    assert ladder.largest_distance(np.array([[0.0, 0], [3, 4], [1, 1]])) == pytest.approx(5)
    assert ladder.corrector_step_size(0.5, 0.16) == pytest.approx(0.16)
