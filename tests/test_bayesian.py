"""Programs with latent weights: their density by hand, NUTS against Bayesian regression, and posteriors that move."""

from functools import cache
from typing import Any

import arviz as az
import jax
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from numpyro import handlers
from pyro import poutine
from scipy import stats

from deepgen.inference.bayesian import weights as rules
from deepgen.inference.svi import numpyro as nsvi
from deepgen.inference.svi import pyro as psvi

engines = pytest.mark.parametrize("engine", ENGINES, ids=repr)
ROOM: dict[Any, Any] = {NUMPYRO: nsvi, PYRO: psvi}
LIBRARY: dict[Any, Any] = {NUMPYRO: numpyro, PYRO: pyro}
WEIGHT, BIAS = "decoder.layers.0.weight", "decoder.layers.0.bias"
RNG = np.random.default_rng(2)
Z = RNG.standard_normal((15, 2)).astype(np.float32)
X = (Z @ [[1.0, -0.6], [0.5, 0.8]] + [0.4, -1.0] + RNG.standard_normal((15, 2))).astype(np.float32)
VALUES = {
    WEIGHT: RNG.standard_normal((2, 2)).astype(np.float32),
    BIAS: RNG.standard_normal(2).astype(np.float32),
    "z": Z,
}


@cache
def linear(engine: Any) -> Any:
    """A linear decoder of two latents whose noise is a standard normal."""
    return engine.call(engine.face.VAE.mlp, (2,), 2, "gaussian", hidden=(), seed=1)


def sites(engine: Any, function: Any, *args: Any, given: Any = (), **kwargs: Any) -> dict[str, Any]:
    """The sample sites of a run with some values given: of each its value and its log density."""
    values = {name: engine.array(value) for name, value in dict(given).items()}
    if engine is NUMPYRO:

        def run(rows: Any) -> dict[str, Any]:
            fixed = handlers.substitute(handlers.seed(function, 0), data=values)
            trace = handlers.trace(fixed).get_trace(*rows, **kwargs)
            return {name: _measured(site) for name, site in trace.items() if site["type"] == "sample"}

        return {name: (np.asarray(value), float(density)) for name, (value, density) in jax.jit(run)(args).items()}
    pyro.set_rng_seed(0)
    with pyro.get_param_store().scope(), torch.no_grad():
        trace = poutine.trace(poutine.condition(function, data=values)).get_trace(*args, **kwargs)
        found = {name: _measured(site) for name, site in trace.nodes.items() if site["type"] == "sample"}
    # what the engine adds: the plate's indices, and an automatic guide's own draws
    own = {name for name in found if name != "data" and not name.endswith("_unconstrained")}
    return {name: (found[name][0].detach().numpy(), float(found[name][1].detach())) for name in own}


def _measured(site: Any) -> tuple[Any, Any]:
    return site["value"], site["fn"].log_prob(site["value"]).sum() * (1.0 if site["scale"] is None else site["scale"])


@engines
def test_density_is_that_of_weights_and_rows(engine: Any) -> None:
    wide = LIBRARY[engine].distributions.Normal(engine.array(np.float32(0.5)), 3.0)
    of_rows = {
        "z": stats.norm.logpdf(Z).sum(),
        "x": stats.norm.logpdf(X, Z @ VALUES[WEIGHT].T + VALUES[BIAS]).sum(),
    }
    of_weights = {
        None: {WEIGHT: stats.norm(0, 0.5**0.5), BIAS: stats.norm()},
        "wide": {WEIGHT: stats.norm(0.5, 3), BIAS: stats.norm(0.5, 3)},
    }
    for name, laws in of_weights.items():
        prior = None if name is None else lambda site, shape: wide if site == WEIGHT else wide.expand(shape)
        for num_rows, scale in ((None, 1.0), (60, 4.0)):
            model, _ = engine.face.bayesian(linear(engine), prior=prior, num_rows=num_rows)
            found = sites(engine, model, engine.array(X), given=VALUES)
            assert found.keys() == {WEIGHT, BIAS, "z", "x"}
            expected = {site: law.logpdf(VALUES[site]).sum() for site, law in laws.items()}
            expected |= {site: scale * value for site, value in of_rows.items()}
            for site, value in expected.items():
                assert found[site][1] == pytest.approx(value, rel=1e-5), site
    holes = np.where(np.arange(X.size).reshape(X.shape) % 3 > 0, X, np.nan).astype(np.float32)
    model, _ = engine.face.bayesian(linear(engine), missing=True)
    seen = np.nansum(stats.norm.logpdf(holes, Z @ VALUES[WEIGHT].T + VALUES[BIAS]))
    assert sites(engine, model, engine.array(holes), given=VALUES)["x"][1] == pytest.approx(seen, rel=1e-5)


