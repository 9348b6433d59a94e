"""Gibbs sampling with the guide as proposal: its ratio, its law from the target on, and where each kind is wrong."""

import importlib
import math
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from engines import ENGINES
from handmade import TWO_MODES, half_missing, two_modes_law
from montecarlo import RATE, worst_moment
from registry import ORACLES, oracle_program, twin
from scipy import stats
from test_oracle import OPTIONS, data, imputed, worst_of_imputation

from deepgen.inference.imputation.gibbs import metropolis
from deepgen.inference.imputation.methods import METHODS

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
TIGHT = next(oracle for oracle in ORACLES if oracle.tight)
LOOSE = next(oracle for oracle in ORACLES if oracle.quick and not oracle.tight)
METHOD = pytest.mark.parametrize("method", [name for name, rule in metropolis.RULES.items() if rule.corrected])
UNCORRECTED = "pseudo-gibbs"


def room(engine: Any) -> Any:
    return importlib.import_module(f"deepgen.inference.imputation.gibbs.{engine.name}")


# mathematics


def test_the_mixture_is_a_density() -> None:
    grid = np.linspace(-30, 30, 20_001)
    guide, prior = stats.norm.logpdf(grid, 2.0, 0.3), stats.norm.logpdf(grid)
    found = np.exp(metropolis.log_mixture(guide, prior))
    np.testing.assert_allclose(found, 0.95 * np.exp(guide) + 0.05 * np.exp(prior), rtol=1e-12)
    assert np.trapezoid(found, grid) == pytest.approx(1, abs=1e-9)
    assert np.isfinite(metropolis.log_mixture(np.array([-np.inf]), prior[:1])).all()


