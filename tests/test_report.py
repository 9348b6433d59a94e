"""The report: one file, nothing from elsewhere, and every number with its error."""

import base64
import copy
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from deepgen import report
from deepgen.report import figures, page
from deepgen.report.references import references


def score(value: float | None, stderr: float | None = 0.01) -> dict[str, Any]:
    return {"value": value, "stderr": stderr}


def error(crps: float, draws: bool) -> dict[str, Any]:
    probs = ("0.5", "0.9", "0.95")
    return {
        "rmse": score(2 * crps),
        "mae": score(1.5 * crps),
        "crps": score(crps),
        "energy": score(3 * crps),
        "coverage": {prob: score(float(prob)) for prob in probs} if draws else None,
        "width": {prob: score(1 + float(prob)) for prob in probs} if draws else None,
        "brier": None,
        "accuracy": None,
        "cells": 100,
        "rows": 20,
    }


@pytest.fixture
def metrics() -> dict[str, Any]:
    curve = {"nominal": [0.25, 0.5, 0.75], "empirical": [0.3, 0.5, 0.7], "stderr": [0.01, 0.02, 0.01]}
    return {
        "settings": {"family": "vae", "source": "digits", "engine": "pyro", "seed": 0, "likelihood": None},
        "recipe": {"family": "vae", "title": "variational autoencoder", "grey": "fractions"},
        "plan": {"missing": 0.5, "rows": 20, "method": None},
        "data": {
            "name": "digits",
            "description": "Digits <of> 4 pixels",
            "support": "unit_interval",
            "columns": None,
            "rows": {"train": 100, "validation": 10, "test": 20},
        },
        "fit": {
            "steps": 50,
            "stopped": "steps",
            "missing_share": 0.0,
            "objective": "evidence lower bound",
            "likelihood_law": "gaussian",
            "parameters": 1234,
        },
        "log_prob": {
            "kind": "bound",
            "num_particles": 77,
            "rows": 20,
            "mean": score(-12.345, 0.5),
            "bits_per_dim": score(1.25, 0.03),
            "monte_carlo_stderr": 0.004,
        },
        "imputation": {
            "own": "vae (pyro)",
            "method": "mcmc",
            "method_title": "Hamiltonian Monte Carlo",
            "law": "asymptotically exact",
            "options": {"num_samples": 5},
            "errors": {"mean": error(0.3, False), "vae (pyro)": error(0.1, True), "knn": error(0.2, False)},
            "left_out": ["iterative draws"],
        },
        "calibration": {"vae (pyro)": curve},
        "pit": {"edges": [0.0, 0.5, 1.0], "density": [1.1, 0.9], "stderr": [0.1, 0.1]},
        "sampler": {
            "rows": 20,
            "r_hat": {"median": 1.01, "largest": 1.25, "threshold": 1.1, "rows_above": 2},
            "pareto_k": None,
            "ess": None,
            "acceptance": {"mean": 0.81, "smallest": 0.7},
            "divergences": 3,
        },
        "predictive_checks": [
            {"statistic": "mean", "observed": 0.5, "replicated": 0.4, "sd": 0.1, "p_value": 0.2, "stderr": 0.05}
        ],
        "active_units": {"active": 1, "latents": 2, "kl": [0.9, 0.0], "variance": [0.8, 0.001]},
        "versions": {"deepgen": "0.1.0"},
        "timing": {"fit": 1.0},
    }


@pytest.fixture
def pictures() -> report.Pictures:
    rng = np.random.default_rng(0)
    truth, seen = rng.random((20, 4)), rng.random((20, 4)) < 0.5
    draws = np.where(seen, truth, rng.random((40, 20, 4)))
    return report.Pictures(
        losses=np.linspace(5, 1, 50),
        validation_steps=np.array([25, 50]),
        validation_losses=np.array([3.0, 1.5]),
        image_shape=(1, 2, 2),
        samples=rng.random((20, 4)),
        reconstructed=rng.random((10, 4)),
        truth=truth,
        seen=seen,
        draws=draws,
    )


