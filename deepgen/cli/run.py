"""The main job: fit, complete held-out rows of which a part is hidden, evaluate, and report."""

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepgen import checks, data, evaluation, report
from deepgen.capabilities import capability
from deepgen.cli.engine import Engine, versions
from deepgen.cli.fitting import Clock, fit_program, law_of, refuse_holes
from deepgen.cli.recipes import RECIPES, recipe
from deepgen.cli.sources import PIXELS, Settings, Source, write_notes
from deepgen.cli.views import look
from deepgen.inference.imputation.methods import choose, described
from deepgen.math.intervals import fewest_draws
from deepgen.program import files

METRICS, POSTERIOR, REPORT = "metrics.json", "posterior.nc", "report.html"
REPLICATES = 50
# Beyond these sizes a baseline would take longer than all the rest: its regressions, and a draw from each.
WIDEST_ITERATIVE, WIDEST_DRAWN, MOST_CELLS_DRAWN = 64, 20, 2000
MOST_CELLS_FOREST = 2000
POSTERIOR_BYTES = 50_000_000


@dataclass(frozen=True)
class Plan:
    """What is done with a fitted program.

    Attributes:
        missing: the share of held-out entries that is hidden, completely at random.
        rows: at most so many held-out rows are completed; None takes the recipe's.
        method: of imputation; None takes the program's first.
        draws: of each chain.
        warmup: iterations of each chain before them.
        chains: of each row.
        particles: of the likelihood's bound, and of the methods that weigh; None takes the recipe's.
    """

    missing: float = 0.5
    rows: int | None = None
    method: str | None = None
    draws: int = 100
    warmup: int = 200
    chains: int = 4
    particles: int | None = None

    def filled(self, name: str) -> "Plan":
        """The plan with a recipe's numbers where it has none."""
        made = RECIPES.get(name, RECIPES["vae"])
        return replace(self, rows=self.rows or made.rows, particles=self.particles or made.particles)

    def options(self, imputers: tuple[str, ...]) -> dict[str, Any]:
        """The arguments of `impute` for a program with these imputers.

        Raises:
            ValueError: an unknown method, or numbers that are not positive.
        """
        name, _ = choose(self.method, imputers, {})
        known = described(name, imputers).options
        given: dict[str, Any] = {
            "num_samples": self.draws,
            "num_warmup": self.warmup,
            "num_chains": self.chains,
            "num_particles": self.particles,
        }
        # the chains of lair are a row's clouds of proposals, not streams of draws
        if "num_chains" not in known or name == "lair":
            given = {"num_samples": self.draws * self.chains, "num_particles": self.particles}
        options = {option: value for option, value in given.items() if option in known and value is not None}
        choose(name, imputers, options)
        return {"method": name, **options}


def enough_draws(options: Mapping[str, Any], prob: float) -> int:
    """How many draws of each cell `impute` gives with these options.

    Args:
        options: what `Plan.options` gave.
        prob: of the intervals that are asked of the draws.

    Raises:
        ValueError: too few for such intervals.
    """
    draws = options["num_samples"] * options.get("num_chains", 1)
    needed = fewest_draws(prob)
    if draws < needed:
        raise checks.problem(
            "draws",
            got=f"{draws} of each cell",
            expected=f"at least {needed} for {prob:.0%} intervals",
            fix="Raise --draws or --chains.",
        )
    return draws


