"""Langevin chains in both engines: one noise tape gives one chain, runs keep their target, and say what went wrong."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import kernels
import numpy as np
import pyro
import pytest
import torch
from array_api_compat import array_namespace
from engines import NUMPYRO as JAX
from scipy import stats

from deepgen.inference.langevin import discrete, overdamped
from deepgen.inference.langevin import numpyro as langevin_numpyro
from deepgen.inference.langevin import pyro as langevin_pyro
from deepgen.inference.langevin.arguments import DivergenceWarning
from deepgen.inference.langevin.dynamics import Discrete, Overdamped, Stochastic, Underdamped, flat_shape


def run_numpyro(seed, *args, **kwargs):
    return langevin_numpyro.run(jax.random.key(seed), *args, **kwargs)


def run_pyro(seed, *args, **kwargs):
    pyro.set_rng_seed(seed)
    return langevin_pyro.run(*args, **kwargs)


NUMPYRO = SimpleNamespace(room=langevin_numpyro, run=run_numpyro, array=lambda x: jnp.asarray(x, jnp.float32))
PYRO = SimpleNamespace(room=langevin_pyro, run=run_pyro, array=lambda x: torch.as_tensor(np.asarray(x, np.float32)))
DYNAMICS = {
    "ULA": Overdamped(adjusted=False),
    "MALA": Overdamped(),
    "BAOAB": Underdamped(adjusted=False, friction=0.8),
    "OBABO": Underdamped(friction=0.8),
    "trajectories": Underdamped(num_steps=3),
    "SGLD": Stochastic(),
    "PSGLD": Stochastic(preconditioned=True, damping=0.1),
    "Gibbs with gradients": Discrete(),
    "discrete Langevin": Discrete(many=True),
    "Gibbs on letters": Discrete(discrete.Categorical),
    "Langevin on letters": Discrete(discrete.Categorical, many=True),
}
ADJUSTED = [name for name, dynamics in DYNAMICS.items() if dynamics.adjusted]


@pytest.fixture(params=[NUMPYRO, PYRO], ids=["numpyro", "pyro"], scope="module")
def engine(request):
    return request.param


def ridge(x):
    """(n, 2, 2): a bent ridge, a normal and the logarithm of an exponential variable."""
    xp = array_namespace(x)
    a, b, c, d = x[:, 0, 0], x[:, 0, 1], x[:, 1, 0], x[:, 1, 1]
    return 0.5 * a**2 + 0.5 * (b - a**2 / 2) ** 2 + xp.exp(c) - c + 0.5 * d**2


def ridge_draws(n, seed):
    rng = np.random.default_rng(seed)
    a, d = rng.normal(size=(2, n))
    return np.stack([a, a**2 / 2 + rng.normal(size=n), np.log(rng.exponential(size=n)), d], -1).reshape(n, 2, 2)


LAWS = {
    "first": (lambda x: x[:, 0, 0], stats.norm.cdf),
    "across": (lambda x: x[:, 0, 1] - x[:, 0, 0] ** 2 / 2, stats.norm.cdf),
    "exponential": (lambda x: np.exp(x[:, 1, 0]), stats.expon.cdf),
}


def coupled(x):
    """Bits or letters, coupled."""
    flat = x.reshape(x.shape[0], -1)
    return -0.3 * flat.sum(-1) ** 2 - flat[:, 0] * flat[:, -1] + flat[:, 1]


def start_of(dynamics, n=7, seed=0):
    rng = np.random.default_rng(seed)
    if dynamics.kind is None:
        return rng.normal(size=(n, 2, 2)) * 0.5
    if dynamics.kind is discrete.Binary:
        return rng.integers(0, 2, size=(n, 2, 2)).astype(float)
    return np.eye(3)[rng.integers(0, 3, size=(n, 2))]


def target_of(dynamics):
    return ridge if dynamics.kind is None else coupled


def invariance(engine, dynamics, n=8_000):
    """p-values of runs of one step each from exact draws, at several k."""
    step_size = np.random.default_rng(1).choice([0.3, 0.9], size=n)
    x, found = ridge_draws(n, 2), []
    for k in range(1, 5):
        x, _ = engine.run(
            k,
            dynamics,
            engine.array(x),
            potential_fn=ridge,
            num_samples=1,
            thinning=k,
            step_size=engine.array(step_size),
        )
        x = np.asarray(x)[0]
        found += [stats.kstest(f(x).astype(float), cdf).pvalue for f, cdf in LAWS.values()]
    return found


@pytest.mark.parametrize("name", ["MALA", "OBABO", "trajectories"])
def test_the_target_stays_the_target(engine, name):
    assert kernels.holds(invariance(engine, DYNAMICS[name]))


def test_a_planted_bug_does_not_keep_the_target(engine, monkeypatch):
    monkeypatch.setattr(overdamped, "log_ratio", lambda value, value_new, z, back: value_new - value)
    # a number of chains of its own: what is compiled here meets nothing else
    assert not kernels.holds(invariance(engine, DYNAMICS["MALA"], n=8_001))


def played(engine, dynamics, **options):
    """A run in float64 on one tape of noise, with the warm-up's learning."""
    rng, total = np.random.default_rng(3), 40 + 12 * 2 + 1
    start = start_of(dynamics)
    shape = (total, 7, *dynamics.noise_shape(flat_shape(dynamics, start.shape)[1:]))
    noise = rng.normal(size=shape) if dynamics.gaussian else rng.random(shape)
    accept = rng.random((total, 7))
    with jax.enable_x64(True):
        array = jnp.asarray if engine is NUMPYRO else torch.as_tensor
        noise_at = eqx.Partial(lambda tape, i: tuple(x[i] for x in tape), (array(noise), array(accept)))
        draws, result = engine.room.run_with_noise(
            noise_at,
            dynamics,
            array(start),
            potential_fn=target_of(dynamics),
            num_warmup=40,
            num_samples=12,
            thinning=2,
            step_size=0.3,
            **options,
        )
        assert np.asarray(draws).dtype == np.float64
        named = result._replace(state=0)._asdict()
        return {"draws": np.asarray(draws)} | {name: np.asarray(value) for name, value in named.items()}