def test_the_ratio_balances() -> None:
    """p(a) q(b) min(1, r(a, b)) is symmetric in a and b; without q it is not."""
    rng = np.random.default_rng(0)
    target, proposal = rng.standard_normal((2, 50)), rng.standard_normal((2, 50))

    def flow(target: np.ndarray, proposal: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """From the second to the first."""
        return target[1] + proposal[0] + np.log(metropolis.accept_prob(ratio))

    there = flow(target, proposal, metropolis.log_ratio(target, proposal))
    back = flow(target[::-1], proposal[::-1], metropolis.log_ratio(target[::-1], proposal[::-1]))
    np.testing.assert_allclose(there, back, atol=1e-12)
    planted = flow(target, proposal, target[0] - target[1]) - flow(target[::-1], proposal[::-1], target[1] - target[0])
    assert np.abs(planted).max() > 0.1


def test_what_is_impossible_is_never_accepted() -> None:
    target = np.array([[-np.inf, np.nan, -np.inf], [-1.0, -2.0, -np.inf]])
    with np.errstate(invalid="ignore"):
        ratio = metropolis.log_ratio(target, np.zeros((2, 3)))
    assert (ratio == -np.inf).all()
    assert not metropolis.accepts(np.zeros(3), ratio).any()
    assert metropolis.accepts(np.full(1, 1 - 1e-16), np.zeros(1)).all(), "a ratio of one is always accepted"


def test_places_are_even_and_inside() -> None:
    uniform = np.random.default_rng(0).random(30_000)
    found = metropolis.place(uniform, np.full(len(uniform), 3))
    assert stats.chisquare(np.bincount(found, minlength=3)).pvalue > RATE
    last = metropolis.place(np.array([np.float32(1 - 2**-24)]), np.array([2**25], dtype=np.int32))
    assert last < 2**25


def test_the_history_is_released_when_the_chain_moves() -> None:
    """The proposal never knows an imputation made from where the chain is."""
    accepted = np.array([[False, True, False, False, True], [True, True, False, True, False]]).T
    available, origin = np.ones(2, dtype=int), [np.full(2, -1)]
    moved = np.zeros(2, dtype=int)
    for i, step in enumerate(accepted):
        available = metropolis.released(step, available, i + 1)
        moved = np.where(step, i, moved)
        origin.append(moved.copy())
        for chain in range(2):
            known = [origin[place][chain] for place in range(available[chain])]
            assert not step.any() or moved[chain] not in known or moved[chain] == 0
    assert available.tolist() == [5, 4]


# from the target on


@BOTH
@METHOD
def test_exact_draws_stay_exact(engine: Any, method: str) -> None:
    """Whatever the guide: here it is half of what it should be. Uncorrected it shows at once."""
    oracle, program = TIGHT, twin(TIGHT, engine, encoder=0.5)
    _, holes = data(oracle, rows=16)
    holes = holes[-4:]
    mean, covariance = oracle.posterior(holes)["z"]
    chains, steps = 3000, 3
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((2 * chains, *mean.shape))
    start = (mean + np.einsum("nij,cnj->cni", np.linalg.cholesky(covariance), noise)).astype(np.float32)

    def laws(method: str, share: float) -> list[float]:
        rule = metropolis.RULES[method]
        x, observed = engine.array(holes), engine.array(~np.isnan(holes))
        at = {"z": engine.array(start[: chains * (1 + rule.adaptive)] * np.float32(share))}
        drawn, latents, _, _ = engine.call(
            room(engine).run, program, x, observed, at, rule=rule, num_warmup=0, num_samples=steps, progress=False
        )
        values = np.asarray(latents["z"], dtype=float), np.asarray(drawn, dtype=float)
        found = oracle.posterior(holes)["z"], oracle.conditional(holes)
        return [
            max(worst_moment(value[k][:, None], *law) for value, law in zip(values, found, strict=True))
            for k in range(steps)
        ]

    # the history of the adaptive method remembers where the chain has been: exact at first, then in the limit
    exact = 1 if metropolis.RULES[method].adaptive else steps
    assert max(laws(method, 1.0)[:exact]) < 1
    assert laws(method, 0.8)[0] > 1, "a start from elsewhere is not seen"
    assert max(laws(UNCORRECTED, 1.0)) > 1


@BOTH
def test_a_ratio_without_the_proposal_shows(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metropolis, "log_ratio", lambda target, proposal: target[0] - target[1])
    _, holes = data(LOOSE)
    # a number of draws of its own: nothing else must meet what is compiled here
    options = OPTIONS["gibbs"] | {"num_samples": 162}
    post = engine.call("impute", oracle_program(LOOSE, engine), holes, method="gibbs", seed=3, **options)
    assert worst_of_imputation(LOOSE, post, holes) > 1


# the same numbers in both engines


@pytest.mark.parametrize("method", metropolis.RULES)
def test_a_step_is_the_same_in_both_engines(method: str) -> None:
    rng = np.random.default_rng(2)
    x, holes = data(TIGHT, rows=32)
    source = np.where(np.isnan(holes), rng.standard_normal(x.shape), holes).astype(np.float32)
    latents = {"z": rng.standard_normal((len(x), 2)).astype(np.float32)}
    uniforms = rng.random((3, len(x))).astype(np.float32)
    uniforms[1, ::3] /= 40
    rule, found = metropolis.RULES[method], []
    for engine in ENGINES:
        program = twin(TIGHT, engine, encoder=0.7)
        methods = room(engine)
        rows = methods.Rows(program, engine.array(np.nan_to_num(holes)), engine.array(~np.isnan(holes)))
        noise = metropolis.Noise(*map(engine.array, uniforms))
        with pyro.get_param_store().scope(), torch.no_grad():
            at = {name: engine.array(value) for name, value in latents.items()}
            state = engine.on_tape(8, methods.init, rows, at)
            new, accepted, prob = engine.on_tape(
                9, methods.step_with_noise, noise, rows, state, engine.array(source), rule
            )
        found.append([np.asarray(part) for part in (new.latents["z"], new.x, new.log_joint, accepted, prob)])
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(first, second, rtol=2e-5, atol=2e-5)
    accepted = found[0][3]
    assert accepted.all() != rule.corrected
    np.testing.assert_array_equal((found[0][0] == latents["z"]).all(1), ~accepted)


# where each is wrong, and says so


@BOTH
def test_pseudo_gibbs_is_wrong_where_the_guide_is(engine: Any) -> None:
    _, holes = data(LOOSE)
    program, options = oracle_program(LOOSE, engine), OPTIONS["gibbs"]
    post = engine.call("impute", program, holes, method=UNCORRECTED, seed=3, **options)
    assert worst_of_imputation(LOOSE, post, holes) > 1
    assert post.attrs["law"] == METHODS[UNCORRECTED].law == "approximate"
    assert "without correction" in post.attrs["method_title"]
    assert "acceptance_rate" not in post.sample_stats
    assert worst_of_imputation(LOOSE, imputed(LOOSE, engine, "gibbs"), holes) < 1


@BOTH
def test_chains_say_how_they_moved(engine: Any) -> None:
    post = imputed(LOOSE, engine, "gibbs")
    chains, draws, rows = OPTIONS["gibbs"]["num_chains"], OPTIONS["gibbs"]["num_samples"], post.posterior.sizes["row"]
    assert post.sample_stats["acceptance_rate"].shape == (chains, rows)
    assert post.sample_stats["lp"].shape == (chains, draws, rows)
    assert post.sample_stats["r_hat"].shape == (rows,)
    rate = post.sample_stats["acceptance_rate"].values
    assert 0.2 < rate.mean() < 0.95
    z = post.posterior["z"].values
    moved = (np.diff(z, axis=1) != 0).any(-1).mean()
    assert moved == pytest.approx(rate.mean(), abs=4 * math.sqrt(0.25 / rate.size / (draws - 1)))
    # lp is log p(x_observed, z): for nothing but the latent, the marginal is the mean of exp(lp) / posterior
    tight = imputed(TIGHT, engine, "gibbs")
    _, holes = data(TIGHT)
    mean, covariance = TIGHT.posterior(holes)["z"]
    values = tight.posterior["z"].values[0, 0]
    log_posterior = [
        stats.multivariate_normal.logpdf(v, m, c) for v, m, c in zip(values, mean, covariance, strict=True)
    ]
    expected = np.array(log_posterior) + TIGHT.log_prob(holes)
    np.testing.assert_allclose(tight.sample_stats["lp"].values[0, 0], expected, atol=1e-3)


STUCK = {
    "gibbs": {"num_warmup": 300, "num_samples": 300, "num_chains": 20},
    "adaptive-gibbs": {"num_warmup": 1500, "num_samples": 400, "num_chains": 20},
    "lair": {"num_particles": 4000, "num_samples": 1000, "num_chains": 9},
}


@BOTH
@pytest.mark.filterwarnings("ignore:the importance weights of:UserWarning")
def test_the_adaptive_methods_find_the_mode_that_the_guide_does_not_know(engine: Any) -> None:
    """Plain Gibbs stays in the mode where the guide puts it, and its chains agree."""
    first = np.array([1.6, 2.0])
    law = two_modes_law(first)
    score, post = {}, {}
    for method, options in STUCK.items():
        post[method] = engine.call("impute", TWO_MODES[engine], half_missing(first), method=method, seed=1, **options)
        draws = post[method].posterior["x"].values[..., 1:].astype(float)
        stats_ = post[method].sample_stats
        score[method] = worst_moment(draws, *law, stats_["ess"].values if "ess" in stats_ else np.inf)
    assert score["gibbs"] > 5
    assert post["gibbs"].sample_stats["r_hat"].max() < 1.1
    assert score["adaptive-gibbs"] < 1
    assert score["lair"] < 1
