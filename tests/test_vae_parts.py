"""The parts a VAE is made of: priors, posteriors, and the linear-Gaussian start of a table's program."""

from typing import Any

import numpy as np
import pytest
from engines import ENGINES
from scipy import stats
from scipy.special import logsumexp

from deepgen.math.gaussian import fit_gaussian
from deepgen.models.vae import linear, posterior, prior, recipe

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)


def holey(n: int = 80, d: int = 5, seed: int = 0) -> np.ndarray:
    """Correlated rows with holes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2)) @ rng.standard_normal((2, d)) + 0.4 * rng.standard_normal((n, d)) + 1.0
    hidden = rng.random((n, d)) < 0.4
    hidden[np.arange(n), rng.integers(d, size=n)] = False
    return np.where(hidden, np.nan, x).astype(np.float32)


def bent(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows on a parabola, which no normal fits, and the same with holes."""
    rng = np.random.default_rng(seed)
    t = rng.standard_normal(n)
    x = np.stack([t, t**2 - 1, np.abs(t) - 0.8], axis=1) + 0.1 * rng.standard_normal((n, 3))
    hidden = np.zeros(x.shape, dtype=bool)
    hidden[np.arange(n), rng.integers(3, size=n)] = True
    return x.astype(np.float32), np.where(hidden, np.nan, x).astype(np.float32)


def spread(covariance: np.ndarray) -> np.ndarray:
    return np.sqrt(np.diag(covariance))


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_loadings_are_exact_with_as_many_latents_as_columns(share: float) -> None:
    covariance = np.cov(np.random.default_rng(0).standard_normal((20, 6)).T)
    weight, residual = linear.loadings(covariance, 6, share=share)
    np.testing.assert_allclose(weight @ weight.T + np.diag(residual), covariance, atol=1e-10)
    assert (residual > 0).all()


def test_fewer_latents_are_the_factor_analysis() -> None:
    rng = np.random.default_rng(1)
    true = rng.standard_normal((7, 2))
    covariance = true @ true.T + np.diag(rng.uniform(0.3, 1.0, 7))
    weight, residual = linear.loadings(covariance, 2)
    np.testing.assert_allclose(weight @ weight.T + np.diag(residual), covariance, atol=1e-3)
    one, left = linear.loadings(covariance, 1)
    np.testing.assert_allclose(np.diag(one @ one.T) + left, np.diag(covariance), rtol=1e-6)


def test_evidence_is_the_gaussian_posterior() -> None:
    rng = np.random.default_rng(2)
    weight, bias, residual = rng.standard_normal((5, 2)), rng.standard_normal(5), rng.uniform(0.3, 1.0, 5)
    features, observed = rng.standard_normal((4, 5)), (rng.random((4, 5)) < 0.6).astype(float)
    precision, potential = linear.evidence(features, observed, weight, bias, residual)
    for row in range(4):
        seen = observed[row] > 0
        block = weight[seen] @ weight[seen].T + np.diag(residual[seen])
        mean = weight[seen].T @ np.linalg.solve(block, features[row, seen] - bias[seen])
        left = np.eye(2) - weight[seen].T @ np.linalg.solve(block, weight[seen])
        np.testing.assert_allclose(np.linalg.solve(precision[row], potential[row]), mean, atol=1e-10)
        np.testing.assert_allclose(np.linalg.inv(precision[row]), left, atol=1e-10)


@BOTH
def test_a_table_starts_as_the_normal_of_em(engine: Any) -> None:
    x = holey()
    program = engine.call(engine.face.VAE.table, x, hidden=(8,))
    found = engine.call("log_prob", program, x, num_particles=5)
    np.testing.assert_allclose(found.value, fit_gaussian(x).log_prob(x.astype(float)), atol=2e-4)
    # every draw of the guide has the same weight, as it is the exact posterior whatever is missing
    assert np.max(found.stderr) < 1e-3


@BOTH
def test_a_wrong_residual_would_show(engine: Any) -> None:
    x = holey()
    program = engine.call(engine.face.VAE.table, x, hidden=(8,))
    tensors = engine.tensors(program)
    wrong = engine.with_tensors(program, {**tensors, "posterior.raw_scale": tensors["posterior.raw_scale"] + 0.5})
    assert np.max(engine.call("log_prob", wrong, x, num_particles=5).stderr) > 1e-2