@pytest.mark.parametrize("name", DYNAMICS)
def test_the_engines_agree_on_a_noise_tape(name):
    dynamics = DYNAMICS[name]
    options = [{}, {"dense_mass": True, "pool_chains": True}] if name == "MALA" else [{}]
    for option in options:
        ours, theirs = (played(engine, dynamics, **option) for engine in (NUMPYRO, PYRO))
        if dynamics.adjusted:
            assert 0 < ours["accept_rate"].mean() < 1
        # decisions first: one that differs would make all else differ
        np.testing.assert_array_equal(np.rint(ours["accept_rate"] * 24), np.rint(theirs["accept_rate"] * 24))
        for key in ours:
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-8, err_msg=key)


def test_a_bug_in_one_engine_would_show(monkeypatch):
    ours = played(NUMPYRO, DYNAMICS["MALA"])
    original = overdamped.propose
    monkeypatch.setattr(overdamped, "propose", lambda x, s, h, z, root=None: original(x, 0.5 * s, h, z, root))
    assert not np.allclose(ours["draws"], played(PYRO, DYNAMICS["MALA"])["draws"], rtol=1e-3)


def gaussian(scale, x):
    return 0.5 * ((x / scale) ** 2).sum(-1)


@pytest.mark.parametrize("name", ["MALA", "OBABO", "trajectories"])
@pytest.mark.parametrize("dense", [False, True], ids=["diagonal", "dense"])
def test_the_warm_up_learns_scales_and_step(engine, name, dense):
    scale = np.array([0.1, 1.0, 10.0])
    dynamics = DYNAMICS[name]
    potential = eqx.Partial(gaussian, engine.array(scale))
    settings = dict(potential_fn=potential, num_warmup=800, num_samples=300, dense_mass=dense)
    draws, result = engine.run(1, dynamics, engine.array(np.zeros((8, 3))), **settings)
    root = np.asarray(result.root)
    mass = np.sqrt(np.diagonal(root @ np.swapaxes(root, 1, 2), axis1=1, axis2=2)) if dense else root
    assert (np.abs(np.log(mass / scale)) < 0.35).all()
    assert float(result.accept_prob.mean()) == pytest.approx(dynamics.target_accept_prob, abs=0.2)
    p = kernels.moment_p_values(np.swapaxes(np.asarray(draws), 0, 1)[:, :, None], np.zeros((1, 3)), scale[None] ** 2)
    assert kernels.holds(p)


def test_the_acceptance_reaches_its_target(engine):
    """In 30 dimensions the acceptance falls smoothly with the step size."""
    potential = eqx.Partial(gaussian, engine.array(np.ones(30)))
    start = engine.array(np.zeros((20, 30)))
    settings = dict(potential_fn=potential, num_warmup=500, num_samples=150, adapt_mass_matrix=False)
    for target in (0.4, 0.8):
        _, result = engine.run(2, Overdamped(), start, target_accept_prob=target, **settings)
        assert float(result.accept_prob.mean()) == pytest.approx(target, abs=0.04)


