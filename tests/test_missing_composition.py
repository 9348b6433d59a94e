"""``missing`` among the engines' own handlers, plates, Predictive, jit; and ``complete``."""

import jax
import numpy as np
import numpyro
import numpyro.distributions
import pyro
import pyro.distributions
import pytest
import scipy.stats as st
import torch
from handling import (
    COV,
    ELEMENTWISE,
    MEAN,
    NAN,
    ROWS,
    NumPyro,
    Pyro,
    U,
    V,
    conditional,
    elementwise_model,
    exact_guide,
    mixture_of_rows,
    normal_rows,
    two_sites,
    values,
)

import deepgen.handlers.numpyro as in_numpyro
import deepgen.handlers.pyro as in_pyro


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads only cost time at these sizes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=[NumPyro, Pyro], ids=lambda engine: engine.name)
def engine(request):
    return request.param


def test_nested_handlers_and_one_handler_for_two_sites(engine):
    m = engine.missing
    at = {"mu": 0.3, "u_missing": [0.7], "v_missing": [0.1, -0.2, 0.4]}
    v = np.array([[1.0, 0.1], [2.0, 3.0], [-0.2, 0.4]])
    expected = st.norm.logpdf(0.3) + st.norm(0.3, 1).logpdf([0.7, 1.0]).sum() + st.norm(0.3, 2).logpdf(v).sum()
    nested = m(m(two_sites(engine), data={"v": V}), data={"u": U})
    together = m(two_sites(engine), data={"u": U, "v": V})
    summed = m(m(two_sites(engine), data={"u": U}), data={"v": V}, latent=False)
    for handled in (nested, together):
        assert float(engine.log_density(handled, at)) == pytest.approx(expected, abs=1e-4)
        sites = engine.sites(handled)
        assert tuple(sites["u_missing"].value.shape) == (1,)
        assert len(sites["v_missing"].cond_indep_stack) == 0
    expected -= st.norm(0.3, 2).logpdf([0.1, -0.2, 0.4]).sum()
    del at["v_missing"]
    assert float(engine.log_density(summed, at)) == pytest.approx(expected, abs=1e-4)


def test_as_context_manager_and_as_decorator(engine):
    def program():
        with engine.missing(data={"x": ROWS}):
            return normal_rows(engine)()

    wrapped = engine.missing(normal_rows(engine), data={"x": ROWS})
    decorated = engine.missing(data={"x": ROWS})(normal_rows(engine))
    at = {"x_missing": [0.1, 0.2, 0.3]}
    for handled in (program, decorated):
        assert float(engine.log_density(handled, at)) == float(engine.log_density(wrapped, at))


def test_value_is_the_data_bit_for_bit_with_the_draws_scattered_in(engine):
    handled = engine.missing(normal_rows(engine), data={"x": ROWS.astype(np.float32)})
    sites = engine.sites(handled)
    x, draws = values(sites["x"].value), values(sites["x_missing"].value)
    assert sites["x"].is_observed
    assert not sites["x_missing"].is_observed
    seen = ~np.isnan(ROWS)
    np.testing.assert_array_equal(x[seen], ROWS.astype(np.float32)[seen])
    np.testing.assert_array_equal(x[~seen], draws)
    np.testing.assert_array_equal(values(engine.complete(ROWS.astype(np.float32), draws)), x)


def test_condition_scale_and_block_outside_see_the_new_site(engine):
    at = np.array([0.1, 0.2, 0.3])
    handled = engine.missing(normal_rows(engine), data={"x": ROWS})
    fixed = engine.handlers.condition(handled, {"x_missing": engine.array(at)})
    sites = engine.sites(fixed)
    assert sites["x_missing"].is_observed
    np.testing.assert_allclose(values(sites["x"].value)[np.isnan(ROWS)], at, rtol=1e-6)
    plain = float(engine.log_density(handled, {"x_missing": at}))
    scaled = engine.handlers.scale(handled, scale=3.0)
    assert float(engine.log_density(scaled, {"x_missing": at})) == pytest.approx(3 * plain, rel=1e-5)
    assert list(engine.sites(engine.handlers.block(handled, hide=["x_missing"]))) in (["x"], ["rows", "x"])


