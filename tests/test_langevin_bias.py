"""What a step size costs without an acceptance test, by simulation against closed forms; what a run does not keep."""

import gc

import jax
import jax.numpy as jnp
import kernels
import numpy as np
import pytest
import torch
from scipy import linalg

from deepgen.inference.langevin import numpyro as langevin_numpyro
from deepgen.inference.langevin import overdamped, underdamped
from deepgen.inference.langevin import pyro as langevin_pyro
from deepgen.inference.langevin.dynamics import Overdamped

N, STEPS, PRECISION = 40_000, 60, 2.0


def target(x):
    return -0.5 * PRECISION * (x**2).sum(1), -PRECISION * x


def ula_slope_score():
    """1 - 1 / (P v) is e P / 4 for ULA's variance v: how many standard errors the slope in e is off."""
    rng, sizes = np.random.default_rng(0), np.array([0.5, 0.7, 0.9])
    found, errors = [], []
    for h in sizes:
        state = overdamped.State(rng.normal(size=(N, 1)) / np.sqrt(PRECISION), None, None)
        state = overdamped.State(state.position, *target(state.position))
        for _ in range(STEPS):
            noise = overdamped.Noise(rng.normal(size=(N, 1)), rng.random(N))
            state, _ = overdamped.ula_step(noise, state, target, h)
        ratio = PRECISION * (state.position**2).mean()
        found.append(1 - 1 / ratio)
        errors.append(np.sqrt(2 / N) / ratio)
    e, weight = sizes**2, 1 / np.square(errors)
    slope = (weight * e * found).sum() / (weight * e**2).sum()
    return abs(slope - PRECISION / 4) * np.sqrt((weight * e**2).sum())


def test_the_bias_of_ula_has_the_slope_of_theory(monkeypatch):
    assert ula_slope_score() < 5
    original = overdamped.mean
    monkeypatch.setattr(overdamped, "mean", lambda x, s, h, root=None: original(x, 0.95 * s, h, root))
    assert ula_slope_score() > 5, "a drift that is a twentieth too small"


def first_order(noise, state, evaluate, step_size, root=None, friction=1.0):
    """Kick, fly and refresh, each for the whole time: the same pieces as BAOAB's, not in a palindrome."""
    v = underdamped.kick(state.velocity, state.gradient, step_size)
    x = underdamped.drift(state.position, v, step_size)
    v = underdamped.refresh(v, noise.normal[..., 0, :], step_size, friction)
    return underdamped.State(x, *evaluate(x), v), None


def law_of(take, h):
    """The covariance of position and velocity that a linear step leaves invariant, by Lyapunov's equation."""

    def step(x, v, z):
        x, v, z = (np.full((1, 1), value) for value in (x, v, z))
        noise = underdamped.Noise(z[None], np.zeros(1))
        new, _ = take(noise, underdamped.State(x, *target(x), v), target, h, None, 1.0)
        return np.array([new.position[0, 0], new.velocity[0, 0]])

    move, noise = np.stack([step(1.0, 0.0, 0.0), step(0.0, 1.0, 0.0)], axis=1), step(0.0, 0.0, 1.0)
    return linalg.solve_discrete_lyapunov(move, np.outer(noise, noise))


TRUTH = np.diag([1 / PRECISION, 1.0])


def order(take):
    sizes = [0.2, 0.1, 0.05]
    return kernels.order_of_error([np.abs(law_of(take, h) - TRUTH).max() for h in sizes], sizes)


def simulated(take, h):
    """x^2, x v and v^2 of each chain after it has settled."""
    rng = np.random.default_rng(1)
    start = rng.normal(size=(N, 1)) / np.sqrt(PRECISION)
    state = underdamped.State(start, *target(start), rng.normal(size=(N, 1)))
    for _ in range(STEPS):
        state, _ = take(underdamped.Noise(rng.normal(size=(N, 1, 1)), rng.random(N)), state, target, h, None, 1.0)
    x, v = state.position[:, 0], state.velocity[:, 0]
    return np.stack([x * x, x * v, v * v])


def score(products, law):
    """How many standard errors the worst of the three moments is off."""
    return np.abs((products.mean(1) - law[[0, 0, 1], [0, 1, 1]]) / (products.std(1) / np.sqrt(N))).max()


def test_the_bias_of_baoab_is_of_second_order_and_that_of_a_plain_splitting_of_first():
    assert order(underdamped.baoab_step) == pytest.approx(2, abs=0.1)
    assert order(first_order) == pytest.approx(1, abs=0.1)
    h = 0.5
    # positions are exact, velocities too narrow by h^2 P / 4
    np.testing.assert_allclose(
        law_of(underdamped.baoab_step, h), np.diag([1 / PRECISION, 1 - h**2 * PRECISION / 4]), atol=1e-12
    )


@pytest.mark.parametrize("take", [underdamped.baoab_step, first_order], ids=["BAOAB", "first order"])
def test_simulation_has_the_bias_that_the_step_says(take, monkeypatch):
    law, products = law_of(take, 0.5), simulated(take, 0.5)
    assert score(products, law) < 5
    assert score(products, TRUTH) > 5, "the bias itself is seen"
    original = underdamped.refresh
    monkeypatch.setattr(underdamped, "refresh", lambda v, z, t, friction: original(v, 1.05 * z, t, friction))
    assert score(simulated(take, 0.5), law) > 5, "a noise that is a twentieth too large"


# what is not kept


def stored(num_samples, thinning, num_warmup):
    """The numbers in the largest array of a run's program."""

    def run(key):
        settings = dict(num_samples=num_samples, thinning=thinning, num_warmup=num_warmup, potential_fn=half_square)
        return langevin_numpyro.run(key, Overdamped(), jnp.ones((3, 5)), **settings)[0]

    sizes = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            sizes.extend(variable.aval.size for variable in equation.outvars)
            for value in equation.params.values():
                for inner in value if isinstance(value, tuple | list) else [value]:
                    if hasattr(inner, "jaxpr"):
                        visit(inner.jaxpr)
                    elif hasattr(inner, "eqns"):
                        visit(inner)

    visit(jax.make_jaxpr(run)(jax.random.key(0)).jaxpr)
    return max(sizes)


def half_square(x):
    return 0.5 * (x**2).sum(-1)


def test_a_compiled_run_has_room_for_what_it_keeps_only():
    assert stored(20, 1, 0) == 20 * 3 * 5
    assert stored(20, 1000, 30) == 20 * 3 * 5
    assert stored(40, 1, 0) == 40 * 3 * 5, "what is kept is seen"


@pytest.fixture
def young_objects_only():
    """What was there before, millions of objects in a long process, is left out of the collector's list."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("young_objects_only")
def test_a_step_in_torch_leaves_nothing_behind():
    alive, hoard, keep = [], [], False

    def potential(x):
        if keep:
            hoard.append(x.detach().clone())
        alive.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
        return half_square(x)

    def growth():
        alive.clear()
        settings = dict(potential_fn=potential, num_samples=2, thinning=20, num_warmup=20, adapt_step_size=False)
        draws, _ = langevin_pyro.run(Overdamped(), torch.ones(3, 5), adapt_mass_matrix=False, **settings)
        assert draws.shape == (2, 3, 5)
        return alive[-1] - alive[25]

    assert growth() <= 2
    keep = True
    assert growth() > 10, "a tensor kept at each step is seen"
