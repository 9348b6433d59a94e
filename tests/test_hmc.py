"""Lockstep HMC in both engines: its kernels leave their target invariant, its runs find many posteriors at once."""

import inspect
from collections import Counter
from types import SimpleNamespace

import arviz as az
import equinox as eqx
import jax
import jax.numpy as jnp
import kernels
import numpy as np
import pyro
import pytest
import torch
from array_api_compat import array_namespace
from scipy import stats

from deepgen.inference.hmc import hamiltonian
from deepgen.inference.hmc import numpyro as hmc_numpyro
from deepgen.inference.hmc import pyro as hmc_pyro
from deepgen.inference.hmc.hamiltonian import Noise

CHAINS, ROWS, D = 4, 6, 3


def run_numpyro(seed, *args, **kwargs):
    return hmc_numpyro.run(jax.random.key(seed), *args, **kwargs)


def run_pyro(seed, *args, **kwargs):
    pyro.set_rng_seed(seed)
    return hmc_pyro.run(*args, **kwargs)


NUMPYRO = SimpleNamespace(room=hmc_numpyro, run=run_numpyro, array=lambda x: jnp.asarray(x, jnp.float32))
PYRO = SimpleNamespace(room=hmc_pyro, run=run_pyro, array=lambda x: torch.as_tensor(np.asarray(x, np.float32)))


@pytest.fixture(params=[NUMPYRO, PYRO], ids=["numpyro", "pyro"], scope="module")
def engine(request):
    return request.param


def gaussian(mean, precision, z):
    """The log density of each row's own Gaussian, (chains, rows, d) -> (chains, rows)."""
    e = z - mean
    return -0.5 * (e[..., None, :] * precision * e[..., :, None]).sum(-1).sum(-1)