def test_substitute_and_replay_outside_set_the_missing_entries(engine):
    handled = engine.missing(normal_rows(engine), data={"x": ROWS})
    at = engine.array([0.1, 0.2, 0.3])
    if engine is NumPyro:
        set_to = numpyro.handlers.substitute(handled, {"x_missing": at})
        trace = numpyro.handlers.trace(numpyro.handlers.seed(set_to, 0)).get_trace()
    else:
        set_to = pyro.poutine.substitute(handled, {"x_missing": at})
        trace = pyro.poutine.trace(pyro.poutine.condition(handled, {"x_missing": at})).get_trace()
        trace.nodes["x_missing"]["is_observed"] = False
    again = engine.sites(engine.handlers.replay(handled, trace=trace), seed=5)
    np.testing.assert_array_equal(values(again["x_missing"].value), values(at))
    np.testing.assert_array_equal(values(again["x"].value)[np.isnan(ROWS)], values(at))


def test_scale_inside_of_the_model_scales_the_completed_site(engine):
    def model():
        with engine.handlers.scale(scale=2.0):
            engine.sample("x", engine.dist.Normal(engine.array([0.0, 0.0]), 1.0).to_event(1))

    handled = engine.missing(model, data={"x": np.array([0.5, NAN])})
    expected = 2 * st.norm.logpdf([0.5, 1.5]).sum()
    assert float(engine.log_density(handled, {"x_missing": [1.5]})) == pytest.approx(expected, abs=1e-5)


def test_predictive_draws_and_completes(engine):
    handled = engine.missing(normal_rows(engine), data={"x": ROWS})
    prior = engine.predictive(handled, n=7, sites=["x", "x_missing"])
    assert prior["x"].shape == (7, 3, 3)
    draws = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    completed = engine.predictive(handled, {"x_missing": draws}, sites=["x"])["x"]
    np.testing.assert_array_equal(completed, engine.complete(ROWS.astype(np.float32), draws))
    np.testing.assert_array_equal(
        prior["x"], engine.complete(ROWS.astype(np.float32), prior["x_missing"].reshape(7, 3))
    )


@pytest.mark.parametrize("latent", [True, False])
def test_a_plate_outside_copies_the_missing_entries_and_shares_the_data(engine, latent):
    def model():
        with engine.plate("particles", 4, dim=-2):
            mu = engine.sample("mu", engine.dist.Normal(engine.array(0.0), engine.array(1.0)))
            handler = engine.missing(data={"x": np.array([[0.5, NAN], [NAN, 1.0]])}, latent=latent)
            with handler, engine.plate("rows", 2, dim=-1):
                return engine.sample("x", engine.dist.Normal(mu[..., None], engine.array([1.0, 2.0])).to_event(1))

    sites = engine.sites(model)
    x = values(sites["x"].value)
    assert x.shape == (4, 2, 2)
    assert len(np.unique(x[:, 0, 1])) == 4
    np.testing.assert_array_equal(x[:, 0, 0], 0.5)
    assert tuple(sites["x"].fn.log_prob(sites["x"].value).shape) == (4, 2)
    if latent:
        assert tuple(sites["x_missing"].value.shape) == (4, 1, 2)
        assert tuple(sites["x_missing"].fn.log_prob(sites["x_missing"].value).shape) == (4, 1)