def run(
    settings: Settings, source: Source, plan: Plan, folder: Path, *, resume: bool = True, progress: bool | None = None
) -> dict[str, Any]:
    """Do the main job and write its results into a folder.

    Args:
        settings: of the fit.
        source: the data.
        plan: of what follows.
        folder: gets ``program.json``, ``params.safetensors``, ``run.json``, ``losses.csv``, ``posterior.nc``,
            ``metrics.json`` and ``report.html``.
        resume: whether to take up a fit that was interrupted.
        progress: whether to show bars; None: on a terminal.

    Returns:
        What is in ``metrics.json``: a function of settings, source and plan, but for ``timing``.

    Raises:
        ValueError: settings or data that are not acceptable.
        OSError: a folder that cannot be written to.
    """
    clock = Clock()
    x, made, plan = source.data, recipe(settings.family), plan.filled(settings.family)
    rows, particles = plan.rows or made.rows, plan.particles or made.particles
    checks.at_least("rows", rows, 2)
    if not 0 <= plan.missing < 1:
        raise checks.problem(
            "missing", got=plan.missing, expected="a share in [0, 1)", fix="Pass for instance --missing 0.5."
        )
    refuse_holes(settings.family, source)
    if settings.network != "table":
        law_of(settings, source)
    test = x.test[:rows]
    # the law of integer pixels couples the three channels of a pixel, which is then hidden whole
    coupled = settings.likelihood == PIXELS and len(x.event_shape) == 3 == x.event_shape[0]
    observed = data.mcar(test[:, :1] if coupled else test, plan.missing, seed=np.random.default_rng([settings.seed, 1]))
    observed = np.repeat(observed, 3, axis=1) if coupled else observed
    if observed[~np.isnan(test)].all():
        raise checks.problem(
            "missing", got=plan.missing, expected="a share that hides something", fix="Pass for instance 0.5."
        )
    files.writable_folder(folder)
    with clock.phase("import", f"importing {settings.engine}"):
        engine = Engine(settings.engine, settings.seed)
    imputers = engine.imputers(settings.family)
    options = plan.options(imputers) if imputers or plan.method else None
    if options is not None:
        enough_draws(options, max(evaluation.imputation.PROBS))
    # what is exact is cheap: all rows are judged, not only those that are completed
    exact = capability(made.family, settings.engine, "log_prob").detail[0] == "exact"
    judged = x.test if exact else test
    with clock.phase("fit", f"fitting at most {settings.steps} steps"):
        fit, fitted = fit_program(engine, settings, source, folder, resume=resume, progress=progress)
    program = fit.program
    write_notes(folder, settings, x, fitted, image_shape=source.image_shape, white=source.white)
    with clock.phase("log_prob", f"the likelihood of {len(judged)} held-out rows"):
        scores = engine.log_prob(program, judged, num_particles=particles)
    completed = None
    if options is not None:
        completed = _complete(engine, settings, source, program, test, observed, options, clock, progress)
    with clock.phase("evaluation", "scoring and checking"):
        samples = engine.sample(program, REPLICATES * len(test)).reshape(REPLICATES, *test.shape)
        checked = evaluation.ppc(test, samples)
        seen, drawn = look(made.views, engine, program, x.train, judged)
    metrics = {
        "format": 1,
        "settings": asdict(settings) | {"hidden": settings.hidden and list(settings.hidden)},
        "recipe": {"family": made.family, "title": made.title, "grey": source.grey},
        "plan": asdict(plan) | {"rows": len(test)},
        "data": {
            "name": x.name,
            "description": x.description,
            "event_shape": list(x.event_shape),
            "support": x.support,
            "columns": None if x.columns is None else list(x.columns),
            "rows": {part: len(getattr(x, part)) for part in data.dataset.SPLITS},
        },
        "fit": fitted,
        "log_prob": _likelihood(scores, x.event_shape, particles),
        "predictive_checks": checked.drop(columns="component").to_dict(orient="records"),
        **(NOT_COMPLETED if completed is None else completed.metrics),
        **seen,
        "versions": dict(versions()),
        "timing": clock.seconds,
    }
    metrics = plain(metrics)
    _write_metrics(folder, metrics)
    with clock.phase("report", "writing the results"):
        pictures = report.Pictures(
            losses=fit.losses,
            validation_steps=fit.validation_steps,
            validation_losses=fit.validation_losses,
            image_shape=source.image_shape,
            white=source.white,
            samples=samples[0],
            truth=test,
            seen=observed,
            draws=None if completed is None else completed.draws,
            **drawn,
        )
        if completed is not None:
            evaluation.write_posterior(thinned(completed.posterior), folder / POSTERIOR)
        page = report.render(metrics, pictures)
        files.write_atomically(folder / REPORT, page.encode())
    metrics["timing"] = clock.seconds
    _write_metrics(folder, metrics)
    return metrics


def _write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    files.write_atomically(folder / METRICS, json.dumps(metrics, indent=2, allow_nan=False).encode())


NOT_COMPLETED: dict[str, Any] = {"imputation": None, "calibration": None, "pit": None, "sampler": None}


class _Completed(NamedTuple):
    posterior: Any
    draws: np.ndarray
    metrics: dict[str, Any]


def _complete(
    engine: Engine,
    settings: Settings,
    source: Source,
    program: Any,
    test: np.ndarray,
    observed: np.ndarray,
    options: dict[str, Any],
    clock: Clock,
    progress: bool | None,
) -> _Completed:
    """Complete held-out rows of which a part is hidden, by the program and by the baselines, and score both."""
    x, hidden = source.data, data.hide(test, observed)
    with clock.phase("impute", f"completing {len(test)} rows by {options['method']}"):
        posterior = engine.impute(program, hidden, columns=x.columns, progress=progress, **options)
    with clock.phase("baselines", "completing them by the baselines"):
        methods = [name for name in evaluation.BASELINES if _affordable(name, hidden)]
        others = evaluation.baselines(x.train, hidden, seed=settings.seed, num_draws=50, methods=methods)
    with clock.phase("scores", "scoring what was completed"):
        own = f"{settings.family} ({settings.engine})"
        errors = {own: evaluation.imputation_error(posterior, test)}
        errors |= {name: evaluation.imputation_error(other, test) for name, other in others.items()}
        curves = {own: evaluation.coverage_curve(posterior, test, seed=settings.seed)}
        curves |= {
            name: evaluation.coverage_curve(other, test, seed=settings.seed)
            for name, other in others.items()
            if errors[name].coverage is not None
        }
    metrics = {
        "imputation": {
            "own": own,
            **{key: posterior.attrs[key] for key in ("method", "method_title", "law")},
            "options": {key: value for key, value in options.items() if key != "method"},
            "errors": {name: error.to_dict() for name, error in errors.items()},
            "left_out": [name for name in evaluation.BASELINES if name not in methods],
        },
        "calibration": {name: curve.to_dict(orient="list") for name, curve in curves.items()},
        "pit": pit_histogram(posterior, test, settings.seed),
        "sampler": sampler(posterior),
    }
    draws = posterior["posterior"]["x"].values
    return _Completed(posterior, draws.reshape(-1, *draws.shape[2:]), metrics)


