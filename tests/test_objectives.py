"""The ELBO against closed forms and against the engines' own; beta, free bits, schedules; what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import objectives
import pyro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpyro import handlers
from objectives import NUMPYRO, PYRO, SD, Engine, X, exact_terms

from deepgen.inference.svi import kl, schedules
from deepgen.inference.svi import numpyro as nsvi
from deepgen.inference.svi import pyro as psvi

ENGINES = [NUMPYRO, PYRO]
engines = pytest.mark.parametrize("engine", ENGINES, ids=repr)
NOT_SEEN = 5.0
"""Standard errors: a mean is further off by chance once in 1.7 million tests."""


def agrees(values: np.ndarray, truth: float) -> bool:
    """Whether the mean of independent draws may be the truth; float32 sums of this size are good to 1e-4."""
    return bool(abs(values.mean() - truth) < NOT_SEEN * values.std() / np.sqrt(len(values)) + 1e-4)


def draws(engine: Engine) -> int:
    return 4000 if engine is NUMPYRO else 400


@engines
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_expectation_is_the_closed_form(engine: Engine, beta: float) -> None:
    reconstruction, divergence = exact_terms()
    model, guide = engine.pair()
    losses = engine.losses(engine.ELBO(beta=beta), model, guide, engine.array(X), count=draws(engine))
    assert agrees(losses, reconstruction + beta * divergence)


def planted(engine: Engine, fault: str) -> Any:
    """The objective with a known fault."""

    class Faulty(engine.ELBO):  # type: ignore[name-defined, misc]
        def _terms(self, model_trace: Any, guide_trace: Any) -> Any:
            terms = super()._terms(model_trace, guide_trace)
            if fault == "beta on the reconstruction":
                return terms._replace(reconstruction=terms.kl["z"], kl={"z": terms.reconstruction})
            return terms._replace(kl={"z": -terms.kl["z"]})

    return Faulty(beta=0.5)


@engines
@pytest.mark.parametrize("fault", ["beta on the reconstruction", "sign of the KL"])
def test_planted_fault_is_seen(engine: Engine, fault: str) -> None:
    reconstruction, divergence = exact_terms()
    losses = engine.losses(planted(engine, fault), *engine.pair(), engine.array(X), count=draws(engine))
    assert not agrees(losses, reconstruction + 0.5 * divergence)


@engines
def test_beta_weighs_the_exact_kl_alone(engine: Engine) -> None:
    model, guide = engine.pair()
    at = {b: engine.losses(engine.ELBO(beta=b), model, guide, engine.array(X))[0] for b in (0.0, 1.0, 3.0)}
    assert at[1.0] - at[0.0] == pytest.approx(exact_terms()[1], rel=1e-5)
    assert at[3.0] - at[0.0] == pytest.approx(3 * exact_terms()[1], rel=1e-5)


@engines
def test_free_bits_are_a_floor_of_the_average_kl(engine: Engine) -> None:
    model, guide = engine.pair()
    divergence, rows = exact_terms()[1], len(X)

    def kl_part(**options: Any) -> float:
        objective, without = engine.ELBO(beta=2.0, **options), engine.ELBO(beta=0.0)
        at, base = (engine.losses(o, model, guide, engine.array(X))[0] for o in (objective, without))
        return float(at - base) / 2

    below, above = 0.9 * divergence / rows, 1.7 * divergence / rows
    assert kl_part(free_bits=below) == pytest.approx(divergence, rel=1e-5)
    assert kl_part(free_bits=above) == pytest.approx(rows * above, rel=1e-5)
    assert kl_part(free_bits={"z": above}) == pytest.approx(rows * above, rel=1e-5)
    assert kl_part(free_bits={}) == pytest.approx(divergence, rel=1e-5)
    kl_gradient = engine.gradient(engine.ELBO(beta=1.0, free_bits=above), model, guide, engine.array(X))["a"]
    reconstruction_gradient = engine.gradient(engine.ELBO(beta=0.0), model, guide, engine.array(X))["a"]
    np.testing.assert_allclose(kl_gradient, reconstruction_gradient, rtol=1e-5)


@engines
def test_is_trace_elbo_draw_by_draw_without_a_closed_form(engine: Engine) -> None:
    model, guide = engine.pair("StudentT")
    ours, theirs = (
        engine.losses(o, model, guide, engine.array(X), count=3) for o in (engine.ELBO(), engine.trace_elbo())
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    ours, theirs = (
        engine.gradient(o, model, guide, engine.array(X))["a"] for o in (engine.ELBO(), engine.trace_elbo())
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@engines
def test_is_trace_elbo_in_expectation_with_less_variance(engine: Engine) -> None:
    model, guide = engine.pair()
    ours, theirs = (
        engine.losses(o, model, guide, engine.array(X), count=draws(engine))
        for o in (engine.ELBO(), engine.trace_elbo())
    )
    assert agrees(ours - theirs, 0.0)
    assert np.std(ours - theirs) > 0.1


@engines
def test_particles_average(engine: Engine) -> None:
    model, guide = engine.pair()
    one, many = (
        engine.losses(engine.ELBO(num_particles=k, free_bits=0.01), model, guide, engine.array(X), count=200)
        for k in (1, 16)
    )
    # The variance of 200 draws is good to 10 %: a factor of 16 cannot be taken for less than 8.
    assert one.var() / many.var() > 8
    assert agrees(many, sum(exact_terms()))


def chain(engine: Engine, guide_order: str) -> tuple[Any, Any]:
    """Two levels, z2 -> z1 -> x; the guide draws them in the model's order, or in the other one."""

    def model(x: Any) -> None:
        with engine.plate("data", len(x)):
            z2 = engine.sample("z2", engine.dist.Normal(0.0 * x, 1.0))
            z1 = engine.sample("z1", engine.dist.Normal(0.8 * z2, 0.7))
            engine.sample("x", engine.dist.Normal(z1, 0.5), obs=x)

    def guide(x: Any) -> None:
        with engine.plate("data", len(x)):
            if guide_order == "as the model":
                z2 = engine.sample("z2", engine.dist.Normal(0.5 * x, 0.6))
                engine.sample("z1", engine.dist.Normal(0.3 * z2 + 0.4 * x, 0.4))
            else:
                z1 = engine.sample("z1", engine.dist.Normal(0.7 * x, 0.5))
                engine.sample("z2", engine.dist.Normal(0.6 * z1, 0.6))

    return model, guide