def test_bounds_that_differ_in_a_plate_outside(engine):
    def model():
        with engine.plate("particles", 3, dim=-2):
            top = engine.sample("top", engine.dist.Uniform(engine.array(5.0), engine.array(9.0)))
            with engine.missing(data={"x": np.array([0.5, NAN, NAN, 1.0])}), engine.plate("rows", 4, dim=-1):
                engine.sample("x", engine.dist.Uniform(engine.array([0.0, 1.0, 2.0, 0.0]), top))

    sites = engine.sites(model)
    top, site = values(sites["top"].value), sites["x_missing"]
    highest = values(engine.bijection(site.fn.support)(engine.array(np.full((3, 1, 2), 30.0))))
    lowest = values(engine.bijection(site.fn.support)(engine.array(np.full((3, 1, 2), -30.0))))
    np.testing.assert_allclose(highest, np.broadcast_to(top[..., None], (3, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(lowest, np.broadcast_to([1.0, 2.0], (3, 1, 2)), rtol=1e-5)


def test_an_exception_restores_the_effect_stack(engine):
    stack = numpyro.primitives._PYRO_STACK if engine is NumPyro else pyro.poutine.runtime._PYRO_STACK

    class Refuse(numpyro.primitives.Messenger if engine is NumPyro else pyro.poutine.messenger.Messenger):
        def process_message(self, msg):
            if msg["name"] == "x_missing":
                raise RuntimeError("refused")

        _pyro_sample = process_message

    with pytest.raises(RuntimeError, match="refused"), Refuse():
        engine.missing(normal_rows(engine), data={"x": ROWS})()
    assert stack == []


def test_nothing_missing_is_a_plain_observation(engine):
    x = np.nan_to_num(ROWS)
    sites = engine.sites(engine.missing(normal_rows(engine), data={"x": x}))
    assert [name for name in sites if name != "rows"] == ["x"]
    np.testing.assert_array_equal(values(sites["x"].value), x.astype(np.float32))
    counts = engine.missing(
        lambda: engine.sample("k", engine.dist.Poisson(engine.array([1.0, 2.0]))), data={"k": [3, 0]}
    )
    assert float(engine.log_density(counts, {})) == pytest.approx(st.poisson([1, 2]).logpmf([3, 0]).sum(), abs=1e-5)


def test_masked_arrays_and_observed_say_what_nan_says(engine):
    hidden = np.isnan(ROWS)
    garbage = np.where(hidden, np.inf, ROWS)
    at = {"x_missing": [0.1, 0.2, 0.3]}
    by_nan = engine.missing(normal_rows(engine), data={"x": ROWS})
    by_mask = engine.missing(normal_rows(engine), data={"x": np.ma.array(garbage, mask=hidden)})
    by_observed = engine.missing(normal_rows(engine), data={"x": garbage}, observed={"x": ~hidden})
    for handled in (by_mask, by_observed):
        assert float(engine.log_density(handled, at)) == float(engine.log_density(by_nan, at))


def test_an_all_missing_site_is_the_prior(engine):
    handled = engine.missing(normal_rows(engine), data={"x": np.full((3, 3), NAN)})
    point = np.random.default_rng(1).normal(size=9)
    expected = st.multivariate_normal(MEAN, COV).logpdf(point.reshape(3, 3)).sum()
    assert float(engine.log_density(handled, {"x_missing": point})) == pytest.approx(expected, abs=1e-4)


def test_mixtures_have_the_support_of_their_components(engine):
    def model(component):
        weights = engine.dist.Categorical(engine.array([0.4, 0.6]))
        with engine.plate("rows", 2):
            engine.sample("x", engine.dist.MixtureSameFamily(weights, component))

    component = engine.dist.Normal(engine.array([-1.0, 2.0]), engine.array([0.5, 1.0]))
    handled = engine.missing(lambda: model(component), data={"x": np.array([NAN, 0.3])})
    density = 0.4 * st.norm(-1, 0.5).pdf([1.2, 0.3]) + 0.6 * st.norm(2, 1).pdf([1.2, 0.3])
    assert float(engine.log_density(handled, {"x_missing": [1.2]})) == pytest.approx(np.log(density).sum(), abs=1e-5)


def test_complete_scatters_any_leading_axes(engine):
    draws = np.random.default_rng(0).normal(size=(4, 5, 3))
    out = engine.complete(ROWS, draws)
    assert isinstance(out, np.ndarray)
    assert out.shape == (4, 5, 3, 3)
    assert out.dtype == ROWS.dtype
    seen = ~np.isnan(ROWS)
    np.testing.assert_array_equal(out[..., seen], np.broadcast_to(ROWS[seen], (4, 5, 6)))
    np.testing.assert_array_equal(out[..., ~seen], draws)
    own = engine.complete(engine.array(ROWS), engine.array(draws))
    assert type(own) is type(engine.array(ROWS))
    np.testing.assert_array_equal(values(own), out.astype(np.float32))
    integers = engine.complete(np.array([3, 4]), np.array([[7], [8]]), observed=np.array([True, False]))
    assert integers.tolist() == [[3, 7], [3, 8]]
    with pytest.raises(ValueError, match=r"x_missing: got shape \(4, 2\); expected \(\.\.\., 3\)"):
        engine.complete(ROWS, draws[0, :4, :2])


def test_numpyro_seed_inside_serves_the_missing_entries():
    inside = in_numpyro.missing(numpyro.handlers.seed(normal_rows(NumPyro), 0), data={"x": ROWS})
    trace = numpyro.handlers.trace(inside).get_trace()
    assert trace["x_missing"]["value"].shape == (3,)
    typed, legacy = jax.random.key(3), jax.random.PRNGKey(3)
    model = in_numpyro.missing(normal_rows(NumPyro), data={"x": ROWS})
    first, second = (
        numpyro.handlers.trace(numpyro.handlers.seed(model, k)).get_trace()["x_missing"]["value"]
        for k in (typed, legacy)
    )
    np.testing.assert_array_equal(first, second)


def test_numpyro_sample_shape_belongs_to_the_site():
    def model():
        numpyro.sample("x", numpyro.distributions.Normal(0.0, 1.0), sample_shape=(3,))

    handled = in_numpyro.missing(model, data={"x": np.array([0.1, NAN, 0.2])})
    expected = st.norm.logpdf([0.1, 0.5, 0.2]).sum()
    assert float(NumPyro.log_density(handled, {"x_missing": [0.5]})) == pytest.approx(expected, abs=1e-5)


def test_numpyro_distributions_are_pytrees():
    for latent, site in ((True, "x_missing"), (False, "x")):
        law, _, x = ELEMENTWISE["uniform"]
        handled = in_numpyro.missing(elementwise_model(NumPyro, law, True), data={"x": np.array(x)}, latent=latent)
        msg = NumPyro.sites(handled)[site]
        leaves, tree = jax.tree.flatten(msg.fn)
        again = jax.tree.unflatten(tree, leaves)
        assert float(again.log_prob(msg.value)) == float(msg.fn.log_prob(msg.value))
        assert again.sample(jax.random.key(0)).shape == msg.value.shape
        through = jax.jit(lambda d, v: d.log_prob(v))(msg.fn, msg.value)
        assert float(through) == pytest.approx(float(msg.fn.log_prob(msg.value)), rel=1e-6)


def test_pyro_parallel_predictive_completes():
    handled = in_pyro.missing(normal_rows(Pyro), data={"x": ROWS})
    draws = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    completed = Pyro.predictive(handled, {"x_missing": draws}, sites=["x"], parallel=True)["x"]
    np.testing.assert_array_equal(completed, in_pyro.complete(ROWS.astype(np.float32), draws))
    summed = in_pyro.missing(
        elementwise_model(Pyro, ELEMENTWISE["normal"][0], False), {"x": ELEMENTWISE["normal"][2]}, latent=False
    )
    drawn = Pyro.predictive(summed, n=6, sites=["x"], parallel=True)["x"]
    assert len(np.unique(drawn[:, 1])) == 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_pyro_jit_and_vectorised_particles_give_the_evidence():
    evidence = conditional(ROWS, MEAN, COV)[2]
    model = in_pyro.missing(normal_rows(Pyro), data={"x": ROWS})
    options = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}
    for elbo in (pyro.infer.Trace_ELBO(**options), pyro.infer.JitTrace_ELBO(**options)):
        assert -elbo.loss(model, exact_guide(Pyro)) == pytest.approx(evidence, abs=1e-3)


@pytest.mark.parametrize("latent", [True, False])
def test_pyro_enumerated_variables_share_the_missing_entries(latent):
    x = np.array([[0.5, NAN], [NAN, -1.0]])
    tril = np.array([[1.0, 0.0], [0.5, 0.8]])
    if latent:
        model, guide_at = in_pyro.missing(mixture_of_rows(), data={"x": x}), torch.tensor([0.2, 1.1])

        def guide():
            pyro.sample("x_missing", pyro.distributions.Delta(guide_at).to_event(1))

        completed = np.array([[0.5, 0.2], [1.1, -1.0]])
        laws = [st.multivariate_normal([2.0 * k, -k], tril @ tril.T) for k in (0, 1)]
        each = 0.7 * laws[0].pdf(completed) + 0.3 * laws[1].pdf(completed)
    else:

        def independent():
            with pyro.plate("rows", 2):
                k = pyro.sample("k", pyro.distributions.Bernoulli(0.3), infer={"enumerate": "parallel"})
                pyro.sample("x", pyro.distributions.Normal(torch.stack([2 * k, -k], -1), 1.0).to_event(1))

        model = in_pyro.missing(independent, data={"x": x}, latent=False)

        def guide():
            pass

        each = 0.7 * st.norm.pdf([0.5, -1.0]) + 0.3 * st.norm.pdf([-1.5, 0.0])
    elbo = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    assert -elbo.loss(model, guide) == pytest.approx(np.log(each).sum(), abs=1e-4)


def test_pyro_data_keeps_its_dtype_and_its_observed_bits():
    x = torch.tensor([0.1, torch.nan], dtype=torch.float64)
    value = Pyro.sites(
        in_pyro.missing(lambda: pyro.sample("x", pyro.distributions.Normal(torch.zeros(2), 1.0)), {"x": x})
    )["x"].value
    assert value.dtype == torch.float64
    assert value[0] == x[0]
