"""Automatic guides by flows: posteriors with a closed form, evidence by importance weights, refusals."""

from collections.abc import Callable
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer
import numpyro.optim
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import limit
from scipy import optimize, stats
from siting import language, numbers, train

from deepgen.models.flow import guide as arguments
from deepgen.nn.equinox import load_state_dict

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
COVARIANCE = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.3], [0.0, 0.3, 2.0]])
NARROW = 0.3


def normal(engine: Any) -> Callable[[], None]:
    """A correlated normal."""
    lang = language(engine)
    mean, covariance = (engine.array(np.float32(part)) for part in ([1.0, -2.0, 0.5], COVARIANCE))

    def model() -> None:
        lang.sample("theta", lang.distributions.MultivariateNormal(mean, covariance_matrix=covariance))

    return model


def banana(engine: Any) -> Callable[[], None]:
    """a ~ N(0, 1), b ~ N(a^2, 0.3^2)."""
    lang = language(engine)
    zero = engine.array(np.float32(0))

    def model() -> None:
        a = lang.sample("a", lang.distributions.Normal(zero, 1.0))
        lang.sample("b", lang.distributions.Normal(a**2, NARROW))

    return model


def normal_guide_on_the_banana() -> float:
    """The smallest KL that a normal guide, correlated or not, can have: that of a ~ N(0, s^2), b ~ N(s^2, 0.3^2).

    E_q (b - a^2)^2 = var_q(b) + 2 s^4 for the best mean of b, and any slope of b on a only adds to it.
    """
    found = optimize.minimize_scalar(
        lambda s: 0.5 * s**2 + s**4 / NARROW**2 - 0.5 - np.log(s), bounds=(0.05, 1.0), method="bounded"
    )
    return float(found.fun)


def mean_field_on_the_normal() -> float:
    """The smallest KL of independent normals: (sum of log P_ii + log det C) / 2, P the precision."""
    precision = np.linalg.inv(COVARIANCE)
    return float(0.5 * (np.log(np.diag(precision)).sum() + np.linalg.slogdet(COVARIANCE)[1]))


@cache
def trained(engine: Any, name: str) -> tuple[Callable[[], None], Any, Any]:
    """A model without data, its guide, and the guide's trained parameters."""
    made: dict[str, Any] = {
        "affine": (normal, [engine.face.LULinear(3)], 1000),
        "iaf": (banana, "iaf", 1000),
        "realnvp": (banana, "realnvp", 1000),
    }
    target, flow, steps = made[name]
    model = target(engine)
    options = None if isinstance(flow, list) else {"num_transforms": 2, "hidden": (16,)}
    guide = engine.call(engine.face.AutoFlow, model, flow, init_scale=1.0, options=options)
    _, params = train(engine, model, guide, steps=steps, learning_rate=2e-2, num_particles=16)
    return model, guide, params


def divergence(engine: Any, name: str) -> tuple[float, float]:
    """KL from a trained guide to its model, and its standard error."""
    values = losses(engine, *trained(engine, name), 40, 100)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def losses(engine: Any, model: Any, guide: Any, params: Any, repeats: int, num_particles: int) -> np.ndarray:
    """Negative bounds, each of as many draws."""
    if engine is NUMPYRO:
        loss = jax.jit(lambda key: numpyro.infer.Trace_ELBO(num_particles).loss(key, params, model, guide))
        return np.array([loss(key) for key in jax.random.split(jax.random.key(1), repeats)])
    pyro.set_rng_seed(1)
    elbo = pyro.infer.Trace_ELBO(num_particles=num_particles, vectorize_particles=True, max_plate_nesting=0)
    with torch.no_grad():
        return np.array([elbo.loss(model, guide) for _ in range(repeats)])


@BOTH
def test_an_affine_flow_is_the_correlated_normal(engine: Any) -> None:
    found, error = divergence(engine, "affine")
    assert abs(found) < 5e-3 + limit(1) * error
    assert mean_field_on_the_normal() > 0.5


@BOTH
@pytest.mark.parametrize("name", ["iaf", "realnvp"])
def test_a_flow_bends_round_the_banana_where_no_normal_can(engine: Any, name: str) -> None:
    found, error = divergence(engine, name)
    assert normal_guide_on_the_banana() > 0.7
    assert -limit(1) * error < found < 0.25