@engines
def test_rows_are_drawn_with_the_drawn_weights(engine: Any) -> None:
    model, guide = engine.face.bayesian(linear(engine))
    tensors = engine.tensors(linear(engine))
    drawn = sites(engine, model, size=4000, given={WEIGHT: VALUES[WEIGHT], BIAS: VALUES[BIAS]})
    error = drawn["x"][0] - drawn["z"][0] @ VALUES[WEIGHT].T - VALUES[BIAS]
    assert abs(error.mean(0)).max() < 5 / np.sqrt(4000)
    assert abs(error.var(0) - 1).max() < 5 * np.sqrt(2 / 4000)
    assert drawn["x"][0].shape == (4000, 2)
    assert sites(engine, guide, engine.array(X)).keys() == {WEIGHT, BIAS, "z"}
    # the program is as it was
    for name, value in engine.tensors(linear(engine)).items():
        np.testing.assert_array_equal(value, tensors[name])


def regression(rows: int = len(X)) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of (weights, bias) of each output, the noise a standard normal: Bayesian linear regression."""
    features = np.c_[Z, np.ones(len(Z))].astype(float)[:rows]
    covariance = np.linalg.inv(features.T @ features + np.diag([2.0, 2.0, 1.0]))
    return X[:rows].T @ features @ covariance, np.tile(np.diag(covariance), (2, 1))


@engines
def test_nuts_is_bayesian_regression_where_the_latents_are_known(engine: Any) -> None:
    model, _ = engine.face.bayesian(linear(engine))
    z, x = {"z": engine.array(Z)}, engine.array(X)
    if engine is NUMPYRO:
        kernel = numpyro.infer.NUTS(handlers.condition(model, data=z))
        mcmc = numpyro.infer.MCMC(kernel, num_warmup=300, num_samples=1000, progress_bar=False)
        mcmc.run(jax.random.key(0), x)
    else:
        pyro.set_rng_seed(0)
        kernel = pyro.infer.NUTS(poutine.condition(model, data=z), max_tree_depth=4)
        mcmc = pyro.infer.MCMC(kernel, num_samples=150, warmup_steps=60, disable_progbar=True)
        with pyro.get_param_store().scope(), pyro.validation_enabled(False):
            mcmc.run(x)
    draws = {name: np.asarray(value) for name, value in mcmc.get_samples().items() if name in VALUES}
    assert draws.keys() == {WEIGHT, BIAS}
    both = np.concatenate([draws[WEIGHT], draws[BIAS][..., None]], -1)
    ess = np.array([[az.ess(both[:, i, j]) for j in range(3)] for i in range(2)])
    # of squared deviations the chain's size is smaller
    ess_of_squares = np.array([[az.ess((both[:, i, j] - both[:, i, j].mean()) ** 2) for j in range(3)] for i in (0, 1)])
    assert min(ess.min(), ess_of_squares.min()) > 30

    def near(mean: np.ndarray, variance: np.ndarray) -> bool:
        # five standard errors: by chance once in a million
        right = abs(both.mean(0) - mean) < 5 * np.sqrt(variance / ess)
        return bool((right & (abs(both.var(0) / variance - 1) < 5 * np.sqrt(2 / ess_of_squares))).all())

    assert near(*regression())
    assert not near(*regression(rows=0))
    assert not near(*regression(rows=8))


def divergences(engine: Any, *, ignoring: bool) -> tuple[np.ndarray, dict[str, float]]:
    """The losses of a fit, and KL(posterior || prior) of each weight tensor in nats."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((40, 1)) * [1.0, -1.0, 0.5] + 0.2 * rng.standard_normal((40, 3))).astype(np.float32)
    vae = engine.call(engine.face.VAE.mlp, (3,), 1, "gaussian", hidden=(3,), seed=0)
    model, guide = engine.face.bayesian(vae)

    def blind(x: Any) -> Any:
        return model(size=len(x))

    objective = ROOM[engine].ELBO()
    pair = (blind if ignoring else model, guide)
    options = {"objective": objective, "steps": 300, "learning_rate": 0.04, "ema": 0.98, "progress": False}
    found = engine.call("fit", pair, engine.array(x), **options)
    values = {
        name: np.asarray(value.detach() if engine is PYRO else value)
        for name, value in found.params.items()
        if "decoder" in name
    }
    kl = {}
    for name in (name for name in engine.tensors(vae) if name.startswith("decoder")):
        labels = ("AutoNormal.locs.{}", "AutoNormal.scales.{}") if engine is PYRO else ("{}_auto_loc", "{}_auto_scale")
        loc, scale = (values[label.format(name)].astype(float) for label in labels)
        prior = 1.0 if loc.ndim == 1 else loc.shape[1] ** -0.5
        kl[name] = float((np.log(prior / scale) + (scale**2 + loc**2) / (2 * prior**2) - 0.5).sum())
    assert len(kl) == 4
    return found.losses, kl