@pytest.fixture(scope="module")
def posteriors():
    """Correlated Gaussians, a mean and a covariance for each row, scales over two decades."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(ROWS, D, D + 2)) * 10 ** rng.uniform(-1, 1, size=(ROWS, D, 1))
    covariance = factor @ np.swapaxes(factor, 1, 2)
    return SimpleNamespace(mean=rng.normal(size=(ROWS, D)), covariance=covariance, precision=np.linalg.inv(covariance))


def log_density_of(engine, posteriors):
    return eqx.Partial(gaussian, engine.array(posteriors.mean), engine.array(posteriors.precision))


SETTINGS = dict(num_warmup=150, num_samples=400, num_steps=6, progress=False)


@pytest.fixture(scope="module")
def fitted(engine, posteriors):
    start = engine.array(np.zeros((CHAINS, ROWS, D)))
    draws, result = engine.run(1, log_density_of(engine, posteriors), start, **SETTINGS)
    return SimpleNamespace(draws=np.asarray(draws), result=result)


# the target of the invariance checks: a bent ridge, and the logarithm of an exponential variable
def ridge(z):
    xp = array_namespace(z)
    a, b, c = z[..., 0], z[..., 1], z[..., 2]
    return -0.5 * a**2 - 0.5 * (b - a**2 / 2) ** 2 + c - xp.exp(c)


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


def invariance(engine, n=8_000):
    """p-values of the check, each element with its own step size and mass."""
    rng = np.random.default_rng(5)
    step_size = engine.array(rng.choice([0.3, 0.9], size=n))
    inverse_mass = engine.array(np.exp(rng.normal(size=(n, 3)) * 0.7))
    settings = (ridge, step_size, inverse_mass, 4)
    if engine is PYRO:
        pyro.set_rng_seed(0)

        def advance(q):
            return hmc_pyro.step(hmc_pyro.init(ridge, engine.array(q)), *settings)[0].position

    else:
        keys = iter(jax.random.split(jax.random.key(0), 8))
        compiled = jax.jit(lambda key, q: hmc_numpyro.step(key, hmc_numpyro.init(ridge, q), *settings)[0].position)

        def advance(q):
            return compiled(next(keys), engine.array(q))

    return list(kernels.start_at_target(ridge_draws(n, 6), advance, RIDGE_LAWS).values())


def test_the_target_stays_the_target(engine):
    assert kernels.holds(invariance(engine))


PLANTED = {
    "no accept step": ("select", lambda accepted, new, old: new),
    "kinetic term missing": ("kinetic_energy", lambda p, inverse_mass: p[..., 0] * 0),
    "momentum of another mass": ("momentum", lambda noise, inverse_mass: noise * inverse_mass**0.5),
    "accept and reject exchanged": ("select", lambda accepted, new, old: SELECT(accepted, old, new)),
    "drift without mass": ("drift", lambda q, p, step, inverse_mass: q * 0.98 + step * p),
}
SELECT = hamiltonian.select


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_does_not_keep_the_target(bug, monkeypatch):
    monkeypatch.setattr(hamiltonian, *PLANTED[bug])
    assert not kernels.holds(invariance(PYRO))


def test_a_planted_bug_does_not_keep_the_target_in_numpyro(monkeypatch):
    monkeypatch.setattr(hamiltonian, *PLANTED["no accept step"])
    assert not kernels.holds(invariance(NUMPYRO))


def test_moments_of_every_posterior(fitted, posteriors):
    draws = np.swapaxes(fitted.draws, 0, 1)
    variance = np.diagonal(posteriors.covariance, axis1=1, axis2=2)
    assert kernels.holds(kernels.moment_p_values(draws, posteriors.mean, variance))
    sd = np.sqrt(variance)
    assert not kernels.holds(kernels.moment_p_values(draws, posteriors.mean + 0.25 * sd, variance))
    assert not kernels.holds(kernels.moment_p_values(draws, posteriors.mean, 1.4 * variance))
    data = az.convert_to_dataset(draws)
    assert float(az.rhat(data).x.max()) < 1.03
    assert float(az.ess(data).x.min()) > 100


def test_the_report(fitted, posteriors):
    result = fitted.result
    shape = (CHAINS, ROWS)
    accept_prob, accept_rate, step_size = (
        np.asarray(x) for x in (result.accept_prob, result.accept_rate, result.step_size)
    )
    assert accept_prob.shape == accept_rate.shape == step_size.shape == shape
    # a mean of Bernoulli variables with those probabilities, 24 of them: at most 5 standard errors
    assert np.abs(accept_rate - accept_prob).max() < 5 * 0.5 / np.sqrt(SETTINGS["num_samples"])
    assert ((accept_prob > 0.7) & (accept_prob < 0.99)).all()
    assert (step_size == step_size[:1]).all()
    assert int(result.divergences.sum()) == 0
    assert bool(result.initial_finite.all())
    e = fitted.draws - posteriors.mean
    potential = 0.5 * np.einsum("scri,rij,scrj->scr", e, posteriors.precision, e)
    np.testing.assert_allclose(np.asarray(result.potential_energy), potential, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(np.asarray(result.state.position), fitted.draws[-1])
    variance = np.diagonal(posteriors.covariance, axis1=1, axis2=2)
    ratio = np.asarray(result.inverse_mass) / variance
    assert (ratio > 0.3).all()
    assert (ratio < 3).all()


@pytest.mark.parametrize("target", [0.6, 0.8])
def test_the_warm_up_reaches_the_target_acceptance(engine, target):
    """One leapfrog step in 30 dimensions: there the acceptance falls smoothly with the step size."""
    scale = engine.array(10.0 ** np.linspace(-1, 1, 10)[:, None])
    start = engine.array(np.zeros((4, 10, 30)))
    settings = dict(num_warmup=800, num_samples=200, num_steps=1, jitter=0.0, adapt_mass_matrix=False)
    _, result = engine.run(2, eqx.Partial(isotropic, scale), start, target_accept_prob=target, **settings)
    accept_prob = np.asarray(result.accept_prob).mean(0)
    assert accept_prob.mean() == pytest.approx(target, abs=0.03)
    assert np.abs(accept_prob - target).max() < 0.1


def isotropic(scale, z):
    return -0.5 * ((z / scale) ** 2).sum(-1)


def played(engine, posteriors):
    """A whole run in float64 on one tape of noise: in float32 the warm-up would magnify rounding to other decisions."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(50, CHAINS, ROWS, D)), rng.uniform(size=(50, CHAINS, ROWS)), rng.uniform(size=50)
    settings = dict(num_warmup=30, num_samples=10, thinning=2, num_steps=3, jitter=1.0, step_size=0.1)
    with jax.enable_x64(True):
        array = jnp.asarray if engine is NUMPYRO else torch.as_tensor
        noise_at = eqx.Partial(lambda noises, i: Noise(*(x[i] for x in noises)), tuple(map(array, noise)))
        log_density = eqx.Partial(gaussian, array(posteriors.mean), array(posteriors.precision))
        start = array(rng.normal(size=(CHAINS, ROWS, D)))
        draws, result = engine.room.run_with_noise(noise_at, log_density, start, **settings)
        assert np.asarray(draws).dtype == np.float64
        return dict(
            draws=np.asarray(draws), **{name: np.asarray(x) for name, x in result._replace(state=0)._asdict().items()}
        )


