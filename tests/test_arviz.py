"""Predictive checks, comparison by ArviZ, and posteriors as files.

Statistical bounds: 4.5 standard errors (a failure rate below 1e-5 a check) or p > 1e-5, at fixed seeds; each such check
has a twin with a planted bug that it must see.
"""

import os
import re

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scoring import BOUND, NormalWithHoles

from deepgen import evaluation as ev
from deepgen.data import hide

# ArviZ 0.23 uses what pandas 3.1 and matplotlib 3.11 deprecate.
arviz_compare = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")
arviz_plot = pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping")


@pytest.fixture(scope="module")
def oracle():
    return NormalWithHoles()


def test_ppc_statistics_by_brute_force():
    rng = np.random.default_rng(0)
    x, x_rep = rng.poisson(1.0, (30, 3)).astype(float), rng.poisson(1.0, (50, 30, 3)).astype(float)
    table = ev.ppc(x, x_rep, statistics=list(ev.STATISTICS), columns=["a", "b", "c"]).set_index(
        ["statistic", "component"]
    )
    expected = {
        "mean": (x.mean(), x_rep.mean((1, 2))),
        "sd": (x.std(), x_rep.std((1, 2))),
        "min": (x.min(), x_rep.min((1, 2))),
        "max": (x.max(), x_rep.max((1, 2))),
        "zero share": ((x == 0).mean(), (x_rep == 0).mean((1, 2))),
    }
    for name, (truth, drawn) in expected.items():
        row = table.loc[(name, "")]
        assert row["observed"] == pytest.approx(truth)
        assert row["replicated"] == pytest.approx(drawn.mean())
        assert row["p_value"] == pytest.approx(((drawn > truth) + 0.5 * (drawn == truth)).mean())
        assert 0 < row["stderr"] < 0.08
    assert table.loc[("column mean", "b"), "observed"] == pytest.approx(x[:, 1].mean())
    correlation = np.corrcoef(x.T)
    assert table.loc[("correlation", "a, c"), "observed"] == pytest.approx(correlation[0, 2])
    drawn = np.array([np.corrcoef(rep.T)[1, 2] for rep in x_rep])
    assert table.loc[("correlation", "b, c"), "p_value"] == pytest.approx((drawn > correlation[1, 2]).mean())


def test_ppc_finds_the_statistic_that_a_program_misses():
    rng = np.random.default_rng(0)
    x = np.where(rng.random((200, 2)) < 0.4, 0.0, rng.gamma(2.0, 1.0, (200, 2)))
    x_rep = rng.normal(x.mean(), x.std(), (400, 200, 2))
    table = ev.ppc(x, x_rep).set_index("statistic")["p_value"]
    assert table["zero share"] == 0
    assert table["min"] == 0
    assert 0.1 < table["mean"] < 0.9


def test_replicates_are_masked_like_the_data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    x[:, 2] += 10
    x_rep = rng.normal([0, 0, 10], 1, (60, 40, 3))
    observed = np.ones(x.shape, bool)
    observed[:30, 2] = False
    holes = hide(x, observed)
    table = ev.ppc(holes, x_rep, statistics=["mean", "correlation", "zero share"]).set_index(["statistic", "component"])
    assert table.loc[("mean", ""), "replicated"] == pytest.approx(x_rep[:, observed].mean())
    assert table.loc[("correlation", "0, 2"), "observed"] == pytest.approx(np.corrcoef(x[30:, 0], x[30:, 2])[0, 1])
    own = ev.ppc(x, x_rep, statistics={"first": lambda a: a[:, 0, 0]})
    assert own["observed"].item() == x[0, 0]
    constant = ev.ppc(np.ones((5, 2)), x_rep[:, :5, :2], statistics=["correlation"])
    assert np.isnan(constant["p_value"].item())