class Resources(HTMLParser):
    """What a page would fetch, its ids, and its open tags."""

    VOID = ("meta", "img", "br", "link", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster") or (name == "href" and tag == "link"):
                self.fetched.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def external(text: str) -> list[str]:
    found = Resources(text)
    styles = re.findall(r"(?:url\(|@import)\s*[^)]*", "".join(re.findall(r"<style>(.*?)</style>", text, re.S)))
    scripts = [tag for tag in found.tags if tag in ("script", "iframe", "object", "embed")]
    return [uri for uri in found.fetched if not uri.startswith("data:")] + styles + scripts


def test_a_page_is_whole_and_fetches_nothing(metrics: dict[str, Any], pictures: report.Pictures) -> None:
    text = report.render(metrics, pictures)
    found = Resources(text)
    assert found.open == []
    assert external(text) == []
    assert len(found.fetched) == 2 + 7 + 4
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    for section in (
        *("settings", "fit", "samples", "completed", "baselines", "calibration", "likelihood"),
        *("checks", "sampler", "latents", "load", "about"),
    ):
        assert section in found.ids


@pytest.mark.parametrize(
    "planted",
    [
        '<img src="https://a.org/b.png">',
        '<link href="b.css">',
        "<script></script>",
        "<style>@import 'b.css';</style>",
        "<style>a {b: url(https://a.org)}</style>",
    ],
)
def test_planted_fetch_is_caught(planted: str, metrics: dict[str, Any], pictures: report.Pictures) -> None:
    assert external(report.render(metrics, pictures).replace("</body>", f"{planted}</body>"))


def test_embedded_pictures_can_be_read(metrics: dict[str, Any], pictures: report.Pictures) -> None:
    kinds = set()
    for uri in Resources(report.render(metrics, pictures)).fetched:
        head, _, content = uri.partition(";base64,")
        kinds.add(head)
        raw = base64.b64decode(content)
        if head == "data:image/png":
            assert raw.startswith(b"\x89PNG")
        else:
            root = ElementTree.fromstring(raw)
            assert root.tag.endswith("svg")
            references = [value for node in root.iter() for key, value in node.attrib.items() if key.endswith("href")]
            assert all(value.startswith("#") for value in references)
    assert kinds == {"data:image/png", "data:image/svg+xml"}


def test_numbers_carry_their_errors(metrics: dict[str, Any], pictures: report.Pictures) -> None:
    text = report.render(metrics, pictures)
    for expected in ("-12.35 ± 0.50", "1.250 ± 0.030", "0.100 ± 0.010", "0.500 ± 0.010", "0.200 ± 0.050"):
        assert expected in text
    for expected in ("1.010, 1.250", "2 of 20", "0.81, 0.70", "1 of 2 latents", "iterative draws"):
        assert expected in text
    assert "Digits &lt;of&gt; 4 pixels" in text
    assert "are not to be trusted yet" in text


def test_a_number_that_is_not_finite_is_a_dash(metrics: dict[str, Any], pictures: report.Pictures) -> None:
    """Strict JSON holds None for it: R-hat of chains that never meet, an error that overflowed."""
    metrics["sampler"]["r_hat"]["largest"] = None
    metrics["sampler"]["acceptance"] = {"mean": None, "smallest": None}
    metrics["log_prob"]["monte_carlo_stderr"] = None
    metrics["imputation"]["errors"]["knn"]["crps"] = score(None)
    text = report.render(metrics, pictures)
    for expected in ("1.010, –", "<dd>–, –</dd>", "alone</td><td>–</td>"):
        assert expected in text
    assert text.index("<td>mean</td>") < text.index("<td>knn</td>")


def test_a_bound_is_never_called_a_likelihood(metrics: dict[str, Any], pictures: report.Pictures) -> None:
    def claims(text: str) -> list[str]:
        """Where a number stands as the log-likelihood itself."""
        return re.findall(r"<h2>Log-likelihood</h2>|nats per row:\s*log-likelihood|<td>log p\(x\)|<td>bits per", text)

    assert claims(report.render(metrics, pictures)) == []
    exact = copy.deepcopy(metrics)
    exact["log_prob"]["kind"] = "exact"
    assert len(claims(report.render(exact, pictures))) == 4


def test_a_table_s_report_has_no_images(metrics: dict[str, Any], pictures: report.Pictures) -> None:
    table = report.Pictures(**{**vars(pictures), "image_shape": None})
    sir = {**metrics, "sampler": {**metrics["sampler"], "r_hat": None, "acceptance": None}}
    sir["sampler"]["pareto_k"] = {"median": 0.2, "largest": 0.81, "threshold": 0.7, "rows_above": 1}
    sir["sampler"]["ess"] = {"median": 100.0, "smallest": 3.5}
    text = report.render(sir, table)
    found = Resources(text)
    assert "samples" not in found.ids
    assert len(found.fetched) == 5
    assert external(text) == []
    assert "Pareto k" in text
    assert "0.2, 0.81" in text
    assert "R-hat of" not in text


def exact(metrics: dict[str, Any], name: str, **own: Any) -> dict[str, Any]:
    """The metrics of a program of another family, without latents."""
    kept = {key: value for key, value in metrics.items() if key != "active_units"}
    settings = {**metrics["settings"], "family": name}
    return {**kept, "settings": settings, "log_prob": {**metrics["log_prob"], "kind": "exact"}, **own}


def test_an_autoregressive_report_shows_the_order(metrics: dict[str, Any], pictures: report.Pictures) -> None:
    own = exact(metrics, "made", order={"steps": 4, "entries_a_step": 1, "surprise": [1.0] * 4})
    arrays = {"reconstructed": None, "places": np.arange(4.0), "surprise": np.array([0.5, 1.0, 2.0, 0.1])}
    for shape in ((1, 2, 2), None):
        text = report.render(own, report.Pictures(**{**vars(pictures), **arrays, "image_shape": shape}))
        found = Resources(text)
        assert {"order", "completed", "sampler"} <= set(found.ids)
        assert not {"latents", "normality", "path"} & set(found.ids)
        assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
        assert found.open == external(text) == []
        assert "Germain" in text
        assert "4 steps of" in text


def test_a_flow_s_report_shows_its_base_and_owns_that_nothing_was_completed(
    metrics: dict[str, Any], pictures: report.Pictures
) -> None:
    base = {"base": "normal", "dimensions": 4, "rejected": 2, "largest_correlation": 0.123}
    none = dict.fromkeys(("imputation", "calibration", "pit", "sampler"))
    own = exact(metrics, "nsf", normality=base, **none)
    rng = np.random.default_rng(1)
    arrays = {
        "reconstructed": None,
        "draws": None,
        "base_quantiles": np.linspace(-2, 2, 20),
        "base_draws": np.sort(rng.standard_normal((20, 4)), axis=0),
        "path": rng.random((5, 3, 4)),
    }
    for shape in ((1, 2, 2), None):
        text = report.render(own, report.Pictures(**{**vars(pictures), **arrays, "image_shape": shape}))
        found = Resources(text)
        assert {"normality", "path", "completed", "likelihood"} <= set(found.ids)
        assert not {"baselines", "calibration", "sampler", "order", "latents"} & set(found.ids)
        assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
        assert found.open == external(text) == []
        assert "nothing was hidden" in text
        assert "read_posterior" not in text
        assert "rejects 2 of 4" in text
        assert "0.123" in text


def test_tables_put_the_best_first_and_intervals_apart(metrics: dict[str, Any]) -> None:
    errors, intervals = page.error_tables(metrics["imputation"]["errors"])
    assert [row["name"] for row in errors["rows"]] == ["vae (pyro)", "knn", "mean"]
    assert errors["head"] == ["RMSE", "MAE", "CRPS", "energy"]
    assert [[cell["best"] for cell in row["cells"]] for row in errors["rows"]] == [[True] * 4, [False] * 4, [False] * 4]
    assert [row["name"] for row in intervals["rows"]] == ["vae (pyro)"]
    assert intervals["head"] == ["inside 50%", "width 50%", "inside 90%", "width 90%", "inside 95%", "width 95%"]
    binary = copy.deepcopy(metrics["imputation"]["errors"])
    for name, value in (("mean", 0.9), ("knn", 0.8)):
        binary[name]["accuracy"] = score(value)
    shown = page.error_tables(binary)[0]
    assert shown["head"][-1] == "accuracy"
    assert [row["cells"][-1] for row in shown["rows"]] == [
        {"text": "–", "best": False},
        {"text": "0.800 ± 0.010", "best": False},
        {"text": "0.900 ± 0.010", "best": True},
    ]


def test_texts_of_numbers() -> None:
    assert page.estimate(None) == "–"
    assert page.estimate({"value": None, "stderr": None}) == "–"
    assert page.estimate({"value": 1.23456, "stderr": None}) == "1.235"
    assert page.estimate({"value": 1.23456, "stderr": 0.012}) == "1.235 ± 0.012"
    assert [page.number(value) for value in (None, 3, 0.123456, "a")] == ["–", "3", "0.1235", "a"]


def test_pictures_are_ink_on_white_and_keep_colours() -> None:
    grey = np.array([[[0.0, 1.0]]])
    assert figures.picture(grey).tolist() == [[[1, 1, 1], [0, 0, 0]]]
    assert figures.picture(np.array([2.0, 0.5, -1.0]).reshape(3, 1, 1)).tolist() == [[[1, 0.5, 0]]]


def pixels(strip: str) -> np.ndarray:
    """The first row of pixels of a picture."""
    return imread(io.BytesIO(base64.b64decode(strip.partition(",")[2])))[0, :, :3]


def test_completed_strips_mark_what_was_hidden() -> None:
    originals = np.zeros((1, 1, 1, 2))
    observed = np.array([[[[True, False]]]])
    draws = np.zeros((4, 1, 1, 1, 2))
    draws[:2, ..., 1] = 1
    strips = figures.completed(originals, observed, draws)
    assert list(strips) == ["original", "given", "posterior mean", "posterior sd", "draw 1", "draw 2", "draw 3"]

    assert pixels(strips["given"]).round(2).tolist() == [[1, 1, 1], pytest.approx(list(figures.HIDDEN), abs=0.01)]
    assert pixels(strips["posterior mean"]).round(2).tolist()[1] == pytest.approx([0.5] * 3, abs=0.01)
    assert pixels(strips["posterior sd"]).round(2).tolist() == [[1, 1, 1], pytest.approx([0.14, 0.34, 0.65], abs=0.01)]


def test_one_wild_pixel_does_not_make_the_others_look_sure() -> None:
    draws = np.random.default_rng(0).standard_normal((50, 1, 1, 1, 200))
    draws[..., 7] *= 1000
    strips = figures.completed(np.zeros((1, 1, 1, 200)), np.zeros((1, 1, 1, 200), dtype=bool), draws)
    red = pixels(strips["posterior sd"])[:, 0]
    assert red[7] == red.min()
    assert np.median(red) < 0.5


def test_figures_are_the_same_each_time(metrics: dict[str, Any], pictures: report.Pictures) -> None:
    assert report.render(metrics, pictures) == report.render(json.loads(json.dumps(metrics)), pictures)


def test_references_follow_family_and_method() -> None:
    assert any("Neal" in line for line in references("vae", "mcmc"))
    assert not any("Neal" in line for line in references("vae", "sir"))
    assert any("Pareto" in line for line in references("vae", "sir"))
    assert any("PixelCNN" in line for line in references("pixelcnn", "smc"))
    assert any("sequential Monte Carlo" in line for line in references("pixelcnn", "smc"))
    assert any("spline" in line for line in references("nsf", None))


def test_every_recipe_names_its_papers() -> None:
    from deepgen.cli.recipes import RECIPES

    evaluation = references("", None)
    assert all(len(references(name, None)) > len(evaluation) for name in RECIPES)


def test_template_and_style_are_shipped() -> None:
    folder = Path(report.__file__).parent
    assert {"report.html", "report.css"} <= {path.name for path in folder.iterdir()}