def test_the_engines_agree_on_a_noise_tape(posteriors, monkeypatch):
    result, result_pyro = played(NUMPYRO, posteriors), played(PYRO, posteriors)
    assert 0 < result["accept_rate"].mean() < 1
    decisions = (np.rint(found["accept_rate"] * 20) for found in (result, result_pyro))
    np.testing.assert_array_equal(*decisions)
    for name in ("divergences", "initial_finite"):
        np.testing.assert_array_equal(result[name], result_pyro[name], err_msg=name)
    for name in result:
        np.testing.assert_allclose(result[name], result_pyro[name], rtol=1e-6, atol=1e-8, err_msg=name)

    monkeypatch.setattr(hamiltonian, "drift", lambda q, p, step, inverse_mass: q + 0.5 * step * inverse_mass * p)
    assert not np.allclose(result["draws"], played(PYRO, posteriors)["draws"], rtol=1e-3)


def test_a_step_agrees_in_float32(posteriors):
    rng = np.random.default_rng(4)
    position, momentum = rng.normal(size=(2, CHAINS, ROWS, D))
    uniform, mass = rng.uniform(size=(CHAINS, ROWS)), np.diagonal(posteriors.covariance, axis1=1, axis2=2)[None]
    found = []
    for engine in (NUMPYRO, PYRO):
        log_density = log_density_of(engine, posteriors)
        state = engine.room.init(log_density, engine.array(position))
        noise = Noise(engine.array(momentum), engine.array(uniform), engine.array(0.7))
        steps = engine.array(np.full((1, ROWS), 0.7))
        step = eqx.filter_jit(hmc_numpyro.step_with_noise) if engine is NUMPYRO else hmc_pyro.step_with_noise
        found.append(step(noise, state, log_density, steps, engine.array(mass), 4))
    (state, info), (state_pyro, info_pyro) = found
    assert 0 < np.asarray(info.accepted).mean() < 1
    np.testing.assert_array_equal(info.accepted, info_pyro.accepted)
    assert int(info.num_steps) == int(info_pyro.num_steps)
    for ours, theirs in zip(state + info[:1] + info[3:4], state_pyro + info_pyro[:1] + info_pyro[3:4], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def half_line(z):
    """Gamma(3, 1) in each dimension; below zero the density is not a number."""
    xp = array_namespace(z)
    return (2 * xp.log(z) - z).sum(-1)


def test_what_leaves_the_support_is_rejected_and_counted(engine):
    start = engine.array(np.ones((1, 2000, 1)))
    settings = dict(num_warmup=0, num_samples=30, thinning=2, num_steps=4)
    draws, result = engine.run(3, half_line, start, step_size=1.0, **settings)
    draws, divergences = np.asarray(draws), np.asarray(result.divergences)
    assert (draws > 0).all()
    assert 0 < divergences.mean() < 30
    assert kernels.holds(stats.kstest(draws[-1, 0, :, 0].astype(float), stats.gamma(3).cdf).pvalue)

    # now every trajectory diverges: the chain stays and says so
    step_size = np.linspace(1e4, 2e4, 2000)
    draws, result = engine.run(4, half_line, start, step_size=engine.array(step_size), **settings)
    assert (np.asarray(draws) == 1).all()
    assert (np.asarray(result.divergences) == 60).all()
    assert float(result.accept_prob.max()) == 0
    np.testing.assert_allclose(result.step_size, step_size[None], rtol=1e-6)


def described(*args):
    z = args[-1]
    return {"square": z**2, "sum": z.sum(-1)}


def test_thinning_collect_and_progress(engine, capsys):
    start = engine.array(np.zeros((2, 3, 2)))
    log_density = eqx.Partial(isotropic, 2.0)
    settings = dict(num_warmup=25, num_steps=2)
    every, result = engine.run(5, log_density, start, num_samples=12, **settings)
    assert capsys.readouterr().err == ""
    kept, thinned = engine.run(5, log_density, start, num_samples=4, thinning=3, collect=described, **settings)
    thinned_draws = np.asarray(every)[2::3]
    np.testing.assert_allclose(kept["square"], thinned_draws**2, rtol=1e-5)
    np.testing.assert_allclose(kept["sum"], thinned_draws.sum(-1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(thinned.potential_energy, np.asarray(result.potential_energy)[2::3], rtol=1e-5)
    np.testing.assert_allclose(thinned.accept_prob, result.accept_prob, rtol=1e-5)

    shown, _ = engine.run(5, log_density, start, num_samples=12, progress=True, **settings)
    assert "37/37" in capsys.readouterr().err
    np.testing.assert_array_equal(np.asarray(every), np.asarray(shown))


def test_settings_are_obeyed(engine):
    start = engine.array(np.zeros((2, 3, 2)))
    log_density = eqx.Partial(isotropic, engine.array([0.1, 10.0]))
    settings = dict(num_warmup=30, num_samples=2, num_steps=2, pool_chains=False)
    _, result = engine.run(6, log_density, start, **settings)
    assert np.unique(np.asarray(result.step_size)).size == 6
    assert not (np.asarray(result.inverse_mass) == 1).any()
    _, result = engine.run(6, log_density, start, adapt_mass_matrix=False, **settings)
    assert (np.asarray(result.inverse_mass) == 1).all()


REFUSED = {
    "position": (
        dict(position=np.zeros(3)),
        r"position: got shape \(3,\); expected floating numbers \(chains, ..., d\)",
    ),
    "empty": (dict(position=np.zeros((2, 0, 3))), r"position: got shape \(2, 0, 3\)"),
    "num_warmup": (dict(num_warmup=-1), "num_warmup: got -1; expected an integer >= 0"),
    "num_samples": (dict(num_samples=0), "num_samples: got 0; expected an integer >= 1"),
    "num_steps": (dict(num_steps=0), "num_steps: got 0; expected an integer >= 1"),
    "thinning": (dict(thinning=0), "thinning: got 0; expected an integer >= 1"),
    "jitter": (dict(jitter=1.5), "jitter: got 1.5; expected a number from 0 to 1"),
    "target": (dict(target_accept_prob=1.0), "target_accept_prob: got 1.0; expected a number strictly between 0 and 1"),
    "step_size": (dict(step_size=0.0), r"step_size: got 0.0; expected finite numbers > 0"),
    "step_size shape": (dict(step_size=np.ones(7)), r"step_size: got shape \(7,\); .* broadcasts to \(2, 3\)"),
    "log_density": (
        dict(log_density=lambda z: z),
        r"log_density: got a result of shape \(2, 3, 2\); .* shape \(2, 3\)",
    ),
    "start": (dict(log_density=half_line), r"not finite at 6 of 6 elements, the first at \(0, 0\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(engine, case):
    changed, message = REFUSED[case]
    arguments = dict(log_density=eqx.Partial(isotropic, 1.0), num_warmup=1, num_samples=1) | changed
    position = engine.array(arguments.pop("position", np.zeros((2, 3, 2))))
    with pytest.raises(ValueError, match=message):
        engine.run(0, arguments.pop("log_density"), position, **arguments)


def test_integers_are_refused():
    with pytest.raises(ValueError, match="position: got a dtype that is not floating"):
        run_numpyro(0, half_line, jnp.ones((1, 1, 1), jnp.int32), num_warmup=0, num_samples=1)
    with pytest.raises(ValueError, match="position: got a dtype that is not floating"):
        run_pyro(0, half_line, torch.ones((1, 1, 1), dtype=torch.int32), num_warmup=0, num_samples=1)


@pytest.fixture
def compilations():
    """Counts what XLA compiles."""
    counts = Counter()

    def listen(event, duration, **_):
        counts["compiled"] += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield counts
    jax.monitoring.unregister_event_duration_listener(listen)


SMALL = dict(num_warmup=20, num_samples=3, num_steps=2)


def test_a_second_run_compiles_nothing(compilations):
    def run(seed, scale, **changed):
        start = jnp.full((2, 3, 2), 0.1 * seed)
        return jax.block_until_ready(
            run_numpyro(seed, eqx.Partial(isotropic, jnp.asarray(scale)), start, **SMALL, **changed)
        )

    run(1, 1.0)
    assert compilations["compiled"] > 0
    compilations.clear()
    run(2, 3.0, step_size=0.3, target_accept_prob=0.7)
    assert compilations["compiled"] == 0


def test_a_run_inside_jit(compilations):
    start = jnp.full((2, 3, 2), 0.1)
    nowhere = start.at[1, 2].set(jnp.nan)

    @eqx.filter_jit
    def inside(key, scale, start, progress=None):
        return hmc_numpyro.run(key, lambda z: isotropic(scale, z), start, progress=progress, **SMALL)

    draws, result = inside(jax.random.key(3), jnp.asarray(2.0), start)
    outside, _ = run_numpyro(3, eqx.Partial(isotropic, jnp.asarray(2.0)), start, **SMALL)
    np.testing.assert_allclose(draws, outside, rtol=1e-4, atol=1e-4)
    assert bool(result.initial_finite.all())
    compilations.clear()
    draws, result = inside(jax.random.key(4), jnp.asarray(1.0), nowhere)
    assert compilations["compiled"] == 0
    np.testing.assert_array_equal(result.initial_finite, [[True] * 3, [True, True, False]])
    assert np.isfinite(np.asarray(draws)[:, 0]).all()
    with pytest.raises(ValueError, match="progress: got True inside jit"):
        inside(jax.random.key(3), jnp.asarray(2.0), start, True)


def test_both_kinds_of_keys_work():
    new, old = (hmc_numpyro.draw_noise(key, jnp.zeros((2, 3))) for key in (jax.random.key(0), jax.random.PRNGKey(0)))
    jax.tree.map(np.testing.assert_array_equal, new, old)


def test_the_engines_have_the_same_names_and_arguments():
    assert hmc_numpyro.__all__ == hmc_pyro.__all__
    for name in ("init", "draw_noise", "step_with_noise", "step", "run_with_noise", "run"):
        ours, theirs = (inspect.signature(getattr(room, name)).parameters.values() for room in (hmc_numpyro, hmc_pyro))
        assert [(p.name, p.default) for p in ours if p.name != "rng_key"] == [(p.name, p.default) for p in theirs]