@pytest.mark.parametrize("name", ADJUSTED)
def test_thinning_keeps_every_so_many(engine, name):
    dynamics = DYNAMICS[name]
    given = dict(potential_fn=target_of(dynamics), step_size=0.3)
    start = engine.array(start_of(dynamics))
    every, result = engine.run(5, dynamics, start, num_samples=12, **given)
    kept, thinned = engine.run(5, dynamics, start, num_samples=4, thinning=3, **given)
    np.testing.assert_allclose(np.asarray(kept), np.asarray(every)[2::3], rtol=1e-5)
    np.testing.assert_allclose(thinned.accept_prob, result.accept_prob, rtol=1e-4)
    assert np.asarray(every).shape == (12, *start.shape)


def test_a_score_drives_and_the_potential_judges(engine):
    """Half the score is no gradient of anything: MALA is exact with it, ULA is not."""
    x = ridge_draws(8_000, 3)[:, :1, :1]

    def potential(x):
        return 0.5 * (x**2).sum((1, 2))

    def half(x):
        return -0.5 * x

    def p_value(dynamics, **functions):
        draws, result = engine.run(
            4, dynamics, engine.array(x), num_samples=1, thinning=8, step_size=0.8, score_fn=half, **functions
        )
        return stats.kstest(np.asarray(draws).ravel().astype(float), stats.norm.cdf).pvalue, result

    assert p_value(Overdamped(), potential_fn=potential)[0] > 1e-5
    ula, result = p_value(Overdamped(adjusted=False))
    assert ula < 1e-5
    assert np.isnan(np.asarray(result.potential_energy)).all()


def test_the_bar_changes_nothing(engine, capsys):
    given = dict(potential_fn=ridge, num_warmup=25, num_samples=12, adapt_step_size=False)
    hidden, _ = engine.run(6, Overdamped(), engine.array(start_of(Overdamped())), **given)
    assert capsys.readouterr().err == ""
    shown, _ = engine.run(6, Overdamped(), engine.array(start_of(Overdamped())), progress=True, **given)
    assert "37/37" in capsys.readouterr().err
    np.testing.assert_array_equal(np.asarray(hidden), np.asarray(shown))


def test_a_second_run_compiles_nothing():
    def run(seed, scale, step_size):
        potential = eqx.Partial(gaussian, jnp.asarray(scale))
        start = jnp.full((4, 3), 0.1 * seed)
        return run_numpyro(
            seed, Overdamped(), start, potential_fn=potential, num_warmup=30, num_samples=5, step_size=step_size
        )

    assert JAX.compiled(lambda: run(1, 1.0, 0.1)) > 0
    assert JAX.compiled(lambda: run(2, 3.0, 0.3)) == 0


def test_a_run_inside_jit():
    start = jnp.full((4, 3), 0.1)

    @eqx.filter_jit
    def inside(key, start, progress=None):
        potential = eqx.Partial(gaussian, 2.0)
        return langevin_numpyro.run(
            key, Overdamped(), start, potential_fn=potential, num_warmup=30, num_samples=5, progress=progress
        )

    draws, result = inside(jax.random.key(3), start.at[1, 2].set(jnp.nan))
    np.testing.assert_array_equal(result.initial_finite, [True, False, True, True])
    assert np.isfinite(np.asarray(draws)[:, 0]).all()
    with pytest.raises(ValueError, match="progress: got True inside jit"):
        inside(jax.random.key(3), start, True)


# what goes wrong


@pytest.mark.parametrize("name", ["ULA", "BAOAB", "SGLD"])
def test_a_step_too_large_stops_and_keeps_what_was_drawn(engine, name):
    potential = eqx.Partial(gaussian, engine.array([1.0, 1.0]))
    given = dict(potential_fn=potential, step_size=1e4)
    start = engine.array(np.ones((3, 2)))
    with pytest.warns(
        DivergenceWarning, match="3 of 3 chains diverged.*stopped after .* of 200 steps.*step_size is too"
    ):
        draws, result = engine.run(0, DYNAMICS[name], start, num_samples=200, **given)
    assert 0 < len(draws) < 20
    assert np.isfinite(np.asarray(draws)).all()
    assert np.asarray(result.potential_energy).shape == (len(draws), 3)
    with pytest.warns(DivergenceWarning, match="with 0 draws"):
        draws, result = engine.run(0, DYNAMICS[name], start, num_warmup=150, num_samples=50, **given)
    assert np.asarray(draws).shape == (0, 3, 2)


def test_one_chain_that_leaves_stops_no_other(engine):
    potential = eqx.Partial(gaussian, engine.array([1.0, 1.0]))
    steps = engine.array([0.5, 1e4, 0.5])
    start = engine.array(np.ones((3, 2)))
    with pytest.warns(DivergenceWarning, match="1 of 3 chains diverged; their draws are kept, but not finite from"):
        draws, _ = engine.run(0, DYNAMICS["ULA"], start, potential_fn=potential, num_samples=60, step_size=steps)
    assert len(draws) == 60
    assert np.isfinite(np.asarray(draws)[:, ::2]).all()
    assert not np.isfinite(np.asarray(draws)[-1, 1]).any()


