"""The draws of completed data as an ``arviz.InferenceData``."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deepgen import __version__, checks
from deepgen.inference.imputation import importance
from deepgen.inference.imputation.methods import METHODS

if TYPE_CHECKING:
    import arviz


LARGEST_R_HAT = 1.1
"""Above it chains are said to disagree."""


class Draws(NamedTuple):
    """What a method returns.

    Attributes:
        x: (chain, draw, n, *event_shape), drawn given the latents.
        latents: by site, (chain, draw, n, ...).
        stats: by name, dimensions and values of what the method says of itself.
        attrs: further attributes.
    """

    x: np.ndarray
    latents: Mapping[str, np.ndarray]
    stats: Mapping[str, tuple[Sequence[str], np.ndarray]]
    attrs: Mapping[str, Any]


def event_dims(event_shape: tuple[int, ...], columns: Sequence[str] | None) -> tuple[list[str], dict[str, Any]]:
    """The names of a datum's dimensions, and the coordinates of the columns.

    Args:
        event_shape: the shape of one datum.
        columns: the names of a table's columns, or None.

    Returns:
        Names: ``column``; ``channel, height, width``; else ``x_dim_0, ...``. And coordinates.

    Raises:
        ValueError: columns for a datum that is no row of a table, another number of them, or the same name twice.
    """
    if columns is not None:
        if len(event_shape) != 1 or len(columns) != event_shape[0] or len(set(columns)) != len(columns):
            raise checks.problem(
                "columns",
                got=f"{len(columns)} names ({len(set(columns))} different) for an event of shape {event_shape}",
                expected="one name for each column of a table, no name twice",
                fix="Leave columns out, or name each column once.",
            )
        return ["column"], {"column": list(columns)}
    if len(event_shape) == 3:
        return ["channel", "height", "width"], {}
    return [f"x_dim_{i}" for i in range(len(event_shape))], {}


def complete(original: np.ndarray, observed: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The draws with the observed entries as they came, bit for bit.

    Args:
        original: (n, *event_shape) as the user passed it.
        observed: booleans of that shape.
        draws: (..., n, *event_shape).

    Returns:
        (..., n, *event_shape), in a dtype that holds both without loss.
    """
    exact = original.dtype.kind == "f" or draws.dtype.kind in "iu"
    dtype = original.dtype if exact else np.result_type(original, draws)
    return np.where(observed, original, draws).astype(dtype, copy=False)