@engines
@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
def test_every_weight_s_posterior_moves_from_its_prior(engine: Any) -> None:
    losses, learnt = divergences(engine, ignoring=False)
    assert losses[-50:].mean() < losses[:5].mean() - 20
    _, blind = divergences(engine, ignoring=True)
    # a posterior that sees no data is the prior, up to the noise of the last steps
    assert max(blind.values()) < 0.3 < min(learnt.values()), (blind, learnt)


@engines
def test_guides_of_the_engine_and_objectives_of_several_draws(engine: Any) -> None:
    infer, x = LIBRARY[engine].infer, engine.array(X)
    model, guide = engine.face.bayesian(linear(engine), autoguide=infer.autoguide.AutoDelta)
    # a point estimate, which starts at the program's own weights
    drawn = sites(engine, guide, x)
    assert drawn.keys() == {WEIGHT, BIAS, "z"}
    np.testing.assert_allclose(drawn[WEIGHT][0], engine.tensors(linear(engine))[WEIGHT], rtol=1e-6)

    def evaluate(objective: Any) -> float:
        """One evaluation by the engine's own SVI."""
        if engine is NUMPYRO:
            svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(0.01), objective)
            return float(jax.jit(lambda: svi.evaluate(svi.init(jax.random.key(0), x), x))())
        with pyro.get_param_store().scope():
            return infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), objective).evaluate_loss(x)

    iwae = ROOM[engine].IWAE
    with pytest.raises(ValueError, match="joint=True"):
        evaluate(iwae(1))
    assert np.isfinite(evaluate(iwae(2, joint=True, vectorize_particles=engine is NUMPYRO)))


@engines
def test_missing_entries_are_proposed_with_the_guide_s_weights(engine: Any) -> None:
    face = engine.face
    x = np.where(np.arange(X.size).reshape(X.shape) % 3 > 0, X, np.nan).astype(np.float32)
    many = np.tile(x, (200, 1))
    model, guide = face.bayesian(face.MNAR(linear(engine), face.SelfMasking((2,), "high")))
    big = {WEIGHT: 5 * VALUES[WEIGHT], BIAS: VALUES[BIAS] + 40}
    drawn = sites(engine, guide, engine.array(many), given=big)
    assert drawn.keys() == {WEIGHT, BIAS, "z", "x_missing"}
    error = (drawn["x_missing"][0] - drawn["z"][0] @ big[WEIGHT].T - big[BIAS])[np.isnan(many)]
    assert abs(error.mean()) < 5 / np.sqrt(error.size)
    assert sites(engine, model, engine.array(x)).keys() == {WEIGHT, BIAS, "z", "x", "x_missing", "s"}


@engines
def test_what_cannot_be_meant_is_refused(engine: Any) -> None:
    bayesian, program = engine.face.bayesian, linear(engine)
    normal = LIBRARY[engine].distributions.Normal(engine.array(np.zeros(3, np.float32)), 1.0)
    with pytest.raises(ValueError, match=r"networks: got 'decoder'; expected names of the program's fields"):
        bayesian(program, networks="decoder")
    with pytest.raises(ValueError, match=r"networks: got \['flow'\]; expected fields of the program, a VAE"):
        bayesian(program, networks=("decoder", "flow"))
    with pytest.raises(ValueError, match=r"prior of 'decoder.layers.0.weight': got a law of shape \(3,\)"):
        bayesian(program, prior=lambda site, shape: normal)
    with pytest.raises(ValueError, match="num_rows: got 0"):
        bayesian(program, num_rows=0)
    with pytest.raises(ValueError, match="networks: got 'decoder', which has no weights"):
        rules.check_weights("decoder", {})


def test_prior_scales() -> None:
    assert rules.prior_scale((3,)) == rules.prior_scale(()) == 1
    assert rules.prior_scale((4, 9)) == pytest.approx(1 / 3)
    assert rules.prior_scale((8, 4, 3, 3)) == pytest.approx(1 / 6)
