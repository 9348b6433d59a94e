"""IWAE and DReG against the same written by hand, the exact likelihood, and each other; what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import NUMPYRO as JAX_SIDE
from engines import PYRO as TORCH_SIDE
from montecarlo import RATE
from numpyro import handlers
from objectives import NUMPYRO, PYRO, Engine
from oracles import ORACLES
from registry import oracle_program
from scipy import stats
from weighted import (
    DEEP,
    DEEP_ROWS,
    ENGINES,
    PARAMS,
    ROOM,
    ROWS,
    deep_pair,
    dreg_by_hand,
    evaluate,
    iwae_by_hand,
    linear_pair,
)

from deepgen.inference.svi import importance_bound as bound

engines = pytest.mark.parametrize("engine", ENGINES, ids=repr)
vectorized = pytest.mark.parametrize("vectorize", [True, False], ids=["at once", "one by one"])
SIDE = {NUMPYRO: JAX_SIDE, PYRO: TORCH_SIDE}


def recorded(engine: Engine, objective: Any, x: np.ndarray = ROWS, **options: Any) -> tuple[float, Any, np.ndarray]:
    """Loss, gradient and the draws (K, n, 2) that they were taken at."""
    log: list[np.ndarray] = []
    loss, gradient = evaluate(engine, objective, *linear_pair(engine, log, **options), engine.array(x))
    return loss, gradient, np.unique(np.stack(log), axis=0)


def differ(first: Any, second: Any) -> float:
    """The largest difference of two gradients, as a share of the largest entry."""
    return max(np.abs(first[name] - second[name]).max() / np.abs(second[name]).max() for name in second)


@engines
@vectorized
def test_iwae_is_the_one_written_by_hand(engine: Engine, vectorize: bool) -> None:
    loss, gradient, z = recorded(engine, ROOM[engine].IWAE(6, vectorize_particles=vectorize))
    assert z.shape == (6, 4, 2)
    by_hand, by_differences = iwae_by_hand(PARAMS, ROWS, z)
    assert loss == pytest.approx(by_hand, rel=1e-5)
    assert differ(gradient, by_differences) < 1e-4
    # One weight over the batch is another number: of such an instance nothing else would be seen.
    loss, gradient, z = recorded(engine, ROOM[engine].IWAE(6, vectorize_particles=vectorize, joint=True))
    by_hand, by_differences = iwae_by_hand(PARAMS, ROWS, z)
    assert loss > by_hand + 0.05
    assert differ(gradient, by_differences) > 0.05


@engines
@vectorized
def test_dreg_is_the_one_written_by_hand(engine: Engine, vectorize: bool) -> None:
    loss, gradient, z = recorded(engine, ROOM[engine].DReG(6, vectorize_particles=vectorize))
    assert z.shape == (6, 4, 2)
    by_hand, _ = iwae_by_hand(PARAMS, ROWS, z)
    assert loss == pytest.approx(by_hand, rel=1e-5)
    assert differ(gradient, dreg_by_hand(PARAMS, ROWS, z)) < 1e-4
    assert differ(gradient, dreg_by_hand(PARAMS, ROWS, z, power=1)) > 0.05


@engines
@pytest.mark.parametrize("name", ["IWAE", "DReG"])
def test_one_particle_is_the_elbo_by_monte_carlo(engine: Engine, name: str) -> None:
    loss, _, z = recorded(engine, getattr(ROOM[engine], name)(1))
    model, guide = linear_pair(engine)
    x = engine.array(ROWS)
    if engine is NUMPYRO:
        params = {k: jnp.asarray(v) for k, v in PARAMS.items()}
        at = handlers.substitute(guide, {"z": jnp.asarray(z[0])})
        theirs = float(numpyro.infer.Trace_ELBO().loss(jax.random.key(0), params, model, at, x))
    else:
        with pyro.get_param_store().scope():
            tape = pyro.poutine.trace(guide).get_trace(x)
            tape.nodes["z"]["value"] = torch.as_tensor(z[0])
            theirs = pyro.infer.Trace_ELBO().loss(model, pyro.poutine.replay(guide, tape), x)
    assert loss == pytest.approx(theirs, rel=1e-5)


def gradients(engine: Engine, name: str, count: int, num_particles: int = 8) -> dict[str, np.ndarray]:
    """(count, ...) gradients of the two-level pair by each parameter."""
    objective = getattr(ROOM[engine], name)(num_particles)
    model, guide = deep_pair(engine)
    x = engine.array(DEEP_ROWS)
    if engine is NUMPYRO:
        params = {k: jnp.asarray(v) for k, v in DEEP.items()}
        keys = jax.random.split(jax.random.key(1), count)
        one = jax.grad(lambda values, key: objective.loss(key, values, model, guide, x))
        return {k: np.asarray(v) for k, v in jax.jit(jax.vmap(one, (None, 0)))(params, keys).items()}
    found = [evaluate(engine, objective, model, guide, x, params=DEEP, seed=seed)[1] for seed in range(count)]
    return {name: np.array([gradient[name] for gradient in found]) for name in DEEP}


def bias(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """The worst t of the mean differences over the parameters, as a share of what is passed with RATE."""
    scores = []
    for name, values in first.items():
        difference = values - second[name]
        scale = difference.std(ddof=1) / np.sqrt(len(difference))
        scores.append(abs(difference.mean()) / max(scale, 1e-6))
    return max(scores) / float(stats.t.isf(RATE / 2 / len(scores), len(values) - 1))


@pytest.fixture(scope="module")
def of_iwae() -> dict[Engine, dict[str, np.ndarray]]:
    return {NUMPYRO: gradients(NUMPYRO, "IWAE", 10_000), PYRO: gradients(PYRO, "IWAE", 400)}


@engines
def test_dreg_has_the_expectation_of_iwae(engine: Engine, of_iwae: Any) -> None:
    of_dreg = gradients(engine, "DReG", len(of_iwae[engine]["a"]))
    assert bias(of_dreg, of_iwae[engine]) < 1
    # The model's own parameter has the very gradient of IWAE.
    np.testing.assert_allclose(of_dreg["g"], of_iwae[engine]["g"], rtol=2e-3, atol=2e-4)


@engines
def test_dreg_has_less_variance(engine: Engine, of_iwae: Any) -> None:
    # Log ratios of variances in 20 batches are near normal: a one-sided t test with rate RATE.
    of_dreg = gradients(engine, "DReG", len(of_iwae[engine]["a"]))
    for name in "abd":
        one, other = (values[name].reshape(20, -1).var(1, ddof=1) for values in (of_iwae[engine], of_dreg))
        ratio = np.log(one / other)
        assert ratio.mean() / (ratio.std(ddof=1) / np.sqrt(20)) > stats.t.isf(RATE, 19), name


def test_planted_faults_of_dreg_are_seen(of_iwae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepgen.inference.svi.numpyro import importance

    with monkeypatch.context() as patch:
        patch.setattr(bound, "onto_draws", lambda weights, ndim, event_dim: jnp.ones((1,) * ndim))
        assert bias(gradients(NUMPYRO, "DReG", 10_000), of_iwae[NUMPYRO]) > 1
    with monkeypatch.context() as patch:
        patch.setattr(importance, "_is_delta", lambda fn: False)
        assert bias(gradients(NUMPYRO, "DReG", 10_000), of_iwae[NUMPYRO]) > 1


@pytest.mark.parametrize("name", ["IWAE", "DReG"])
def test_engines_agree_on_the_same_noise(name: str) -> None:
    found = []
    for engine in ENGINES:
        objective = getattr(ROOM[engine], name)(4, vectorize_particles=False)
        with SIDE[engine].tape(3), jax.disable_jit():
            found.append(evaluate(engine, objective, *deep_pair(engine), engine.array(DEEP_ROWS), params=DEEP))
    (loss, gradient), (other_loss, other_gradient) = found
    assert loss == pytest.approx(other_loss, rel=1e-5)
    for parameter, value in gradient.items():
        np.testing.assert_allclose(value, other_gradient[parameter], rtol=1e-4, atol=1e-5)


ORACLE = {oracle.name: oracle for oracle in ORACLES}


@engines
def test_bound_rises_to_the_likelihood(engine: Engine) -> None:
    oracle = ORACLE["factor-analysis"]
    x = oracle.draw(np.random.default_rng(2), 40)
    program = oracle_program(oracle, SIDE[engine])
    exact = oracle.log_prob(x).mean()
    count = 60
    values = [
        -engine.losses(ROOM[engine].IWAE(k), program.model, program.guide, engine.array(x), count=count) / len(x)
        for k in (1, 5, 50)
    ]
    ends = [exact, *(value.mean() for value in reversed(values))]
    errors = [1e-5, *(value.std(ddof=1) / np.sqrt(count) for value in reversed(values))]
    for above, below, e, f in zip(ends, ends[1:], errors, errors[1:], strict=False):
        # 6 standard errors: by chance once in a billion
        assert above - below > -6 * np.hypot(e, f)
    assert ends[2] - ends[3] > 6 * errors[3]
    assert exact - ends[1] < 0.02


@engines
def test_exact_posterior_gives_the_likelihood_at_every_draw(engine: Engine) -> None:
    oracle = ORACLE["ppca"]
    x = oracle.draw(np.random.default_rng(2), 7)
    program = oracle_program(oracle, SIDE[engine])
    losses = engine.losses(ROOM[engine].IWAE(3), program.model, program.guide, engine.array(x), count=3)
    np.testing.assert_allclose(losses, -oracle.log_prob(x).sum(), rtol=1e-5)


@engines
def test_masked_rows_count_for_nothing(engine: Engine) -> None:
    keep = np.array([True, False, True, True])
    for name in ("IWAE", "DReG"):
        log: list[np.ndarray] = []
        masked = (engine.mask(fn, mask=engine.array(keep) > 0) for fn in linear_pair(engine, log))
        objective = getattr(ROOM[engine], name)(5)
        loss, gradient = evaluate(engine, objective, *masked, engine.array(ROWS))
        z = np.unique(np.stack(log), axis=0)[:, keep]
        by_hand, by_differences = iwae_by_hand(PARAMS, ROWS[keep], z)
        assert loss == pytest.approx(by_hand, rel=1e-5)
        expected = by_differences if name == "IWAE" else dreg_by_hand(PARAMS, ROWS[keep], z)
        assert differ(gradient, expected) < 1e-4


@engines
def test_scale_multiplies_the_bound_of_a_row(engine: Engine) -> None:
    per_row = np.array([2.0, 0.5, 1.0, 3.0])
    for name in ("IWAE", "DReG"):
        objective = getattr(ROOM[engine], name)(5)
        plain = evaluate(engine, objective, *linear_pair(engine), engine.array(ROWS))
        scaled = (engine.scale(fn, scale=2.5) for fn in linear_pair(engine))
        loss, gradient = evaluate(engine, objective, *scaled, engine.array(ROWS))
        assert loss == pytest.approx(2.5 * plain[0], rel=1e-5)
        assert differ(gradient, {k: 2.5 * v for k, v in plain[1].items()}) < 1e-5
        log: list[np.ndarray] = []
        scale = engine.array(per_row)
        rowwise = (engine.scale(fn, scale=scale) for fn in linear_pair(engine, log))
        loss, gradient = evaluate(engine, objective, *rowwise, engine.array(ROWS))
        z = np.unique(np.stack(log), axis=0)
        parts = [
            (iwae_by_hand(PARAMS, ROWS[[i]], z[:, [i]]), dreg_by_hand(PARAMS, ROWS[[i]], z[:, [i]])) for i in range(4)
        ]
        assert loss == pytest.approx(sum(s * part[0][0] for s, part in zip(per_row, parts, strict=True)), rel=1e-5)
        by_row = [part[0][1] if name == "IWAE" else part[1] for part in parts]
        total = {k: sum(s * row[k] for s, row in zip(per_row, by_row, strict=True)) for k in PARAMS}
        assert differ(gradient, total) < 1e-4


@engines
@vectorized
def test_subsampled_rows_are_the_same_for_all_particles(engine: Engine, vectorize: bool) -> None:
    for name in ("IWAE", "DReG"):
        objective = getattr(ROOM[engine], name)(5, vectorize_particles=vectorize)
        loss, gradient, z = recorded(engine, objective, subsample=2)
        assert z.shape == (5, 2, 2)
        found = []
        for i in range(4):
            for j in range(4):
                by_hand, by_differences = iwae_by_hand(PARAMS, ROWS[[i, j]], z)
                expected = by_differences if name == "IWAE" else dreg_by_hand(PARAMS, ROWS[[i, j]], z)
                found.append(
                    (abs(loss - 2 * by_hand) / abs(loss), differ(gradient, {k: 2 * v for k, v in expected.items()}))
                )
        assert sum(value < 1e-4 and slope < 1e-4 for value, slope in found) == 1


@engines
@pytest.mark.parametrize("name", ["IWAE", "DReG"])
def test_plain_svi_fits_a_model_that_never_heard_of_it(engine: Engine, name: str) -> None:
    w = np.array([[1.0], [0.5]])
    x = (
        np.random.default_rng(3).normal(size=(60, 1)) @ w.T + 0.5 * np.random.default_rng(4).normal(size=(60, 2))
    ).astype(np.float32)
    exact = -stats.multivariate_normal(np.zeros(2), w @ w.T + 0.25 * np.eye(2)).logpdf(x).sum()

    def model(x: Any) -> None:
        with engine.plate("rows", len(x)):
            z = engine.sample("z", engine.dist.Normal(engine.array(np.zeros((len(x), 1))), 1.0).to_event(1))
            engine.sample("x", engine.dist.Normal(z @ engine.array(w).T, 0.5).to_event(1), obs=x)

    def guide(x: Any) -> None:
        a = engine.param("a", engine.array([[0.0, 0.0]]))
        sd = engine.numerics.exp(engine.param("s", engine.array(0.5)))
        with engine.plate("rows", len(x)):
            engine.sample("z", engine.dist.Normal(x @ a.T, sd).to_event(1))

    objective = getattr(ROOM[engine], name)(4)
    if engine is NUMPYRO:
        svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(0.03), loss=objective)
        losses = np.asarray(svi.run(jax.random.key(0), 400, jnp.asarray(x), progress_bar=False).losses)
    else:
        with pyro.get_param_store().scope():
            pyro.set_rng_seed(0)
            svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), loss=objective)
            losses = np.array([svi.step(torch.as_tensor(x)) for _ in range(400)])
    assert losses[:5].mean() > exact + 10
    # The guide contains the posterior, where every weight is the same.
    assert losses[-50:].mean() == pytest.approx(exact, abs=1.0)