def inference_data(
    original: np.ndarray,
    observed: np.ndarray,
    draws: np.ndarray,
    latents: Mapping[str, np.ndarray],
    stats: Mapping[str, tuple[Sequence[str], np.ndarray]],
    *,
    method: str,
    engine: str,
    options: Mapping[str, Any],
    columns: Sequence[str] | None = None,
    by_row: bool = True,
    attrs: Mapping[str, Any] | None = None,
    coords_of_stats: Mapping[str, Sequence[str]] | None = None,
) -> "arviz.InferenceData":
    """Put draws under their names.

    Args:
        original: (n, *event_shape) as the user passed it.
        observed: booleans of that shape.
        draws: (chain, draw, n, *event_shape) of the data; observed entries are replaced by the originals.
        latents: by site, (chain, draw, n, ...) where ``by_row``, else (chain, draw, ...).
        stats: by name, dimensions and values of what the sampler says of itself.
        method: a key of `METHODS`.
        engine: ``"numpyro"`` or ``"pyro"``.
        options: the method's options.
        columns: the names of a table's columns.
        by_row: whether the latents belong to rows.
        attrs: further attributes.
        coords_of_stats: by dimension of ``stats`` that the draws do not have, the names along it.

    Returns:
        Groups ``posterior`` (``x`` and the latents), ``sample_stats``, ``observed_data`` (``x``, NaN where missing) and
        ``constant_data`` (``observed``).

    Raises:
        ValueError: draws of missing entries are NaN.
    """
    import arviz as az
    import xarray as xr

    if draws.dtype.kind == "f":
        lost = np.isnan(draws).any((0, 1)) & ~observed
        checks.numbers("impute", lost.reshape(len(lost), -1).any(1))
    dims, coords = event_dims(original.shape[1:], columns)
    coords = {"row": np.arange(len(original)), **coords}
    sampled = {"chain": np.arange(draws.shape[0]), "draw": np.arange(draws.shape[1]), **coords}
    posterior: dict[str, Any] = {"x": (["chain", "draw", "row", *dims], complete(original, observed, draws))}
    for name, values in latents.items():
        own = values.ndim - 2 - by_row
        lead = ["chain", "draw", *(["row"] if by_row else [])]
        posterior[name] = ([*lead, *(f"{name}_dim_{i}" for i in range(own))], values)
    seen = np.where(observed, original, np.nan) if (~observed).any() else original
    said = {
        "engine": engine,
        "method": method,
        "method_title": METHODS[method].title,
        "law": METHODS[method].law,
        "inference_library": "deepgen",
        "inference_library_version": __version__,
        **options,
        **(attrs or {}),
    }
    present = {dim for dims_, _ in stats.values() for dim in dims_}
    return az.InferenceData(
        posterior=xr.Dataset(posterior, coords=sampled, attrs=said),
        sample_stats=xr.Dataset(
            {name: (list(own), values) for name, (own, values) in stats.items()},
            coords={name: value for name, value in {**sampled, **(coords_of_stats or {})}.items() if name in present},
            attrs=said,
        ),
        observed_data=xr.Dataset({"x": (["row", *dims], seen)}, coords=coords, attrs=said),
        constant_data=xr.Dataset({"observed": (["row", *dims], observed)}, coords=coords, attrs=said),
        attrs=said,
    )


