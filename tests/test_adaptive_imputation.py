"""LAIR, the automatic choice, discrete latents, and what compiles how often."""

from typing import Any

import numpy as np
import pytest
from engines import ENGINES
from handmade import CLASSES, classes_law, half_missing
from montecarlo import RATE, worst_moment
from registry import ORACLES, oracle_program, twin
from scipy import stats
from test_oracle import OPTIONS, data, worst_of_imputation

from deepgen.inference.imputation import automatic, importance, result
from deepgen.inference.imputation.lair import mixture

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
TIGHT = next(oracle for oracle in ORACLES if oracle.tight)
LOOSE = next(oracle for oracle in ORACLES if oracle.quick and not oracle.tight)


# the weights of LAIR


def test_mixture_weights_average_to_the_evidence() -> None:
    """Of a joint density with a known integral, proposals from two components and the prior; by hand and on average."""
    rng = np.random.default_rng(0)
    locs, n = np.array([-1.0, 2.5]), 60_000
    draws = np.concatenate([locs[:, None] + 0.5 * rng.standard_normal((2, n)), rng.standard_normal((1, n))])
    log_joint = np.log(0.3) + stats.norm.logpdf(draws, 1.0, 0.8)
    log_guide = stats.norm.logpdf(draws[:, None], locs[:, None], 0.5)
    log_prior = stats.norm.logpdf(draws)
    found = mixture.log_weights(log_joint, log_guide, log_prior)
    by_hand = np.exp(log_joint) / ((np.exp(log_guide).sum(1) + np.exp(log_prior)) / 3)
    np.testing.assert_allclose(np.exp(found), by_hand, rtol=1e-10)

    def score(log_weights: np.ndarray, value: float, of: np.ndarray | float = 1.0) -> float:
        each = (np.exp(log_weights) * of).mean(0) - value
        return float(abs(each.mean()) / (each.std(ddof=1) / np.sqrt(n)) / stats.norm.isf(RATE / 2))

    assert score(found, 0.3) < 1
    assert score(found, 0.3 * (0.8**2 + 1), draws**2) < 1
    own = np.concatenate([log_guide[[0, 1], [0, 1]], log_prior[2:]])
    planted = {
        "the prior left out": log_joint - np.log(np.exp(log_guide).mean(1)),
        "two priors counted": mixture.log_weights(log_joint, log_guide, log_prior, 2),
        "a sum for a mean": found - np.log(3),
        "its own component alone, and the mixture's count": log_joint - own - np.log(3),
    }
    for fault, weights in planted.items():
        assert score(weights, 0.3) > 1, fault


def test_choices_follow_the_weights() -> None:
    weights = np.log(np.array([[0.5, 0.2], [0.3, 0.8], [0.2, 1e-300]]))
    gumbel = np.random.default_rng(0).gumbel(size=(20_000, 3, 2))
    index = mixture.choose(weights, gumbel)
    assert index.shape == (20_000, 2)
    counts = np.bincount(index[:, 0], minlength=3)
    assert stats.chisquare(counts, 20_000 * np.array([0.5, 0.3, 0.2])).pvalue > RATE
    assert stats.chisquare(counts, 20_000 * np.array([0.47, 0.31, 0.22])).pvalue < RATE
    assert (index[:, 1] < 2).all()


def test_iterations_make_as_many_proposals_as_were_asked_for() -> None:
    assert mixture.iterations(2000, 9) == 200
    assert mixture.iterations(2001, 9) == 201
    assert mixture.iterations(1, 9) == 1