def after_noisy_runs(flow: str, **options: Any) -> np.ndarray:
    """KL to the banana of 30 guides, each with a start and weights of its own and trained by one draw a step."""
    options = {"num_transforms": 2, "hidden": (16,), **options}
    model, elbo = banana(NUMPYRO), numpyro.infer.Trace_ELBO()
    guide = NUMPYRO.call(NUMPYRO.face.AutoFlow, model, flow, options=options)
    with numpyro.handlers.seed(rng_seed=0):
        guide()
    _, rest = eqx.partition(guide.flow, eqx.is_inexact_array)
    optimizer = numpyro.optim.ClippedAdam(lambda step: 2e-2 * 0.05 ** (step / 600), clip_norm=10.0)

    def loss(params: Any, key: jax.Array) -> jax.Array:
        return elbo.loss(key, {"auto_flow$params": eqx.combine(params, rest)}, model, guide)

    def run(key: jax.Array) -> jax.Array:
        weights, place, noise, last = jax.random.split(key, 4)
        made = getattr(NUMPYRO.face.Flow, flow)((2,), **{**arguments.SMALL, **options}, key=weights)
        fresh = eqx.tree_at(lambda flow: flow.transforms[:-1], guide.flow, made.transforms)
        fresh = eqx.tree_at(
            lambda flow: flow.transforms[-1].shift, fresh, jax.random.uniform(place, (2,), minval=-2, maxval=2)
        )

        def step(state: Any, key: jax.Array) -> Any:
            gradient = jax.grad(loss)(optimizer.get_params(state), key)
            return optimizer.update(gradient, state), None

        start = optimizer.init(eqx.filter(fresh, eqx.is_inexact_array))
        state, _ = jax.lax.scan(step, start, jax.random.split(noise, 600))
        return jax.vmap(lambda key: loss(optimizer.get_params(state), key))(jax.random.split(last, 4000)).mean()

    return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(7), 30)))


@pytest.mark.parametrize("flow", ["realnvp", "iaf"])
def test_no_run_of_thirty_is_carried_off_by_its_noise(flow: str) -> None:
    """Those whose log-scales are as wide as those of a flow that is fitted to data are, some of them."""
    assert after_noisy_runs(flow).max() < 4
    assert after_noisy_runs(flow, max_log_scale=5.0).max() > 8


def conjugate(engine: Any) -> tuple[Callable[[], None], float]:
    """A normal and a probability, each seen once through its conjugate law, and the log evidence."""
    lang, law = language(engine), language(engine).distributions
    one, seen, count = (engine.array(np.float32(value)) for value in (1.0, 0.7, 3.0))

    def model() -> None:
        a = lang.sample("a", law.Normal(0 * one, one))
        p = lang.sample("p", law.Beta(2 * one, 3 * one))
        lang.sample("y", law.Normal(a, 0.5 * one), obs=seen)
        lang.sample("k", law.Binomial(total_count=5, probs=p), obs=count)

    return model, float(stats.norm(0, np.sqrt(1.25)).logpdf(0.7) + stats.betabinom(5, 2, 3).logpmf(3))


def log_evidences(engine: Any, flow: Any) -> np.ndarray:
    """Importance estimates of the log evidence under a guide at random parameters."""
    model, _ = conjugate(engine)
    named = isinstance(flow, str)
    options = {"options": {"num_transforms": 2, "hidden": (6,)}} if named else {}
    guide = engine.call(engine.face.AutoFlow, model, flow, init_scale=0.8, **options)
    objective = engine.face.IWAE(num_particles=4000, joint=True, vectorize_particles=True)
    rng = np.random.default_rng(2)
    if engine is NUMPYRO:
        svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(1e-3), numpyro.infer.Trace_ELBO())
        start = svi.get_params(svi.init(jax.random.key(0)))
        params = jax.tree.map(lambda leaf: leaf + 0.15 * rng.standard_normal(leaf.shape).astype(np.float32), start)
        value = jax.jit(lambda key: -objective.loss(key, params, model, guide))
        return np.array([value(key) for key in jax.random.split(jax.random.key(4), 12)])
    guide()
    with torch.no_grad(), pyro.get_param_store().scope():
        for parameter in guide.flow.parameters():
            parameter += torch.as_tensor(0.15 * rng.standard_normal(tuple(parameter.shape)).astype(np.float32))
        pyro.set_rng_seed(4)
        return np.array([-objective.loss(model, guide) for _ in range(12)])


def faulty(engine: Any) -> Any:
    """A scale whose log-Jacobian is left out."""

    class Faulty(engine.face.ActNorm):  # type: ignore[misc, name-defined]
        def _carry(self, x: Any, context: Any, inverse: bool) -> Any:
            value, log_det = super()._carry(3 * x if not inverse else x, context, inverse)
            return value if not inverse else value / 3, log_det

    return Faulty(2)