def r_hat(values: np.ndarray) -> np.ndarray:
    """The rank-normalised split R-hat of each row (Vehtari et al. 2021), by ArviZ.

    Args:
        values: (chain, draw, n), such as the log joint.

    Returns:
        (n,); NaN with one chain or fewer than four draws; infinite where no chain moves and they do not agree.
    """
    import arviz as az

    if not _judged(values):
        return np.full(values.shape[2], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        hat = np.array([az.rhat(values[:, :, i].astype(float)) for i in range(values.shape[2])], dtype=float)
    stuck = (np.ptp(values, axis=1) == 0).all(0) & (np.ptp(values, axis=(0, 1)) > 0)
    return np.where(stuck, np.inf, hat)


def chain_stats(
    lp: np.ndarray,
    *,
    acceptance_rate: np.ndarray | None = None,
    step_size: np.ndarray | None = None,
    diverging: np.ndarray | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What Markov chains say of themselves, and a warning where they disagree.

    Args:
        lp: (chain, draw, n) log joint, nats.
        acceptance_rate: (chain, n) mean acceptance probability; None where everything is accepted.
        step_size: (chain, n) as adapted; None where there is none.
        diverging: (chain, n) how many trajectories diverged; None where there are none.

    Returns:
        Statistics with their dimensions, and attributes; these say where one chain, or too few draws, were not judged.

    Warns:
        UserWarning: where some rows have an R-hat above 1.1.
    """
    hat = r_hat(lp)
    bad = int((hat > LARGEST_R_HAT).sum())
    if bad:
        warnings.warn(
            f"the chains of {bad} of {len(hat)} rows disagree (R-hat of the log joint above 1.1, largest "
            f"{np.nanmax(hat):.2f}): raise num_warmup and num_samples before trusting these rows "
            "(sample_stats['r_hat'] says which).",
            stacklevel=4,
        )
    per_chain = {"acceptance_rate": acceptance_rate, "step_size": step_size, "diverging": diverging}
    stats: dict[str, Any] = {"lp": (("chain", "draw", "row"), lp), "r_hat": (("row",), hat)}
    stats |= {name: (("chain", "row"), values) for name, values in per_chain.items() if values is not None}
    return stats, {"rows_with_high_r_hat": bad} if _judged(lp) else {"rows_with_high_r_hat": np.nan, **_UNJUDGED}


def joint_stats(
    lp: np.ndarray,
    sites: Mapping[str, np.ndarray],
    entries: np.ndarray,
    *,
    acceptance_rate: np.ndarray,
    diverging: np.ndarray,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, list[str]]]:
    """What Markov chains on all latents and missing entries together say of themselves, and a warning.

    Args:
        lp: (chain, draw) log joint, nats.
        sites: by name, (chain, draw, ...) of the latents.
        entries: (chain, draw, m) of the missing entries of x.
        acceptance_rate: (chain, draw).
        diverging: (chain, draw) whether the trajectory diverged.

    Returns:
        Statistics with their dimensions: those of each draw, and as ``r_hat`` the largest of the log joint, of each
        latent and of the missing entries; attributes; and the names along the dimension ``quantity`` of ``r_hat``.

    Warns:
        UserWarning: where one of these is above 1.1.
    """
    judged = {"lp": lp, **sites, **({"x": entries} if entries.shape[2] else {})}
    hats = {name: r_hat(values.reshape(*lp.shape, -1)) for name, values in judged.items()}
    largest = {name: float(np.nanmax(hat)) if (~np.isnan(hat)).any() else np.nan for name, hat in hats.items()}
    bad = {name: hat for name, hat in largest.items() if hat > LARGEST_R_HAT}
    divergences = int(diverging.sum())
    if bad:
        said = ", ".join(f"{name} {hat:.2f}" for name, hat in bad.items())
        also = f"; {divergences} of {diverging.size} trajectories diverged" if divergences else ""
        warnings.warn(
            f"the chains disagree (R-hat above 1.1, largest of {said}{also}): raise num_warmup and num_samples, or "
            "write the model such that its posterior has one mode, before trusting these draws "
            "(sample_stats['r_hat']).",
            stacklevel=4,
        )
    per_draw = ("chain", "draw")
    stats = {
        "lp": (per_draw, lp),
        "acceptance_rate": (per_draw, acceptance_rate),
        "diverging": (per_draw, diverging),
        "r_hat": (("quantity",), np.array(list(largest.values()))),
    }
    count = {"quantities_with_high_r_hat": len(bad)} if _judged(lp) else {"quantities_with_high_r_hat": np.nan}
    attrs = {**count, "divergences": divergences, **({} if _judged(lp) else _UNJUDGED)}
    return stats, attrs, {"quantity": list(largest)}


_UNJUDGED = {"not_judged": "R-hat, which takes two chains or more, of four draws or more"}


def _judged(values: np.ndarray) -> bool:
    """Whether there are chains and draws enough for R-hat."""
    return values.shape[0] > 1 and values.shape[1] > 3


def weight_stats(judged: importance.Weights, num_particles: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What importance weights say of themselves, and a warning where they are not to be trusted.

    Args:
        judged: the weights of each row.
        num_particles: how many a row has.

    Returns:
        Statistics with their dimensions, and attributes.

    Warns:
        UserWarning: where the weights of some rows are not to be trusted (`importance.untrusted`).
    """
    wrong = importance.untrusted(judged, num_particles)
    bad = int(wrong.sum())
    if bad:
        warnings.warn(
            f"the importance weights of {bad} of {len(wrong)} rows are not to be trusted (Pareto k above "
            f"{importance.LARGEST_K}, largest {judged.pareto_k[wrong].max():.2f}): raise num_particles, or use "
            "method='mcmc' where the program has it (sample_stats['pareto_k'] says which rows).",
            stacklevel=5,
        )
    stats = {"ess": (("row",), judged.ess), "pareto_k": (("row",), judged.pareto_k)}
    return stats, {"rows_with_high_pareto_k": bad}
