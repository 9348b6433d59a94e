"""A report's page: numbers from the metrics, pictures from the arrays, put into the template."""

import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from deepgen.evaluation import Estimate
from deepgen.report import figures, views
from deepgen.report.pictures import Pictures
from deepgen.report.references import references

SAMPLES, SHOWN = 60, 10
SCORES = {"rmse": "RMSE", "mae": "MAE", "crps": "CRPS", "energy": "energy", "brier": "Brier", "accuracy": "accuracy"}


def render(metrics: Mapping[str, Any], pictures: Pictures) -> str:
    """The report as one HTML page that needs nothing else.

    Args:
        metrics: what ``metrics.json`` holds.
        pictures: the arrays to draw.

    Returns:
        The page.
    """
    from jinja2 import Environment, StrictUndefined

    done = metrics["imputation"]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"estimate": estimate, "number": number}
    template, style = ((files("deepgen.report") / name).read_text("utf-8") for name in ("report.html", "report.css"))
    return environment.from_string(template).render(
        style=style,
        m=metrics,
        shown=_figures(metrics, pictures),
        tables=error_tables(done["errors"]) if done else [],
        references=references(metrics["settings"]["family"], done["method"] if done else None),
        settings=_flat(metrics["settings"] | {key: v for key, v in metrics["plan"].items() if v is not None}),
        image=pictures.image_shape is not None,
        is_bound=metrics["log_prob"]["kind"] == "bound",
    )


def estimate(score: Mapping[str, Any] | None) -> str:
    """A {"value", "stderr"} as text, a dash where there is none."""
    if score is None or score["value"] is None:
        return "–"
    return str(Estimate(score["value"], float("nan") if score["stderr"] is None else score["stderr"]))


def number(value: Any, form: str = ".4g") -> str:
    """A number as text, of a float by default four digits that count; a dash where there is none."""
    if value is None:
        return "–"
    return format(value, form) if isinstance(value, float) else str(value)


def error_tables(errors: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables against the baselines, best CRPS first: errors of all methods, then intervals of those that have any.

    Args:
        errors: by method, what ``ImputationError.to_dict`` gave.

    Returns:
        For each table ``head``, and ``rows`` of a name and cells; a cell has a text and whether it is the best of its
        column.
    """

    def known(score: Any) -> bool:
        return score is not None and score["value"] is not None

    ranked = sorted(
        errors.items(), key=lambda item: math.inf if item[1]["crps"]["value"] is None else item[1]["crps"]["value"]
    )
    scores = [name for name in SCORES if any(error[name] is not None for error in errors.values())]
    best = {
        name: choose((error[name]["value"] for error in errors.values() if known(error[name])), default=None)
        for name in scores
        for choose in [max if name == "accuracy" else min]
    }
    first = [
        {
            "name": name,
            "cells": [
                {"text": estimate(error[s]), "best": known(error[s]) and error[s]["value"] == best[s]} for s in scores
            ],
        }
        for name, error in ranked
    ]
    probs = sorted({prob for error in errors.values() for prob in error["coverage"] or {}}, key=float)
    second = [
        {
            "name": name,
            "cells": [
                {"text": estimate(error[kind][prob]), "best": False} for prob in probs for kind in ("coverage", "width")
            ],
        }
        for name, error in ranked
        if error["coverage"]
    ]
    return [
        {"head": [SCORES[name] for name in scores], "rows": first},
        {"head": [f"{kind} {float(prob):.0%}" for prob in probs for kind in ("inside", "width")], "rows": second},
    ]


_ONLY_SOME = ("reconstructions", "units", "order", "normality", "scales", "denoising", "density", "energies")


def _figures(metrics: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    shown: dict[str, Any] = dict.fromkeys((*_ONLY_SOME, "path")) | {
        "losses": figures.losses(pictures.losses, pictures.validation_steps, pictures.validation_losses)
    }
    shape, originals = pictures.image_shape, pictures.truth[:SHOWN]

    def images(array: np.ndarray) -> np.ndarray:
        return array.reshape(-1, *(shape or ())) / pictures.white

    if shape is not None:
        shown["samples"] = figures.grid(images(pictures.samples[:SAMPLES]), 20)
    if metrics["imputation"] is not None and pictures.draws is not None:
        shown["calibration"] = figures.calibration(metrics["calibration"])
        shown["pit"] = figures.pit(metrics["pit"])
        if shape is None:
            hidden = ~pictures.seen & ~np.isnan(pictures.truth)
            shown["scatter"] = figures.scatter(pictures.truth[hidden], pictures.draws[:, hidden])
        else:
            some = pictures.draws[:, :SHOWN]
            strips = images(some).reshape(*some.shape[:2], *shape)
            seen = pictures.seen[:SHOWN].reshape(-1, *shape)
            shown["completed"] = figures.completed(images(originals), seen, strips)
    if pictures.reconstructed is not None and shape is not None:
        shown["reconstructions"] = figures.pairs(images(originals), images(pictures.reconstructed))
    if "active_units" in metrics:
        units = metrics["active_units"]
        kl, variance = (np.array(units[key], dtype=float) for key in ("kl", "variance"))
        shown["units"] = figures.units(kl, variance > 0.01)
    if pictures.places is not None and pictures.surprise is not None:
        names = metrics["data"]["columns"]
        shown["order"] = views.order(pictures.places, pictures.surprise, shape, names)
    if pictures.base_quantiles is not None and pictures.base_draws is not None:
        shown["normality"] = views.quantiles(pictures.base_quantiles, pictures.base_draws, metrics["normality"]["base"])
    if pictures.path is not None:
        if shape is not None:
            # a line of the sheet is one pair
            lines = np.moveaxis(pictures.path, 1, 0)
            shown["path"] = figures.grid(images(lines), len(pictures.path))
        else:
            shown["path_of_columns"] = views.path(pictures.path[:, 0], metrics["data"]["columns"])
    if pictures.scales is not None and shape is not None:
        shown["scales"] = figures.grid(images(np.moveaxis(pictures.scales, 1, 0)), len(pictures.scales))
    if pictures.denoising is not None and shape is not None:
        shown["denoising"] = figures.grid(images(np.moveaxis(pictures.denoising, 1, 0)), len(pictures.denoising))
    if pictures.density is not None and pictures.density_axes is not None:
        names = metrics["data"]["columns"]
        shown["density"] = views.density(pictures.density, pictures.density_axes, pictures.truth, names)
    if pictures.energies is not None:
        shown["energies"] = views.energies(pictures.energies)
    return shown


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list) else "default" if value is None else str(value)

    return {name.replace("_", " "): text(value) for name, value in settings.items()}