@engines
@pytest.mark.parametrize("guide_order", ["as the model", "reversed"])
def test_two_levels_agree_with_trace_elbo(engine: Engine, guide_order: str) -> None:
    model, guide = chain(engine, guide_order)
    x = engine.array(X[:, 0] * 3)
    ours, theirs = (
        engine.losses(o, model, guide, x, count=draws(engine)) for o in (engine.ELBO(), engine.trace_elbo())
    )
    assert agrees(ours - theirs, 0.0)


@engines
def test_closed_form_against_the_order_would_be_seen(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kl, "closed_form_sites", lambda model_order, guide_order: set(model_order))
    model, guide = chain(engine, "reversed")
    x = engine.array(X[:, 0] * 3)
    ours, theirs = (
        engine.losses(o, model, guide, x, count=draws(engine)) for o in (engine.ELBO(), engine.trace_elbo())
    )
    assert not agrees(ours - theirs, 0.0)


@given(st.permutations(["a", "b", "c", "d"]))
def test_closed_form_needs_every_earlier_latent_of_the_model(order: list[str]) -> None:
    model = ["a", "b", "c", "d"]
    for name in model:
        earlier = {other for other in model[: model.index(name)]}
        assert (name in kl.closed_form_sites(model, order)) == all(order.index(o) < order.index(name) for o in earlier)


@engines
def test_subsampling_scales_both_terms(engine: Engine) -> None:
    model, guide = engine.pair()
    scaled = (engine.scale(model, scale=2.5), engine.scale(guide, scale=2.5))
    x = engine.array(X)
    for objective in (engine.ELBO(beta=0.7), engine.ELBO(beta=0.7, free_bits=2.0)):
        plain, large = (engine.losses(objective, *pair, x)[0] for pair in ((model, guide), scaled))
        assert large == pytest.approx(2.5 * plain, rel=1e-5)


@engines
def test_masked_rows_count_for_nothing(engine: Engine) -> None:
    model, guide = engine.pair()
    keep = engine.array([1, 0, 1, 1]) > 0

    def pair(in_model: bool, in_guide: bool) -> tuple[Any, Any]:
        return (
            engine.mask(model, mask=keep) if in_model else model,
            engine.mask(guide, mask=keep) if in_guide else guide,
        )

    def term(objective: Any, masked: tuple[Any, Any]) -> np.ndarray:
        return engine.losses(objective, *masked, engine.array(X), count=draws(engine))

    both = term(engine.ELBO(beta=1.0), pair(True, True)) - term(engine.ELBO(beta=0.0), pair(True, True))
    assert both[0] == pytest.approx(exact_terms(X[[0, 2, 3]])[1], rel=1e-4)
    floor = term(engine.ELBO(free_bits=9.0), pair(True, True)) - term(engine.ELBO(beta=0.0), pair(True, True))
    assert floor[0] == pytest.approx(3 * 9.0, rel=1e-4)
    for one in (pair(True, False), pair(False, True)):
        assert agrees(term(engine.ELBO(), one) - term(engine.trace_elbo(), one), 0.0)


