"""Energy-based programs: their parts, their constant, their place in other programs, and what they refuse."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import limit
from numpyro import distributions as ndist
from pyro import distributions as pdist
from registry import ORACLES, oracle_program
from scipy import stats
from scipy.special import logsumexp

from deepgen.models.ebm import rbm, reference

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = {oracle.name: oracle for oracle in ORACLES if oracle.family == "ebm"}
NORMALS = {"numpyro": ndist.Normal, "pyro": pdist.Normal}


def log_density(engine: Any, program: Any, x: np.ndarray) -> np.ndarray:
    values = program.distribution().log_prob(engine.array(x))
    return np.asarray(values if engine is NUMPYRO else values.detach()).astype(float)


def test_bases_take_the_moments_of_their_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal([1.0, -2.0, 0.5], [[2, 1, 0], [1, 1, 0], [0, 0, 0.2]], 5000)
    diagonal, full = (reference.fitted(kind, (3,), x) for kind in ("diagonal", "full"))
    np.testing.assert_allclose(diagonal["loc"], x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(np.exp(diagonal["log_scale"]), x.std(0), rtol=1e-5)
    factor = np.diag(np.exp(full["log_scale"])) + full["lower"]
    np.testing.assert_allclose(factor @ factor.T, np.cov(x.T), rtol=0.01, atol=0.01)
    holes = np.where(rng.random(x.shape) < [0.0, 0.3, 0.3], np.nan, x)
    np.testing.assert_allclose(reference.fitted("diagonal", (3,), holes)["loc"], np.nanmean(holes, 0), rtol=1e-4)
    few = reference.fitted("full", (3,), x[:2])
    assert np.isfinite(few["log_scale"]).all(), "two rows do not make it singular"
    b = (rng.random((400, 2)) < [0.3, 1.0]).astype(np.float32)
    np.testing.assert_allclose(reference.fitted("bernoulli", (2,), b)["logits"][1], np.log(401), rtol=1e-5)
    constant = reference.fitted("diagonal", (2,), np.float32([[1, 5], [2, 5], [3, 5]]))
    assert -20 < constant["log_scale"][1] < constant["log_scale"][0] - 4


@pytest.mark.parametrize(("hidden", "visible"), [(3, 5), (5, 3)])
def test_the_partition_function_is_summed_exactly(hidden: int, visible: int) -> None:
    """Over either side, against the sum over both."""
    rng = np.random.default_rng(1)
    weight, b, c, a = (rng.normal(size=shape) for shape in ((hidden, visible), visible, hidden, visible))
    v, h = (np.array(list(product([0.0, 1.0], repeat=size))) for size in (visible, hidden))
    joint = (v @ b)[:, None] + h @ c + v @ weight.T @ h.T - hidden * np.log(2)
    truth = logsumexp(joint + stats.bernoulli.logpmf(v, 1 / (1 + np.exp(-a))).sum(-1)[:, None])
    assert rbm.log_partition(weight, b, c, a) == pytest.approx(truth, abs=1e-10)
    assert rbm.log_partition(weight, b, c, 0 * a) != pytest.approx(truth, abs=1e-3)
    tempered = -rbm.free_energy(v, weight, b, c, 0.3)
    np.testing.assert_allclose(tempered, logsumexp(0.3 * joint - 0.7 * hidden * np.log(2), axis=1), atol=1e-10)
    with pytest.raises(ValueError, match=r"21 visible and 21 hidden units; expected at most 20 on one side"):
        rbm.log_partition(np.zeros((21, 21)), np.zeros(21), np.zeros(21), np.zeros(21))


@BOTH
def test_a_machine_knows_its_constant(engine: Any) -> None:
    program = oracle_program(ORACLE["machine"], engine)
    states = np.array(list(product([0.0, 1.0], repeat=4)), dtype=np.float32)
    summed = logsumexp(log_density(engine, program, states))
    assert program.exact_log_partition() == pytest.approx(summed, abs=1e-5)
    with pytest.raises(ValueError, match=r"got a QuadraticEnergy; expected a restricted Boltzmann machine"):
        oracle_program(ORACLE["flipped"], engine).exact_log_partition()


def assert_bracketed(found: Any, truth: float) -> None:
    """Both bounds are precise and on their sides of the constant, and would not be of one 0.4 nats off."""

    def holds(shift: float) -> bool:
        low = (found.value - truth - shift) / found.stderr
        high = (found.upper - truth - shift) / found.upper_stderr
        # each bound is off by little beside its error with so many temperatures
        return low < limit(1) and high > -limit(1) and max(abs(low), abs(high)) < limit(2)

    assert 0 < found.stderr < 0.08
    assert 0 < found.upper_stderr < 0.08
    assert holds(0.0)
    assert not holds(0.4)
    assert not holds(-0.4)


@BOTH
def test_the_bracket_holds_the_constant_of_twenty_hidden_units(engine: Any) -> None:
    """Against the sum over the 1,024 visible states."""
    energy = {"energy": "rbm", "visible_dim": 10, "hidden_dim": 20}
    config = {"event_shape": [10], "base": "bernoulli", "energy": energy, "kernel": "block-gibbs"}
    rng = np.random.default_rng(4)
    program = engine.build("ebm", config)
    tensors = {name: 0.5 * rng.normal(size=x.shape).astype(np.float32) for name, x in engine.tensors(program).items()}
    program = engine.with_tensors(program, tensors)
    states = np.array(list(product([0.0, 1.0], repeat=10)), dtype=np.float32)
    truth = float(logsumexp(log_density(engine, program, states).astype(float)))
    assert program.exact_log_partition() == pytest.approx(truth, abs=1e-4)
    assert_bracketed(engine.call("log_partition", program, num_chains=300, num_temperatures=200), truth)


@BOTH
@pytest.mark.parametrize("name", ["machine", "quadratic"])
def test_the_bracket_holds_the_constant(engine: Any, name: str) -> None:
    oracle, options = ORACLE[name], {"num_chains": 300, "num_temperatures": 200}
    program, x = oracle_program(oracle, engine), oracle.draw(np.random.default_rng(0), 2)
    truth = float(log_density(engine, program, x)[0] - oracle.log_prob(x)[0])
    found = engine.call("log_partition", program, **options)
    assert_bracketed(found, truth)
    short = engine.call("log_partition", program, bracket=False, **options)
    assert short.value == pytest.approx(found.value, abs=1e-4) or engine is PYRO
    assert np.isnan(short.upper)


@BOTH
def test_a_product_adds_energies(engine: Any) -> None:
    make = engine.face.EnergyBasedModel
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    first, second = (engine.call(make.mlp, (3,), hidden=(4,), data=2 * x, seed=seed) for seed in (1, 2))
    both = make.product(first, second)
    plain = NORMALS[engine.name](engine.array(np.float32(0)), engine.array(np.float32(1)))
    assert both.spec()["energy"]["energy"] == "sum"
    added = log_density(engine, first, x) + log_density(engine, second, x)
    base = first.base.distribution().log_prob(engine.array(x))
    np.testing.assert_allclose(log_density(engine, both, x), added - np.asarray(base), rtol=1e-4)
    assert plain.event_shape == ()
    with pytest.raises(ValueError, match=r"programs: got 1 of 1 kinds of data; expected at least two"):
        make.product(first)
    with pytest.raises(ValueError, match=r"programs: got 2 of 2 kinds of data"):
        make.product(first, engine.call(make.rbm, (3,), 2))


@BOTH
def test_images_and_tables_have_constructors(engine: Any) -> None:
    make, rng = engine.face.EnergyBasedModel, np.random.default_rng(0)
    images = rng.random((6, 1, 5, 4)).astype(np.float32)
    program = engine.call(make.conv, (1, 5, 4), channels=(3,), hidden=(4,), data=images)
    assert tuple(program.event_shape) == (1, 5, 4)
    assert log_density(engine, program, images).shape == (6,)
    table = rng.standard_normal((20, 3))
    full = engine.call(make.mlp, (3,), "full", hidden=(4,), data=table)
    assert log_density(engine, full, table.astype(np.float32)).shape == (20,)
    coins = engine.call(make.mlp, (2, 2), "bernoulli", hidden=(4,))
    assert coins.kernel == "flips"
    assert engine.call(make.rbm, (2, 2), 3).kernel == "block-gibbs"
    with pytest.raises(ValueError, match=r"event_shape: got \(3,\); expected \(channels, height, width\)"):
        engine.call(make.conv, (3,))
    with pytest.raises(ValueError, match=r"base: got 'full' for an event of shape \(2, 2\)"):
        engine.call(make.mlp, (2, 2), "full")
    with pytest.raises(ValueError, match=r"base: got 'cauchy'; expected one of"):
        engine.call(make.mlp, (2,), "cauchy")
    with pytest.raises(ValueError, match=r"hidden_dim: got 0"):
        engine.call(make.rbm, (2,), 0)
    with pytest.raises(ValueError, match=r"kernel: got 'nuts'; expected one of"):
        make(program.base, program.energy, "nuts")
    with pytest.raises(ValueError, match=r"kernel: got FlipSteps for a law of real numbers"):
        make(program.base, program.energy, "flips")


@BOTH
def test_data_are_checked(engine: Any) -> None:
    program = engine.call(engine.face.EnergyBasedModel.rbm, (3,), 2)
    assert program.check_data([[0, 1, 1]]).dtype == np.float32
    assert np.isnan(program.check_data(np.array([[0, -1, 1]]), missing=True)).sum() == 1
    wrong = {"x: got the value 0.5; expected zeros and ones": [[0.5, 0, 1]], "expected complete data": [[np.nan, 0, 1]]}
    for message, x in wrong.items():
        with pytest.raises(ValueError, match=message):
            program.check_data(np.array(x))
    with pytest.raises(ValueError, match="expected complete data"):
        engine.call("log_prob", program, np.array([[np.nan, 0, 1]]))
    with pytest.raises(ValueError, match="1 rows of which nothing is observed"):
        program.check_data(np.full((1, 3), np.nan), missing=True)
    with pytest.raises(ValueError, match=r"y: got a EnergyBasedModel, which has no classes"):
        engine.call("log_prob", program, np.zeros((1, 3)), y=0)
    with pytest.raises(ValueError, match=r"num_particles: got 0"):
        engine.call("log_prob", program, np.zeros((1, 3)), num_particles=0)


@BOTH
def test_there_are_no_independent_draws(engine: Any) -> None:
    law = oracle_program(ORACLE["machine"], engine).distribution()
    message = r"sample: got an EnergyBased law.*law\.kernel\.run \(BlockGibbs\)"
    with pytest.raises(NotImplementedError, match=message):
        law.sample(*([jax.random.key(0)] if engine is NUMPYRO else []))
    base = law.base
    with pytest.raises(ValueError, match=r"base: got batch shape \(2,\); expected one law of a whole datum"):
        engine.face.EnergyBased(NORMALS[engine.name](engine.array(np.zeros(2)), 1.0), law.energy)
    with pytest.raises(ValueError, match=r"kernel: got LangevinSteps, whose chains are not of the law"):
        engine.face.EnergyBased(base, law.energy, engine.face.LangevinSteps())
    with pytest.raises(ValueError, match=r"energy: got a result of shape \(2, 4\) for 2 rows"):
        engine.face.EnergyBased(base, lambda x: x).log_prob(engine.array(np.zeros((2, 4), np.float32)))


@BOTH
def test_the_constant_of_other_programs_is_not_estimated(engine: Any) -> None:
    program = oracle_program(ORACLE["machine"], engine)
    for option in ("num_chains", "num_temperatures"):
        with pytest.raises(ValueError, match=rf"{option}: got 1; expected a number >= 2"):
            engine.call("log_partition", program, **{option: 1})
    with pytest.raises(ValueError, match="num_steps: got 0"):
        engine.call("log_partition", program, num_steps=0)
    flow = engine.call(engine.face.Flow.nice, (4,), num_transforms=1, hidden=(3,))
    with pytest.raises(ValueError, match=r"program: got a Flow, whose density is normalised or not known"):
        engine.call("log_partition", flow)


def energetic(engine: Any, factor: bool) -> Any:
    """N(0, 1) tilted by exp(-x^2 / 2 * 3): N(0, 1 / 4), as a factor or as a law."""
    lib, dist = (numpyro, ndist) if engine is NUMPYRO else (pyro, pdist)
    zero, one = engine.array(np.float32([0.0])), engine.array(np.float32([1.0]))

    def model() -> None:
        base = dist.Normal(zero, one).to_event(1)
        if factor:
            x = lib.sample("x", base)
            lib.factor("energy", -1.5 * (x**2).sum())
        else:
            lib.sample("x", engine.face.EnergyBased(base, lambda x: 1.5 * (x**2).sum(-1)))

    return model


@pytest.mark.parametrize("factor", [True, False], ids=["factor", "law"])
def test_an_energy_in_a_program_of_the_user_s_own_numpyro(factor: bool) -> None:
    mcmc = numpyro.infer.MCMC(
        numpyro.infer.NUTS(energetic(NUMPYRO, factor)), num_warmup=200, num_samples=1500, progress_bar=False
    )
    mcmc.run(jax.random.key(0))
    draws = np.asarray(mcmc.get_samples()["x"])
    # at least 300 effective draws of x^2
    assert abs(draws.var() - 0.25) < limit(1) * 0.25 * np.sqrt(2 / 300)
    assert abs(draws.var() - 1.0) > limit(1) * np.sqrt(2 / 300), "the energy left out"


@pytest.mark.parametrize("factor", [True, False], ids=["factor", "law"])
def test_an_energy_in_a_program_of_the_user_s_own_pyro(factor: bool) -> None:
    pyro.set_rng_seed(0)
    start = pyro.infer.autoguide.initialization.init_to_value(values={"x": torch.zeros(1)})
    kernel = pyro.infer.NUTS(energetic(PYRO, factor), init_strategy=start, max_plate_nesting=0)
    mcmc = pyro.infer.MCMC(kernel, num_samples=250, warmup_steps=60, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()["x"].numpy()
    # at least 60 effective draws of x^2
    assert abs(draws.var() - 0.25) < limit(1) * 0.25 * np.sqrt(2 / 60)
    assert abs(draws.var() - 1.0) > limit(1) * 0.25 * np.sqrt(2 / 60), "the energy left out"


def test_a_law_is_differentiated_and_vectorised() -> None:
    law = oracle_program(ORACLE["quadratic"], NUMPYRO).distribution()
    x = jnp.asarray(ORACLE["quadratic"].draw(np.random.default_rng(0), 6)).reshape(2, 3, 4)
    assert law.log_prob(x).shape == (2, 3)
    np.testing.assert_allclose(jax.vmap(law.log_prob)(x), law.log_prob(x), rtol=1e-5)
    assert jax.jit(lambda law, x: law.log_prob(x))(law, x).shape == (2, 3)
