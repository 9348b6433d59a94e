"""What importance-weighted objectives refuse, what they take instead, and how they stand as settings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objectives import NUMPYRO, PYRO, Engine, X
from pyro.infer import autoguide
from scipy.special import logsumexp
from weighted import ENGINES, ROOM, ROWS, evaluate, linear_pair

from deepgen.inference.svi import importance_bound as bound
from deepgen.inference.svi import numpyro as nsvi
from deepgen.inference.svi import pyro as psvi

engines = pytest.mark.parametrize("engine", ENGINES, ids=repr)


@given(st.lists(st.lists(st.floats(-800, 800), min_size=3, max_size=3), min_size=1, max_size=6))
def test_log_mean_exp_and_weights(values: list[list[float]]) -> None:
    weights = np.array(values)
    np.testing.assert_allclose(
        bound.log_mean_exp(weights), logsumexp(weights, axis=0) - np.log(len(weights)), atol=1e-9
    )
    normalised = bound.normalised_weights(weights)
    np.testing.assert_allclose(normalised, np.exp(weights - logsumexp(weights, axis=0)), atol=1e-12)
    np.testing.assert_array_equal(bound.log_mean_exp(weights[:1]), weights[0])
    with np.errstate(divide="ignore"):
        assert bound.log_mean_exp(np.array([[-np.inf, -np.inf], [-np.inf, 1.0]])).tolist() == [-np.inf, 1.0 - np.log(2)]


def test_densities_are_summed_down_to_the_rows() -> None:
    density = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(bound.sum_to_rows(density, {-2: 3}), density.sum((0, 2))[:, None])
    np.testing.assert_array_equal(bound.sum_to_rows(density, {-1: 4}), density.sum((0, 1)))
    np.testing.assert_array_equal(bound.sum_to_rows(density, {}), density.sum())
    np.testing.assert_array_equal(
        bound.sum_to_rows(density[0, 0], {-3: 2, -1: 4}), np.broadcast_to(density[0, 0], (2, 1, 4))
    )
    assert bound.onto_draws(np.ones((5, 4)), 4, 1).shape == (5, 1, 4, 1)


def losses(engine: Engine, objective: Any, model: Any, guide: Any, *args: Any) -> float:
    return float(engine.losses(objective, model, guide, *args)[0])


def shared_latent(engine: Engine) -> tuple[Any, Any]:
    """A latent that all rows share, and one of each row."""

    def model(x: Any) -> None:
        m = engine.sample("m", engine.dist.Normal(engine.array(0.0), 1.0))
        with engine.plate("data", len(x)):
            z = engine.sample("z", engine.dist.Normal(m + 0.0 * x, 1.0))
            engine.sample("x", engine.dist.Normal(z, 0.5), obs=x)

    def guide(x: Any) -> None:
        engine.sample("m", engine.dist.Normal(engine.array(0.1), 0.5))
        with engine.plate("data", len(x)):
            engine.sample("z", engine.dist.Normal(0.5 * x, 0.9))

    return model, guide


@engines
def test_latent_that_all_rows_share_needs_one_weight(engine: Engine) -> None:
    x = X[:, 0]
    message = (
        r"the sites \['m of the guide', 'm of the model'\] outside of the plate 'data' \(dim -1, 4 rows\).*joint=True"
    )
    for objective in (ROOM[engine].IWAE, ROOM[engine].DReG):
        with pytest.raises(ValueError, match=message):
            losses(engine, objective(3), *shared_latent(engine), engine.array(x))
    values = engine.losses(ROOM[engine].IWAE(20, joint=True), *shared_latent(engine), engine.array(x), count=200)
    covariance = np.ones((4, 4)) + 1.25 * np.eye(4)
    exact = 0.5 * (x @ np.linalg.solve(covariance, x) + np.linalg.slogdet(2 * np.pi * covariance)[1])
    elbo = engine.losses(ROOM[engine].IWAE(1, joint=True), *shared_latent(engine), engine.array(x), count=200)
    error = values.std(ddof=1) / np.sqrt(200)
    assert exact - 6 * error < values.mean() < elbo.mean() - 6 * elbo.std(ddof=1) / np.sqrt(200)


@engines
def test_rows_in_no_plate_are_refused(engine: Engine) -> None:
    def model(x: Any) -> None:
        z = engine.sample("z", engine.dist.Normal(0.0 * x, 1.0))
        engine.sample("x", engine.dist.Normal(z, 0.5), obs=x)

    def guide(x: Any) -> None:
        engine.sample("z", engine.dist.Normal(0.7 * x, 0.5))

    validated = pyro.validation_enabled(False)
    with validated, pytest.raises(ValueError, match=r"the sites \['x of the model', .*\] of several rows in no plate"):
        losses(engine, ROOM[engine].IWAE(2), model, guide, engine.array(X[:, 0]))
    # of one row nothing has to be said
    assert np.isfinite(losses(engine, ROOM[engine].IWAE(2), model, guide, engine.array(0.3)))


def test_rows_of_a_loop_are_refused() -> None:
    def model(x: Any) -> None:
        for i in pyro.plate("data", len(x)):
            z = pyro.sample(f"z{i}", pyro.distributions.Normal(0.0, 1.0))
            pyro.sample(f"x{i}", pyro.distributions.Normal(z, 0.5), obs=x[i])

    def guide(x: Any) -> None:
        for i in pyro.plate("data", len(x)):
            pyro.sample(f"z{i}", pyro.distributions.Normal(0.7 * x[i], 0.5))

    with pytest.raises(ValueError, match="of several rows in no plate"):
        losses(PYRO, psvi.IWAE(2, vectorize_particles=False), model, guide, PYRO.array(X[:, 0]))


@engines
def test_inner_plates_are_summed_within_a_row(engine: Engine) -> None:
    def model(x: Any) -> None:
        with engine.plate("rows", len(x), dim=-2):
            z = engine.sample("z", engine.dist.Normal(engine.array(np.zeros((len(x), 1))), 1.0))
            with engine.plate("columns", 3, dim=-1):
                engine.sample("x", engine.dist.Normal(z, 0.5), obs=x)

    def guide(x: Any) -> None:
        # the exact posterior: with it the bound is the likelihood
        with engine.plate("rows", len(x), dim=-2):
            engine.sample("z", engine.dist.Normal(x.sum(1)[:, None] * 4 / 13, engine.array(13**-0.5)))

    covariance = np.ones((3, 3)) + 0.25 * np.eye(3)
    rows = X.astype(float)
    quadratic = np.einsum("ni,ij,nj->", rows, np.linalg.inv(covariance), rows)
    exact = 0.5 * (quadratic + 4 * np.linalg.slogdet(2 * np.pi * covariance)[1])
    for objective in (ROOM[engine].IWAE(3), ROOM[engine].DReG(3)):
        assert losses(engine, objective, model, guide, engine.array(X)) == pytest.approx(exact, rel=1e-5)


@engines
def test_different_scales_within_a_row_are_refused(engine: Engine) -> None:
    x = engine.array(ROWS)
    model, guide = linear_pair(engine)
    with pytest.raises(ValueError, match=r"'. of the model' and 'z of the guide' under different scales"):
        losses(engine, ROOM[engine].IWAE(2), model, engine.scale(guide, scale=0.5), x)
    one, other = engine.array([1.0, 2.0, 1.0, 1.0]), engine.array([1.0, 2.0, 1.0, 1.5])
    with pytest.raises(ValueError, match="under different scales"):
        losses(engine, ROOM[engine].IWAE(2), engine.scale(model, scale=one), engine.scale(guide, scale=other), x)
    same = engine.scale(model, scale=one), engine.scale(guide, scale=engine.array([1.0, 2.0, 1.0, 1.0]))
    assert np.isfinite(losses(engine, ROOM[engine].IWAE(2), *same, x))
    both = [engine.scale(fn, scale=one) for fn in (model, guide)]
    with pytest.raises(
        ValueError, match=r"the scale of site .*: got shape \(4,\); expected one number, for one weight"
    ):
        losses(engine, ROOM[engine].IWAE(2, joint=True), *both, x)


def test_traced_scales_must_be_one_object() -> None:
    model, guide = linear_pair(NUMPYRO)

    def loss(first: Any, second: Any) -> Any:
        pair = NUMPYRO.scale(model, scale=first), NUMPYRO.scale(guide, scale=second)
        return nsvi.IWAE(2).loss(jax.random.key(0), {}, *pair, jnp.asarray(ROWS))

    with pytest.raises(ValueError, match="as one object, where scales are arrays in compiled code"):
        jax.jit(loss)(2.0, 2.0)
    assert np.isfinite(jax.jit(lambda scale: loss(scale, scale))(2.0))


@engines
def test_latents_without_a_gradient_are_refused(engine: Engine) -> None:
    def model(x: Any) -> None:
        with engine.plate("data", len(x)):
            k = engine.sample("k", engine.dist.Bernoulli(engine.array(0.5)))
            engine.sample("x", engine.dist.Normal(k * 1.0, 1.0), obs=x)

    def guide(x: Any) -> None:
        with engine.plate("data", len(x)):
            engine.sample("k", engine.dist.Bernoulli(engine.array(0.3)))

    for objective in (ROOM[engine].IWAE(2), ROOM[engine].DReG(2)):
        with pytest.raises(ValueError, match=f"latent site 'k' in the guide: got .*{engine.trace_graph}"):
            losses(engine, objective, model, guide, engine.array(X[:, 0]))


@engines
@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
def test_latents_of_the_model_alone_cancel(engine: Engine) -> None:
    def model(x: Any) -> None:
        with engine.plate("data", len(x)):
            z = engine.sample("z", engine.dist.Normal(0.0 * x, 1.0))
            engine.sample("x", engine.dist.Normal(z, 0.5), obs=x)

    x = X[:, 0]
    exact = 0.5 * (x**2 / 1.25 + np.log(2 * np.pi * 1.25)).sum()
    values = engine.losses(ROOM[engine].IWAE(200), model, lambda x: None, engine.array(x), count=50)
    assert values.mean() == pytest.approx(exact, abs=0.1)


@engines
def test_bad_options_are_refused(engine: Engine) -> None:
    for objective in (ROOM[engine].IWAE, ROOM[engine].DReG):
        with pytest.raises(ValueError, match="num_particles: got 0"):
            objective(0)
    with pytest.raises(TypeError, match=r"num_particles: got 2\.5"):
        bound.check_settings(2.5, False, True)
    with pytest.raises(TypeError, match="joint: got 'rows'; expected True or False"):
        bound.check_settings(2, "rows", True)
    with pytest.raises(TypeError, match="vectorize_particles: got 1"):
        bound.check_settings(2, False, 1)


@engines
def test_settings_decide_equality(engine: Engine) -> None:
    room = ROOM[engine]
    assert room.IWAE(5) == room.IWAE(num_particles=5)
    assert hash(room.DReG(5, joint=True)) == hash(room.DReG(5, joint=True))
    assert room.IWAE(5) != room.DReG(5)
    assert room.IWAE(5) != room.IWAE(6)
    assert room.IWAE(5) != room.IWAE(5, joint=True)
    assert room.IWAE(5) != room.ELBO()
    assert repr(room.DReG(5)) == "DReG(num_particles=5, joint=False, vectorize_particles=True)"


@pytest.mark.parametrize("objective", [nsvi.IWAE, nsvi.DReG], ids=["IWAE", "DReG"])
def test_mutable_sites_need_one_particle(objective: Any) -> None:
    def model(x: Any) -> None:
        numpyro.primitives.mutable("count", {"n": jnp.zeros(())})["n"] += 1
        linear_pair(NUMPYRO)[0](x)

    guide = linear_pair(NUMPYRO)[1]
    svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(0.0), loss=objective(1))
    state = svi.run(jax.random.key(0), 3, jnp.asarray(ROWS), progress_bar=False).state
    assert float(state.mutable_state["count"]["n"]) == 4
    counted = numpyro.infer.SVI(nsvi.count_steps(linear_pair(NUMPYRO)[0]), guide, numpyro.optim.Adam(0.0), objective(2))
    state = counted.run(jax.random.key(0), 3, jnp.asarray(ROWS), progress_bar=False).state
    assert state.mutable_state == {"deepgen$step": 3}
    with pytest.raises(ValueError, match=r"mutable sites \['count'\] with num_particles=2"):
        losses(NUMPYRO, objective(2), model, guide, jnp.asarray(ROWS))


def test_pyro_models_that_do_not_broadcast_are_told_so() -> None:
    def model(x: Any) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", pyro.distributions.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", pyro.distributions.Normal(z.reshape(len(x), 2).sum(1), 0.5), obs=x)

    def guide(x: Any) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", pyro.distributions.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))

    x = PYRO.array(X[:, 0])
    with pytest.raises(RuntimeError, match="invalid for input") as caught:
        psvi.IWAE(3).loss(model, guide, x)
    assert "the plate of 3 particles (dim -2)" in caught.value.__notes__[0]
    assert "pass vectorize_particles=False" in caught.value.__notes__[0]
    assert np.isfinite(psvi.IWAE(3, vectorize_particles=False).loss(model, guide, x))


def test_pyro_objective_finds_the_plates_of_each_model_and_leaves_the_seed_alone() -> None:
    flat = linear_pair(PYRO)

    def nested(fn: Any) -> Any:
        def inside(x: Any) -> None:
            with pyro.plate("copies", 2, dim=-2):
                fn(x)

        return inside

    objective = psvi.IWAE(3)
    first = losses(PYRO, objective, *flat, PYRO.array(ROWS))
    assert np.isfinite(losses(PYRO, objective, *map(nested, flat), PYRO.array(ROWS)))
    assert losses(PYRO, objective, *flat, PYRO.array(ROWS)) == first == losses(PYRO, objective, *flat, PYRO.array(ROWS))


def test_messengers_as_guides() -> None:
    def model(x: Any) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", pyro.distributions.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", pyro.distributions.Normal(z, 0.5), obs=x)

    with pyro.get_param_store().scope():
        guide = autoguide.AutoNormalMessenger(model)
        objective = psvi.IWAE(3, vectorize_particles=False)
        assert np.isfinite(objective.loss_and_grads(model, guide, PYRO.array(X[:, 0])))
        with pytest.raises(ValueError, match="the guide of DReG: got AutoNormalMessenger, which runs the model itself"):
            psvi.DReG(3).loss_and_grads(model, guide, PYRO.array(X[:, 0]))


@engines
def test_automatic_guides(engine: Engine) -> None:
    def model(x: Any) -> None:
        with engine.plate("data", len(x)):
            z = engine.sample("z", engine.dist.LogNormal(engine.array(np.zeros(len(x))), 1.0))
            engine.sample("x", engine.dist.Normal(z, 0.5), obs=x)

    x = engine.array(np.array([0.5, 1.0, 2.0]))
    if engine is NUMPYRO:
        guide = numpyro.infer.autoguide.AutoNormal(model)
        handled = numpyro.handlers.seed(guide, 0)
        handled(x)
        params = {"z_auto_loc": jnp.zeros(3), "z_auto_scale": jnp.full(3, 0.5)}
        found = [evaluate(engine, objective(4), model, guide, x, params=params) for objective in (nsvi.IWAE, nsvi.DReG)]
    else:
        with pyro.get_param_store().scope():
            guide = autoguide.AutoNormal(model)
            found = []
            for objective in (psvi.IWAE(4), psvi.DReG(4)):
                pyro.set_rng_seed(0)
                for param in guide.parameters():
                    param.grad = None
                value = objective.loss_and_grads(model, guide, x)
                found.append((value, {name: param.grad.numpy().copy() for name, param in guide.named_parameters()}))
    (loss, gradient), (other_loss, other_gradient) = found
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert all(np.abs(value).max() > 0 and np.abs(other_gradient[name]).max() > 0 for name, value in gradient.items())