@arviz_plot
def test_ppc_data_is_drawn_by_arviz():
    import arviz as az
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(0)
    idata = ev.ppc_data(rng.standard_normal((50, 2)), rng.standard_normal((20, 50, 2)), columns=["a", "b"])
    assert idata.posterior_predictive["x"].dims == ("chain", "draw", "row", "column")
    axes = az.plot_ppc(idata, num_pp_samples=10, random_seed=0)
    assert axes is not None
    plt.close("all")


def test_predictive_checks_refuse():
    x = np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"x_rep: got shape \(3, 5, 2\) for data of shape \(4, 2\)"):
        ev.ppc(x, np.zeros((3, 5, 2)))
    with pytest.raises(ValueError, match="with NaN"):
        ev.ppc(x, np.full((3, 4, 2), np.nan))
    with pytest.raises(ValueError, match=r"statistics: got \['median'\]"):
        ev.ppc(x, np.zeros((3, 4, 2)), statistics=["median"])
    with pytest.raises(ValueError, match=r"statistic 'all': got shapes \(\) and \(\)"):
        ev.ppc(x, np.zeros((3, 4, 2)), statistics={"all": np.sum})
    with pytest.raises(ValueError, match=r"x_rep: got shape .* complete data"):
        ev.ppc_data(np.full((4, 2), np.nan), np.zeros((3, 4, 2)))


def normal_posterior(y, sd, seed, chains=4, draws=1000):
    """Draws of the mean of N(μ, sd²) data under a flat prior, and their pointwise log-likelihood."""
    rng = np.random.default_rng(seed)
    mu = rng.normal(y.mean(), sd / np.sqrt(len(y)), (chains, draws))
    return mu, stats.norm.logpdf(y, mu[..., None], sd)


def exact_loo(y, sd):
    n = len(y)
    without = (y.sum() - y) / (n - 1)
    return stats.norm.logpdf(y, without, sd * np.sqrt(1 + 1 / (n - 1)))


@arviz_compare
def test_loo_is_the_closed_form():
    import arviz as az

    y = np.random.default_rng(0).normal(1, 1, 60)
    scores = {}
    for name, sd in (("right", 1.0), ("wide", 2.0)):
        mu, log_likelihood = normal_posterior(y, sd, seed=1)
        scores[name] = ev.to_loo(log_likelihood, posterior={"mu": mu})
        found = az.loo(scores[name])
        assert found.elpd_loo == pytest.approx(exact_loo(y, sd).sum(), abs=0.05)
    table = az.compare(scores)
    expected = exact_loo(y, 1.0).sum() - exact_loo(y, 2.0).sum()
    assert table.loc["wide", "elpd_diff"] == pytest.approx(expected, abs=0.05)
    assert abs(normal_posterior(y, 1.0, 1)[1].mean((0, 1)).sum() - exact_loo(y, 1.0).sum()) > 0.05
    assert "total_log_likelihood" in ev.to_loo(log_likelihood).posterior


@arviz_compare
def test_held_out_rows_compare_exactly():
    import arviz as az

    y = np.random.default_rng(0).normal(0, 1, 80)
    a, b = stats.norm.logpdf(y, 0, 1), stats.norm.logpdf(y, 0.5, 1)
    table = az.compare({"b": ev.held_out_elpd(b), "a": ev.held_out_elpd(a)})
    assert table.loc["b", "elpd_diff"] == pytest.approx((a - b).sum(), rel=1e-12)
    assert table.loc["b", "dse"] == pytest.approx(np.sqrt(80) * (a - b).std())
    assert table.index[0] == "a"
    assert "elpd_loo" in repr(ev.held_out_elpd(a))