@BOTH
@pytest.mark.parametrize("dim", [1, 3])
def test_full_covariance_is_read_from_the_encoder(engine: Any, dim: int) -> None:
    program = engine.call(engine.face.VAE.mlp, (4,), dim, "gaussian", hidden=(6,), posterior="full")
    assert program.spec()["encoder"]["out_size"] == dim * (dim + 3) // 2
    assert posterior.latent_dim(dim * (dim + 3) // 2) == dim
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    q = program.posterior_of(engine.array(x))
    root = np.asarray(q.scale_tril.tolist())
    np.testing.assert_allclose(root, np.tril(root))
    loc, scale = engine.encode(program, x)
    np.testing.assert_allclose(scale, [spread(tril @ tril.T) for tril in root], rtol=1e-4)
    assert (np.diagonal(root, axis1=1, axis2=2) > 0).all()
    assert loc.shape == (3, dim)


def log_mixture(z: np.ndarray, logits: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    parts = stats.norm.logpdf(z[:, None], loc, scale).sum(-1)
    return logsumexp(parts + logits - logsumexp(logits), axis=1)


@BOTH
def test_the_mixture_prior_is_a_mixture_of_normals(engine: Any) -> None:
    program = engine.call(engine.face.VAE.mlp, (4,), 2, "gaussian", hidden=(6,), prior="mixture", num_components=3)
    rng = np.random.default_rng(0)
    tensors = engine.tensors(program)
    tensors |= {"prior.logits": np.array([0.5, -1.0, 0.2], np.float32)}
    program = engine.with_tensors(program, tensors)
    z, x = rng.standard_normal((6, 2)).astype(np.float32), rng.standard_normal((6, 4)).astype(np.float32)
    joint = engine.log_joint(program, {"z": z}, x)
    plain = engine.call(engine.face.VAE.mlp, (4,), 2, "gaussian", hidden=(6,))
    same = {name: value for name, value in tensors.items() if not name.startswith("prior.")}
    reference = engine.log_joint(engine.with_tensors(plain, same), {"z": z}, x)
    scale = posterior.scale(tensors["prior.raw_scale"])
    expected = log_mixture(z, tensors["prior.logits"], tensors["prior.loc"], scale)
    expected -= stats.norm.logpdf(z).sum(-1)
    np.testing.assert_allclose(joint - reference, expected, atol=1e-4)
    np.testing.assert_allclose(posterior.scale(np.array(prior.unit_scale())), 1.0, atol=1e-6)


@BOTH
def test_the_vamp_prior_is_a_mixture_of_posteriors(engine: Any) -> None:
    x = holey(30, 4)
    make = engine.face.VAE.mlp
    program = engine.call(make, (4,), 2, "gaussian", hidden=(6,), prior="vamp", num_components=3, data=x)
    tensors = engine.tensors(program)
    pseudo = tensors["prior.pseudo_inputs"]
    assert pseudo.shape == (3, 4)
    loc, scale = engine.encode(program, pseudo)
    rng = np.random.default_rng(0)
    z, row = rng.standard_normal((6, 2)).astype(np.float32), rng.standard_normal((6, 4)).astype(np.float32)
    plain = engine.call(make, (4,), 2, "gaussian", hidden=(6,), data=x)
    same = {name: value for name, value in tensors.items() if not name.startswith("prior.")}
    reference = engine.log_joint(engine.with_tensors(plain, same), {"z": z}, row)
    expected = log_mixture(z, np.zeros(3), loc, scale) - stats.norm.logpdf(z).sum(-1)
    np.testing.assert_allclose(engine.log_joint(program, {"z": z}, row) - reference, expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:the importance weights of")
@BOTH
def test_fit_table_beats_the_normal_on_a_parabola(engine: Any) -> None:
    x, hidden = bent()
    start = engine.call(engine.face.VAE.table, hidden)
    fit = engine.call(
        "fit_table", hidden, steps=300, num_particles=4, hidden=(16, 16), learning_rate=5e-3, progress=False
    )
    before, after = (
        engine.call("log_prob", program, hidden, num_particles=100).value.mean() for program in (start, fit.program)
    )
    assert after > before + 0.3
    missing = np.isnan(hidden)
    done = engine.call("impute", fit.program, hidden, method="sir", num_samples=100, num_particles=500, progress=False)
    error = np.sqrt(np.mean((done.posterior["x"].values[0].mean(0) - x)[missing] ** 2))
    normal = fit_gaussian(hidden).sample(hidden.astype(float), 100, seed=0).mean(0)
    assert error < 0.97 * np.sqrt(np.mean((normal - x)[missing] ** 2))


def test_pseudo_rows_have_the_holes_of_the_data() -> None:
    x = holey()
    rows = recipe.with_holes(np.zeros((500, 5), np.float32), x, seed=0)
    patterns = {tuple(row) for row in np.isnan(x)}
    assert {tuple(row) for row in np.isnan(rows)} <= patterns
    np.testing.assert_allclose(np.isnan(rows).mean(), np.isnan(x).mean(), atol=0.05)


def test_split_holds_out_a_share() -> None:
    x = holey()
    train, held = recipe.split(x, 0.25, 0)
    assert len(held) == 20
    assert len(train) == 60
    both = np.concatenate([train, held])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(x, axis=0))


@BOTH
def test_what_a_table_refuses(engine: Any) -> None:
    table = engine.face.VAE.table
    with pytest.raises(ValueError, match=r"latent_dim: got 6; expected at most the number of features, 5"):
        engine.call(table, holey(), latent_dim=6)
    with pytest.raises(ValueError, match=r"linear-Gaussian start"):
        engine.call(table, (holey(30) > 1).astype(np.float32), likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"x: got 10 rows; expected at least 20"):
        engine.call("fit_table", holey(10), progress=False)
    with pytest.raises(ValueError, match=r"validation: got 0.9; expected a share above 0, at most 0.5"):
        engine.call("fit_table", holey(), validation=0.9)
    with pytest.raises(ValueError, match=r"pseudo_rows: got -1"):
        engine.call("fit_table", holey(), pseudo_rows=-1)


@BOTH
def test_what_priors_and_posteriors_refuse(engine: Any) -> None:
    make = engine.face.VAE.mlp
    with pytest.raises(ValueError, match=r"posterior: got 'diag'; expected one of"):
        engine.call(make, (4,), 2, posterior="diag")
    with pytest.raises(ValueError, match=r"prior: got 'normal'; expected one of"):
        engine.call(make, (4,), 2, prior="normal")
    with pytest.raises(ValueError, match=r"num_components: got 3; expected None with prior='standard'"):
        engine.call(make, (4,), 2, num_components=3)
    with pytest.raises(ValueError, match=r"num_components: got None; expected a number >= 2"):
        engine.call(make, (4,), 2, prior="vamp")
    with pytest.raises(ValueError, match=r"share: got 1.5; expected a number between 0 and 1"):
        linear.loadings(np.eye(3), 3, share=1.5)