@BOTH
@pytest.mark.parametrize("flow", ["nsf", "maf", "iaf"])
def test_importance_weights_give_the_evidence(engine: Any, flow: str) -> None:
    """Whatever the guide's parameters, if every log-Jacobian is right, those of the supports too."""
    truth = conjugate(engine)[1]
    found, wrong = log_evidences(engine, flow), log_evidences(engine, [faulty(engine)])
    scores = [abs(v.mean() - truth) / (v.std(ddof=1) / np.sqrt(len(v))) / limit(1, len(v) - 1) for v in (found, wrong)]
    assert scores[0] < 1 < scores[1]


def test_engines_agree_at_the_same_parameters() -> None:
    guides = [e.call(e.face.AutoFlow, conjugate(e)[0], "nsf", options={"num_transforms": 2}) for e in ENGINES]
    first, second = guides
    with numpyro.handlers.seed(rng_seed=0):
        first()
    with pyro.get_param_store().scope():
        second()
    rng = np.random.default_rng(0)
    moved = {
        name: value + 0.3 * rng.standard_normal(value.shape).astype(np.float32)
        for name, value in PYRO.tensors(second.flow).items()
    }
    PYRO.with_tensors(second.flow, moved)
    trained = load_state_dict(first.flow, moved)
    z = rng.standard_normal((20, 2)).astype(np.float32)
    transform = first.get_transform({"auto_flow$params": trained})
    given = jnp.asarray(z)
    u = transform(given)
    with torch.no_grad():
        other, z = second.get_transform(), torch.as_tensor(z)
        v = other(z)
        own, there = (numbers(t.log_abs_det_jacobian(a, b)) for t, a, b in ((transform, given, u), (other, z, v)))
        np.testing.assert_allclose(numbers(other.inv(v)), numbers(z), atol=1e-4)
        again = numbers(other.log_abs_det_jacobian(z, v.clone()))
    np.testing.assert_allclose(numbers(u), numbers(v), atol=1e-4)
    np.testing.assert_allclose(own, there, atol=1e-4)
    np.testing.assert_allclose(again, there, atol=1e-5)


def test_a_pyro_guide_has_the_density_of_its_latest_draw_and_of_any_other() -> None:
    second = PYRO.call(PYRO.face.AutoFlow, conjugate(PYRO)[0], "iaf", options={"num_transforms": 2})
    with pyro.get_param_store().scope():
        second()
        with torch.no_grad():
            for parameter in second.flow.parameters():
                parameter += 0.2
        law = second.get_posterior()
    draw = law.rsample((5,))
    np.testing.assert_allclose(numbers(law.log_prob(draw)), numbers(law.log_prob(draw.clone())), atol=1e-4)
    with torch.no_grad():
        draw += 0.1
    np.testing.assert_allclose(numbers(law.log_prob(draw)), numbers(law.log_prob(draw.clone())), atol=1e-6)
    held = law.rsample().detach().requires_grad_()
    assert torch.autograd.grad(law.log_prob(held), held)[0].abs().max() > 1e-3


@BOTH
def test_what_a_guide_refuses(engine: Any) -> None:
    model, face = normal(engine), engine.face

    def run(target: Any, *args: Any, **kwargs: Any) -> None:
        guide = engine.call(face.AutoFlow, target, *args, **kwargs)
        if engine is NUMPYRO:
            with numpyro.handlers.seed(rng_seed=0):
                guide()
        else:
            guide()

    with pytest.raises(ValueError, match=r"flow: got 'glow'; expected one of"):
        run(model, "glow")
    with pytest.raises(ValueError, match=r"flow: got LULinear; expected a list of transforms"):
        run(model, face.LULinear(3))
    with pytest.raises(ValueError, match=r"options: got \{'hidden': \(3,\)\}; expected None beside a list"):
        run(model, [face.LULinear(3)], options={"hidden": (3,)})
    with pytest.raises(ValueError, match=r"max_log_scale: got 0; expected a finite number > 0"):
        run(model, options={"max_log_scale": 0})
    with pytest.raises(ValueError, match=r"init_scale: got 0; expected a finite number > 0"):
        run(model, init_scale=0)
    with pytest.raises(ValueError, match=r"flow: got transforms from 3 latents to \(3,\) with context_dim=2"):
        run(model, [face.LULinear(3, context_dim=2)])
    with pytest.raises(ValueError, match=r"flow: got transforms from 3 latents to \(1, 3\) with context_dim=0"):
        run(model, [face.Unflatten((1, 3))])
    with pytest.raises(ValueError, match=r"flow: got 'nsf' for one latent; expected transforms that do not split"):
        arguments.check_size("nsf", 1, (1,), 0)
    with pytest.raises(TypeError, match="num_bin"):
        run(model, "nsf", options={"num_bin": 3})