@engines
@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
def test_latent_of_the_model_alone_has_no_kl(engine: Engine) -> None:
    def model(x: Any) -> None:
        shift = engine.sample("shift", engine.dist.Normal(0.0, 1.0))
        engine.sample("x", engine.dist.Normal(shift + x * 0.0, 1.0).to_event(1), obs=x)

    def guide(x: Any) -> None:
        pass

    x = engine.array([0.5, -1.0])
    losses = engine.losses(engine.ELBO(), model, guide, x, count=draws(engine))
    # E over the prior of -log N(x; shift, 1), in closed form.
    assert agrees(losses, 2 * 0.5 * np.log(2 * np.pi) + 0.5 * (0.25 + 1.0 + 2.0))


@engines
def test_auxiliary_site_is_part_of_log_q(engine: Engine) -> None:
    reconstruction, divergence = exact_terms()
    model, _ = engine.pair()

    def guide(x: Any) -> None:
        a = engine.param("a", engine.array(objectives.A))
        with engine.plate("data", len(x)):
            law = engine.dist.Normal(x @ a.T, engine.array(SD)).to_event(1)
            raw = engine.sample("raw", law, infer={"is_auxiliary": True})
            engine.sample("z", engine.dist.Delta(2 * raw, log_density=raw[..., 0] * 0, event_dim=1))

    def half(x: Any) -> None:
        a = engine.param("a", engine.array(objectives.A))
        with engine.plate("data", len(x)):
            law = engine.dist.Normal(x @ a.T, engine.array(SD)).to_event(1)
            raw = engine.sample("z_unconstrained", law, infer={"is_auxiliary": True})
            engine.sample("z", engine.dist.Delta(raw, log_density=raw[..., 0] * 0, event_dim=1))

    x = engine.array(X)
    ours, theirs = (engine.losses(o, model, guide, x, count=3) for o in (engine.ELBO(), engine.trace_elbo()))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    losses = engine.losses(engine.ELBO(beta=2.0), model, half, x, count=draws(engine))
    assert agrees(losses, reconstruction + 2 * divergence)
    floor = engine.losses(engine.ELBO(free_bits={"z": 50.0}), model, half, x)[0]
    assert floor - engine.losses(engine.ELBO(beta=0.0), model, half, x)[0] == pytest.approx(50.0 * len(X), rel=1e-4)


def test_auxiliary_sites_join_their_latents() -> None:
    assert kl.group_of(["a", "b"], ["a_unconstrained"]) == {"a": "a", "b": "b", "a_unconstrained": "a"}
    assert set(kl.group_of(["a", "b"], ["_auto_latent"]).values()) == {kl.JOINT}


@engines
def test_latent_without_a_gradient_is_refused(engine: Engine) -> None:
    def model(x: Any) -> None:
        k = engine.sample("k", engine.dist.Bernoulli(engine.array(0.5)))
        engine.sample("x", engine.dist.Normal(k * 1.0, 1.0), obs=x)

    def guide(x: Any) -> None:
        engine.sample("k", engine.dist.Bernoulli(engine.array(0.3)))

    with pytest.raises(ValueError, match=f"latent site 'k' in the guide: got Bernoulli.*{engine.trace_graph}"):
        engine.losses(engine.ELBO(), model, guide, engine.array(0.1))


@engines
@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
def test_discrete_latent_of_the_model_alone_is_refused(engine: Engine) -> None:
    def model(x: Any) -> None:
        k = engine.sample("k", engine.dist.Bernoulli(engine.array(0.5)))
        engine.sample("x", engine.dist.Normal(k * 1.0, 1.0), obs=x)

    with pytest.raises(ValueError, match="latent site 'k' in the model"):
        engine.losses(engine.ELBO(), model, lambda x: None, engine.array(0.1))


