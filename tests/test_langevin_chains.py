"""Runs of Langevin chains in both engines: what else they keep, and when they stop."""

import numpy as np
import pyro
import pytest
from engines import ENGINES

from deepgen.inference.langevin import report
from deepgen.inference.langevin.arguments import DivergenceWarning

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)


def bowl(z):
    return 0.5 * (z["x"] ** 2).sum()


def chains(engine, kernel, **settings):
    pyro.set_rng_seed(0)
    start = {"x": engine.array(np.ones((3, 2), dtype=np.float32))}
    settings = dict(num_warmup=0, num_samples=30, num_chains=3, init_params=start, progress=False) | settings
    return engine.call("run_chains", kernel, **settings)


@BOTH
def test_extra_fields_are_kept_with_the_draws(engine):
    kernel = engine.face.MALA(potential_fn=bowl, step_size=1.0)
    names = ("chain.gradient", "mean_accept_prob")
    post = chains(engine, kernel, num_samples=10, thinning=3, extra_fields=names)
    np.testing.assert_allclose(post.sample_stats["chain.gradient"], -post.posterior.x, rtol=1e-5)
    # of all steps, kept or not: the mean moves on by at most three of them
    mean = post.sample_stats.mean_accept_prob.values
    assert mean.shape == (3, 10)
    assert (np.abs(np.diff(mean, axis=1)) <= 3 / (3 * np.arange(2, 11)) + 1e-6).all()
    assert "chain.gradient" not in chains(engine, kernel, num_samples=2).sample_stats


@BOTH
@pytest.mark.parametrize("name", ["gradient", "chain.nothing", "learned"])
def test_fields_that_the_state_does_not_have_are_refused(engine, name):
    with pytest.raises(
        ValueError, match=f"extra_fields: got '{name}'; expected fields of the state .*, such as .*accept"
    ):
        chains(engine, engine.face.ULA(potential_fn=bowl), extra_fields=(name,))


@BOTH
@pytest.mark.parametrize("progress", [False, True])
def test_chains_that_leave_for_infinity_stop_the_run(engine, progress):
    kernel = engine.face.ULA(potential_fn=bowl, step_size=1e4)
    with pytest.warns(DivergenceWarning, match="3 of 3 chains diverged.* stopped after .* of 200 steps"):
        post = chains(engine, kernel, num_samples=200, progress=progress)
    assert 0 < post.posterior.sizes["draw"] < 20
    assert np.isfinite(post.posterior.x).all()
    assert post.sample_stats.sizes["draw"] == post.posterior.sizes["draw"]
    with pytest.raises(ValueError, match="step_size: got one with which all chains diverged before a draw was kept"):
        chains(engine, kernel, num_warmup=100, progress=progress)


@BOTH
def test_chains_that_never_move_stop_the_run(engine):
    kernel = engine.face.MALA(potential_fn=bowl, step_size=1e4, adapt_step_size=False, adapt_mass_matrix=False)
    with pytest.warns(
        DivergenceWarning, match="had most of their proposals thrown out.* stopped after 100 of 300 steps"
    ):
        post = chains(engine, kernel, num_samples=300)
    assert (post.posterior.x == 1).all()
    assert post.posterior.sizes["draw"] == 100


def test_the_draws_kept_are_those_before_the_end():
    assert report.kept(False, 7, 20, 3, 1) == 3, "the step that left is no draw"
    assert report.kept(True, 7, 20, 3, 2) == 2
    assert report.kept(False, 20, 20, 3, 1) == 17
    assert report.kept(False, 2, 20, 3, 1) == 0
    count = np.zeros((), np.int32)
    for diverging, expected in [([True, True], 1), ([True, True], 2), ([True, False], 0), ([True, True], 1)]:
        count = report.in_a_row(count, np.array(diverging))
        assert count == expected