def test_an_adjusted_kernel_gives_up_after_a_hundred_steps(engine):
    potential, start = eqx.Partial(gaussian, engine.array([1.0, 1.0])), engine.array(np.ones((3, 2)))
    with pytest.warns(DivergenceWarning, match="3 of 3 chains had most .*stopped after 100 of 400 steps with 50 draws"):
        draws, result = engine.run(
            0, Overdamped(), start, potential_fn=potential, num_samples=200, thinning=2, step_size=1e4
        )
    assert (np.asarray(draws) == 1).all()
    assert len(draws) == 50
    assert (np.asarray(result.divergences) == 100).all()


def test_an_adjusted_kernel_stays_where_every_proposal_diverges(engine):
    potential, start = eqx.Partial(gaussian, engine.array([1.0, 1.0])), engine.array(np.ones((3, 2)))
    with pytest.warns(DivergenceWarning, match="3 of 3 chains had most of their proposals thrown out"):
        draws, result = engine.run(0, Overdamped(), start, potential_fn=potential, num_samples=20, step_size=1e4)
    assert (np.asarray(draws) == 1).all()
    assert (np.asarray(result.divergences) == 20).all()


def wrong(x):
    return x.reshape(x.shape[0], -1)


def nowhere(x):
    return gaussian(1.0, x) * float("nan")


REFUSED = {
    "no target": (dict(potential_fn=None), "potential_fn: got neither potential_fn nor score_fn"),
    "score alone": (dict(potential_fn=None, score_fn=wrong), "score_fn: got a score alone for a kernel with"),
    "position": (dict(position=np.zeros(3)), r"position: got shape \(3,\); expected \(n, \*event\) with at least 2"),
    "no chains": (dict(position=np.zeros((0, 3))), r"position: got shape \(0, 3\)"),
    "num_warmup": (dict(num_warmup=-1), "num_warmup: got -1; expected an integer >= 0"),
    "num_samples": (dict(num_samples=0), "num_samples: got 0; expected an integer >= 1"),
    "thinning": (dict(thinning=0), "thinning: got 0; expected an integer >= 1"),
    "step_size": (dict(step_size=-0.5), "step_size: got -0.5; expected finite numbers > 0"),
    "step_size shape": (dict(step_size=np.ones(7)), r"step_size: got shape \(7,\); expected a number, or one for each"),
    "target": (dict(target_accept_prob=1.0), "target_accept_prob: got 1.0; expected a number strictly between 0"),
    "nothing to adapt": (
        dict(dynamics=DYNAMICS["ULA"], adapt_step_size=True),
        "adapt_step_size: got True for a kernel without an acceptance probability",
    ),
    "no mass": (
        dict(dynamics=DYNAMICS["SGLD"], adapt_mass_matrix=True),
        "adapt_mass_matrix: got True for a kernel",
    ),
    "no dense mass": (
        dict(dynamics=DYNAMICS["SGLD"], dense_mass=True),
        "dense_mass: got True for a kernel",
    ),
    "not bits": (
        dict(dynamics=Discrete(), position=np.full((2, 3), 0.5)),
        "position: got values such as 0.5",
    ),
    "not one-hot": (
        dict(dynamics=Discrete(discrete.Categorical), position=np.ones((2, 3, 4))),
        "position: got rows of the last axis that are not one-hot",
    ),
    "potential": (dict(potential_fn=wrong), r"potential_fn: got a result of shape \(2, 3\); expected one number for"),
    "score": (dict(score_fn=lambda x: x[:, :1]), r"score_fn: got a result of shape \(2, 1\); expected the gradient at"),
    "start": (dict(potential_fn=nowhere), "an energy or a score that is not finite at 2 of 2 elements, the first at 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(engine, case):
    changed, message = REFUSED[case]
    given = dict(potential_fn=eqx.Partial(gaussian, 1.0), num_samples=1, dynamics=Overdamped()) | changed
    position = engine.array(given.pop("position", np.zeros((2, 3))))
    with pytest.raises(ValueError, match=message):
        engine.run(0, given.pop("dynamics"), position, **given)


def test_integers_are_refused():
    for run, zeros in ((run_numpyro, jnp.zeros((2, 3), jnp.int32)), (run_pyro, torch.zeros((2, 3), dtype=torch.int32))):
        with pytest.raises(ValueError, match="position: got a dtype that is not floating"):
            run(0, Discrete(), zeros, potential_fn=coupled, num_samples=1)