@engines
def test_bad_options_are_refused(engine: Engine) -> None:
    model, guide = engine.pair()
    with pytest.raises(ValueError, match="beta: got -1"):
        engine.ELBO(beta=-1.0)
    with pytest.raises(TypeError, match="beta: got str"):
        kl.check_settings("big", 0.0, 1)
    with pytest.raises(ValueError, match=r"free_bits: got -0\.1"):
        engine.ELBO(free_bits=-0.1)
    with pytest.raises(ValueError, match=r"free_bits\['z'\]: got nan"):
        engine.ELBO(free_bits={"z": float("nan")})
    with pytest.raises(ValueError, match="num_particles: got 0"):
        engine.ELBO(num_particles=0)
    with pytest.raises(TypeError, match=r"num_particles: got 1\.5"):
        kl.check_settings(1.0, 0.0, 1.5)
    with pytest.raises(ValueError, match=r"free_bits: got the latent groups \['y'\]; expected some of \['z'\]"):
        engine.losses(engine.ELBO(free_bits={"y": 1.0}), model, guide, engine.array(X))


@engines
def test_settings_decide_equality(engine: Engine) -> None:
    make = engine.ELBO
    assert make(beta=schedules.Linear(5), free_bits={"z": 1.0}) == make(beta=schedules.Linear(5), free_bits={"z": 1.0})
    assert hash(make(free_bits={"z": 1.0})) == hash(make(free_bits={"z": 1.0}))
    assert make(beta=2.0) != make()
    assert make(beta=schedules.Linear(10)).at(5) == make(beta=0.5)
    assert repr(make(beta=schedules.Linear(10))).startswith("ELBO(beta=Linear(steps=10, start=0.0, end=1.0)")


def test_engines_agree_on_the_same_draw() -> None:
    z = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    model, guide = NUMPYRO.pair()
    ours = NUMPYRO.losses(
        NUMPYRO.ELBO(beta=0.7), model, handlers.substitute(guide, {"z": jnp.asarray(z)}), jnp.asarray(X)
    )
    model, guide = PYRO.pair()
    tape = pyro.poutine.trace(guide).get_trace(PYRO.array(X))
    tape.nodes["z"]["value"] = PYRO.array(z)
    theirs = PYRO.losses(PYRO.ELBO(beta=0.7), model, pyro.poutine.replay(guide, tape), PYRO.array(X))
    other = PYRO.losses(PYRO.ELBO(beta=0.8), model, pyro.poutine.replay(guide, tape), PYRO.array(X))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert abs(other - ours) > 1e-3 * abs(ours)


def test_schedule_in_plain_numpyro_svi() -> None:
    model, guide = NUMPYRO.pair()
    objective = nsvi.ELBO(beta=nsvi.Linear(4))
    svi = numpyro.infer.SVI(nsvi.count_steps(model), guide, numpyro.optim.Adam(0.0), loss=objective)
    key = jax.random.key(0)
    losses = np.asarray(svi.run(key, 6, jnp.asarray(X), progress_bar=False).losses)
    for i, beta in enumerate([0.0, 0.25, 0.5, 0.75, 1.0, 1.0]):
        fixed = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(0.0), loss=nsvi.ELBO(beta=beta))
        again = np.asarray(fixed.run(key, 6, jnp.asarray(X), progress_bar=False).losses)
        assert losses[i] == pytest.approx(again[i], rel=1e-5)
    particles = numpyro.infer.SVI(
        nsvi.count_steps(model), guide, numpyro.optim.Adam(0.0), loss=nsvi.ELBO(beta=nsvi.Linear(4), num_particles=2)
    )
    state = particles.run(key, 3, jnp.asarray(X), progress_bar=False).state
    assert state.mutable_state == {"deepgen$step": 3}
    with pytest.raises(ValueError, match=r"no step is known here: wrap the model, SVI\(count_steps\(model\)"):
        numpyro.infer.SVI(model, guide, numpyro.optim.Adam(0.0), loss=objective).run(key, 1, X, progress_bar=False)


def test_mutable_sites_need_one_particle() -> None:
    def model(x: Any) -> None:
        numpyro.primitives.mutable("count", {"n": 0})
        NUMPYRO.pair()[0](x)

    with pytest.raises(ValueError, match=r"mutable sites \['count'\] with num_particles=2"):
        NUMPYRO.losses(nsvi.ELBO(num_particles=2), model, NUMPYRO.pair()[1], jnp.asarray(X))


def test_schedule_in_plain_pyro_svi() -> None:
    model, guide = PYRO.pair()
    objective = psvi.ELBO(beta=psvi.Linear(4))
    with pyro.get_param_store().scope():
        svi = pyro.infer.SVI(psvi.count_steps(model), guide, pyro.optim.Adam({"lr": 0.0}), loss=objective)
        for beta in [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]:
            pyro.set_rng_seed(3)
            loss = svi.step(PYRO.array(X))
            assert loss == pytest.approx(PYRO.losses(psvi.ELBO(beta=beta), model, guide, PYRO.array(X), seed=3)[0])
    assert objective.step == 6