def sampler(posterior: Any) -> dict[str, Any]:
    """What the sampler says of itself, over rows.

    Args:
        posterior: what `impute` returned.

    Returns:
        Of Markov chains R-hat, acceptance and divergences; of importance weights Pareto k and effective sample sizes;
        None for what does not apply.
    """
    stats = posterior["sample_stats"]
    names = ("r_hat", "pareto_k", "ess", "acceptance", "divergences")
    found: dict[str, Any] = {"rows": int(posterior["posterior"].sizes["row"]), **dict.fromkeys(names)}
    for name, worst in (("r_hat", 1.1), ("pareto_k", 0.7)):
        values = stats[name].values if name in stats else np.array(np.nan)
        if not np.isnan(values).all():
            found[name] = {
                "median": float(np.nanmedian(values)),
                "largest": float(np.nanmax(values)),
                "threshold": worst,
                "rows_above": int((values > worst).sum()),
            }
    if found["pareto_k"] is not None and "rows_with_high_pareto_k" in posterior.attrs:
        # without the rows whose k says nothing, as their weights are even
        found["pareto_k"]["rows_above"] = int(posterior.attrs["rows_with_high_pareto_k"])
    if "ess" in stats:
        values = stats["ess"].values
        found["ess"] = {"median": float(np.median(values)), "smallest": float(values.min())}
    if "acceptance_rate" in stats:
        values = stats["acceptance_rate"].values
        found["acceptance"] = {"mean": float(values.mean()), "smallest": float(values.min())}
    if "diverging" in stats:
        found["divergences"] = int(stats["diverging"].values.sum())
    return found


def pit_histogram(posterior: Any, truth: np.ndarray, seed: int, bins: int = 20) -> dict[str, Any]:
    """The randomised PIT of the hidden cells in bins, with standard errors by rows.

    Args:
        posterior: draws.
        truth: (n, *event_shape).
        seed: of the randomisation.
        bins: how many.

    Returns:
        Edges, the density in each bin (1 everywhere where calibrated), and its standard error.
    """
    draws, cells, rows = evaluation.imputation.missing_cells(posterior, truth, observed=None, var_name="x")
    values = evaluation.pit(draws, cells, seed=seed)
    edges = np.linspace(0, 1, bins + 1)
    shares = [evaluation.cell_mean((low <= values) & (values < high), rows) for low, high in itertools.pairwise(edges)]
    return {
        "edges": edges.tolist(),
        "density": [bins * share.value for share in shares],
        "stderr": [bins * share.stderr for share in shares],
    }


def thinned(posterior: Any, budget: int = POSTERIOR_BYTES) -> Any:
    """The posterior with so few draws, evenly spaced, that its arrays fit into a number of bytes."""
    step = math.ceil(posterior["posterior"].nbytes / budget)
    return posterior if step == 1 else thin(posterior, step)


def thin(posterior: Any, step: int) -> Any:
    """Every ``step``-th draw of each chain, and a word about it in the attributes."""
    few = posterior.isel(draw=slice(None, None, step))
    few.attrs["kept_draws"] = f"one of {step}"
    return few


def plain(value: Any) -> Any:
    """What strict JSON can hold: NumPy's numbers as Python's, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def likelihood_estimates(scores: Any, event_shape: tuple[int, ...]) -> dict[str, evaluation.Estimate]:
    """The mean log-likelihood (or its bound) in nats, and bits per dimension, with standard errors over rows."""
    return {
        "mean": evaluation.mean_log_prob(scores.value),
        "bits_per_dim": evaluation.bits_per_dim(scores.value, math.prod(event_shape)),
    }


def _likelihood(scores: Any, event_shape: tuple[int, ...], particles: int) -> dict[str, Any]:
    found = likelihood_estimates(scores, event_shape)
    return {
        "kind": scores.kind,
        "num_particles": particles,
        "rows": len(scores.value),
        **{name: {"value": estimate.value, "stderr": estimate.stderr} for name, estimate in found.items()},
        "monte_carlo_stderr": evaluation.monte_carlo_stderr(scores.stderr),
    }


def _affordable(name: str, x: np.ndarray) -> bool:
    columns = x[0].size
    within = {
        "iterative": columns <= WIDEST_ITERATIVE,
        "iterative draws": columns <= WIDEST_DRAWN and x.size <= MOST_CELLS_DRAWN,
        "forest": columns <= WIDEST_DRAWN and x.size <= MOST_CELLS_FOREST,
    }
    return within.get(name, True)