@BOTH
def test_wrong_weights_of_lair_show(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all proposals came from the prior."""
    monkeypatch.setattr(mixture, "log_weights", lambda joint, guide, prior: joint - prior)
    _, holes = data(LOOSE)
    # numbers of its own: nothing else must meet what is compiled here
    options = OPTIONS["lair"] | {"num_chains": 8}
    post = engine.call("impute", oracle_program(LOOSE, engine), holes, method="lair", seed=3, **options)
    assert worst_of_imputation(LOOSE, post, holes) > 1


# which weights are to be trusted


def weights(ess: list[float], pareto_k: list[float], num_particles: int = 1000) -> importance.Weights:
    even = np.full((len(ess), num_particles), 1 / num_particles)
    return importance.Weights(even, np.array(ess), np.array(pareto_k))


def test_the_tail_of_even_weights_says_nothing() -> None:
    judged = weights([900.0, 501.0, 499.0, 20.0, 20.0], [0.9, 2.0, 0.9, 0.6, 1.5])
    assert importance.untrusted(judged, 1000).tolist() == [False, False, True, False, True]
    with pytest.warns(UserWarning, match=r"of 2 of 5 rows are not to be trusted \(Pareto k above 0.7, largest 1.50\)"):
        stats_, said = result.weight_stats(judged, 1000)
    assert said == {"rows_with_high_pareto_k": 2}
    np.testing.assert_array_equal(stats_["pareto_k"][1], judged.pareto_k)
    assert result.weight_stats(weights([900.0], [3.0]), 1000)[1] == {"rows_with_high_pareto_k": 0}


def test_nearly_even_weights_with_a_fitted_tail_are_not_announced() -> None:
    """Bounded weights can have any k: a smoothed sample whose k is high and which loses nothing by it."""
    rng = np.random.default_rng(0)
    rare = np.where(rng.random((200, 1000)) < 0.02, 1.2 + 0.3 * rng.exponential(size=(200, 1000)), 1.0)
    judged = importance.smooth(np.log(rare) + 1e-2 * rng.random(rare.shape))
    high = judged.pareto_k > importance.LARGEST_K
    assert high.any(), "no such row"
    assert judged.ess.min() > 900
    assert not importance.untrusted(judged, 1000).any()


# the choice


@pytest.mark.parametrize(
    ("ess", "pareto_k", "discrete", "chosen"),
    [
        ([300.0] * 100, [0.5] * 100, False, "sir"),
        ([300.0] * 100, [0.5] * 99 + [0.9], True, "sir"),
        ([300.0] * 100, [0.5] * 98 + [0.9] * 2, False, "mcmc"),
        ([300.0] * 98 + [99.0] * 2, [0.5] * 100, False, "mcmc"),
        ([300.0] * 98 + [99.0] * 2, [0.5] * 100, True, "adaptive-gibbs"),
        ([800.0] * 100, [0.9] * 100, False, "sir"),
    ],
)
def test_the_choice_is_by_the_share_of_rows_that_are_fit(
    ess: list[float], pareto_k: list[float], discrete: bool, chosen: str
) -> None:
    found, said = automatic.judge(weights(ess, pareto_k), 1000, discrete=discrete)
    assert found == said["chosen"] == chosen
    assert (said["share_of_fit_rows"] >= automatic.SHARE) == (chosen == "sir")
    assert f"largest Pareto k {max(pareto_k):.2f}" in said["why"]
    assert ("no gradient" in said["why"]) == (chosen == "adaptive-gibbs")


def test_few_particles_need_half_of_them() -> None:
    assert automatic.judge(weights([40.0], [0.1], 60), 60, discrete=False)[0] == "sir"
    assert automatic.judge(weights([29.0], [0.1], 60), 60, discrete=False)[0] == "mcmc"


@BOTH
def test_auto_takes_chains_where_the_guide_is_poor(engine: Any) -> None:
    """A guide of the wrong place and much too sure: its weights are useless, the chains are right."""
    tensors = dict(TIGHT.tensors)
    bias = np.array(tensors["encoder.layers.0.bias"])
    bias[:2], bias[2:] = 1.0, -4.0
    program = engine.with_tensors(engine.build(TIGHT.family, TIGHT.config), tensors | {"encoder.layers.0.bias": bias})
    _, holes = data(TIGHT)
    # from where such a guide starts them, chains need longer to agree
    options = OPTIONS["auto"] | {"num_warmup": 160, "num_samples": 160}
    post = engine.call("impute", program, holes, method="auto", seed=3, **options)
    assert post.attrs["method"] == "auto"
    assert post.attrs["chosen"] == "mcmc"
    assert "fit for use in" in post.attrs["why"]
    assert post.attrs["share_of_fit_rows"] < automatic.SHARE
    assert {"r_hat", "acceptance_rate", "guide_ess", "guide_pareto_k"} <= set(post.sample_stats)
    assert "pareto_k" not in post.sample_stats
    assert worst_of_imputation(TIGHT, post, holes) < 1


# a latent class

FIRST = np.array([1.0, 1.6, 2.2])
CLASSY = {
    "sir": {"num_samples": 5000, "num_particles": 4000},
    "adaptive-gibbs": {"num_warmup": 100, "num_samples": 200, "num_chains": 20},
    "lair": {"num_samples": 5000, "num_particles": 4000, "num_chains": 9},
}


@BOTH
@pytest.mark.parametrize("method", CLASSY)
def test_a_latent_class_is_imputed(engine: Any, method: str) -> None:
    post = engine.call("impute", CLASSES[engine], half_missing(FIRST), method=method, seed=2, **CLASSY[method])
    draws, law = post.posterior["x"].values[..., 1:].astype(float), classes_law(FIRST)
    particles = post.sample_stats["ess"].values if "ess" in post.sample_stats else np.inf
    assert worst_moment(draws, *law, particles) < 1
    # as if both classes were equally likely beforehand
    even = classes_law(FIRST + np.log(1.5) / 3)
    assert worst_moment(draws, *even, particles) > 1
    assert np.isin(post.posterior["c"].values, (0, 1)).all()


@BOTH
def test_auto_takes_a_kernel_that_needs_no_gradient(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "SHARE", 1.1)
    options = {"num_chains": 20, "num_warmup": 100, "num_samples": 200, "num_particles": 64}
    post = engine.call("impute", CLASSES[engine], half_missing(FIRST), method="auto", seed=2, **options)
    assert post.attrs["chosen"] == "adaptive-gibbs"
    assert "no gradient" in post.attrs["why"]
    assert worst_moment(post.posterior["x"].values[..., 1:].astype(float), *classes_law(FIRST)) < 1


# two calls of each, of the same shapes

SMALL: dict[str, dict[str, int]] = {
    "gibbs": {"num_samples": 3, "num_warmup": 3, "num_chains": 2},
    "adaptive-gibbs": {"num_samples": 3, "num_warmup": 3, "num_chains": 2},
    "lair": {"num_samples": 3, "num_particles": 305, "num_chains": 9},
    "auto": {"num_samples": 7, "num_particles": 300, "num_chains": 3},
}


@pytest.fixture(scope="module", params=ENGINES, ids=str)
def small(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Of each method what two calls compiled, and what the first returned; the second has other data and parameters."""
    engine = request.param
    programs = [twin(TIGHT, engine, decoder=factor) for factor in (1.0, 0.9)]
    rng = np.random.default_rng(0)
    rows = [TIGHT.hide(TIGHT.draw(rng, 6), rng) for _ in range(2)]
    found: dict[str, Any] = {}
    for method, options in SMALL.items():
        posts: list[Any] = []

        def call(i: int, method: str = method, options: Any = options, posts: list[Any] = posts) -> None:
            posts.append(engine.call("impute", programs[i], rows[i], method=method, seed=i, **options))

        counts = [engine.compiled(lambda i=i, call=call: call(i)) for i in range(2)]
        found[method] = counts, posts[0]
    return found


def test_a_second_call_of_the_same_shapes_compiles_nothing(small: dict[str, Any]) -> None:
    for method, (counts, _) in small.items():
        assert counts[1] == 0, method
    assert len({bool(counts[0]) for counts, _ in small.values()}) == 1, "the count sees nothing in some"


def test_lair_says_how_many_proposals_it_made(small: dict[str, Any]) -> None:
    _, post = small["lair"]
    assert post.attrs["num_proposals"] == 310
    assert (post.sample_stats["ess"].values <= 310).all()
    assert post.posterior["x"].shape == (1, 3, 6, 5)


def test_auto_has_the_shape_of_chains_also_where_it_resamples(small: dict[str, Any]) -> None:
    _, post = small["auto"]
    assert post.attrs["chosen"] == "sir"
    assert post.posterior["x"].shape == (3, 7, 6, 5)
    assert post.posterior["z"].shape == (3, 7, 6, 2)
    assert {"ess", "pareto_k"} <= set(post.sample_stats)