def test_replicated_estimates_are_no_posterior():
    """What the docstring of to_loo warns of: noise of variance σ² costs σ² a row and poses as parameters."""
    import arviz as az

    rng = np.random.default_rng(0)
    exact, sigma = rng.normal(-5, 1, 200), 0.3
    noisy = exact - sigma**2 / 2 + sigma * rng.standard_normal((4, 1000, 200))
    found = az.loo(ev.to_loo(noisy))
    error = BOUND * np.sqrt(200 / 4000) * 2 * sigma
    assert found.elpd_loo - exact.sum() == pytest.approx(-200 * sigma**2, abs=error)
    assert found.p_loo == pytest.approx(200 * sigma**2, abs=error)
    averaged = np.log(np.exp(noisy).mean((0, 1)))
    assert ev.held_out_elpd(averaged).elpd_loo == pytest.approx(exact.sum(), abs=error)


def test_comparison_refuses():
    with pytest.raises(ValueError, match=r"log_likelihood: got shape \(5, 3\)"):
        ev.to_loo(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="with values that are not finite"):
        ev.to_loo(np.full((1, 5, 3), -np.inf))
    with pytest.raises(ValueError, match=r"posterior: got .* expected 1 chains of 5 draws"):
        ev.to_loo(np.zeros((1, 5, 3)), posterior={"mu": np.zeros((1, 4))})
    with pytest.raises(ValueError, match=r"log_prob: got shape \(1,\)"):
        ev.held_out_elpd(np.zeros(1))


def test_a_posterior_is_written_and_read_whole(tmp_path, oracle):
    path = tmp_path / "posterior.nc"
    columns = ["å", "b", "c", "d"]
    written = ev.posterior_of(
        oracle.draws[None, :30], oracle.observed, columns=columns, attrs={"method": "mcmc", "law": "exact"}
    )
    ev.write_posterior(written, path)
    path.chmod(0o444)
    found = ev.read_posterior(path)
    assert found.groups() == written.groups()
    assert found.attrs == written.attrs
    for group in written.groups():
        xr.testing.assert_identical(found[group], written[group])
    np.testing.assert_array_equal(found.posterior["x"], written.posterior["x"])
    written.to_netcdf(str(tmp_path / "plain.nc"), engine="h5netcdf", compress=False)
    assert path.stat().st_size < 0.8 * (tmp_path / "plain.nc").stat().st_size
    (tmp_path / "plain.nc").unlink()
    assert os.listdir(tmp_path) == ["posterior.nc"]
    ev.write_posterior(written, path)
    for shape, dims in (((2, 3, 4), ("channel", "height", "width")), ((5,), ("x_dim_0",))):
        image = ev.posterior_of(np.zeros((1, 2, 3, *shape)), np.ones((3, *shape), bool))
        assert image.posterior["x"].dims == ("chain", "draw", "row", *dims)


def test_a_posterior_that_cannot_be_written_leaves_nothing(tmp_path, oracle, monkeypatch):
    posterior = ev.posterior_of(oracle.draws[None, :2], oracle.observed, attrs={"settings": {"a": 1}})
    with pytest.raises(ValueError, match=r"attribute 'settings' of the posterior: got \{'a': 1\}"):
        ev.write_posterior(posterior, tmp_path / "a.nc")
    with pytest.raises(FileNotFoundError, match=re.escape(f"the folder {str(tmp_path / 'b')!r} does not exist")):
        ev.write_posterior(posterior, tmp_path / "b" / "a.nc")
    good = ev.posterior_of(oracle.draws[None, :2], oracle.observed)
    ev.write_posterior(good, tmp_path / "a.nc")
    before = (tmp_path / "a.nc").read_bytes()

    def cut_short(self, filename, **_):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("arviz.InferenceData.to_netcdf", cut_short)
    with pytest.raises(OSError, match="disk full"):
        ev.write_posterior(good, tmp_path / "a.nc")
    assert os.listdir(tmp_path) == ["a.nc"]
    assert (tmp_path / "a.nc").read_bytes() == before


def test_a_broken_posterior_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="posterior: there is no file"):
        ev.read_posterior(tmp_path / "a.nc")
    (tmp_path / "a.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match="got a file that cannot be read"):
        ev.read_posterior(tmp_path / "a.nc")
