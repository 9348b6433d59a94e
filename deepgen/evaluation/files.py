"""InferenceData of completed rows: made from arrays, written to and read from netCDF."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgen.checks import problem
from deepgen.inference.imputation.result import event_dims

if TYPE_CHECKING:
    import arviz


def posterior_of(
    draws: np.ndarray,
    observed: np.ndarray,
    *,
    columns: Sequence[str] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> "arviz.InferenceData":
    """Draws of completed rows as an ``InferenceData``, in the form that ``imputation_error`` reads.

    Args:
        draws: (chain, draw, row, *event_shape) completed rows.
        observed: (row, *event_shape) booleans, True where observed.
        columns: the names of a table's columns.
        attrs: for instance {"method": …, "law": …}.

    Returns:
        Groups posterior ("x"), observed_data ("x", NaN where missing) and constant_data ("observed").

    Raises:
        ValueError: shapes that do not fit.
    """
    import arviz as az
    import xarray as xr

    if draws.ndim < 4 or draws.shape[2:] != observed.shape or not draws.size:
        raise problem(
            "draws",
            got=f"shape {draws.shape} with observed {observed.shape}",
            expected="(chain, draw, row, *event_shape) and (row, *event_shape), not empty",
            fix="Add the axes that are missing, e.g. draws[None] for one chain.",
        )
    event, named = event_dims(observed.shape[1:], columns)
    dims = ("row", *event)
    coords: dict[str, Any] = {dim: np.arange(size) for dim, size in zip(dims, observed.shape, strict=True)} | named
    chains = {"chain": np.arange(draws.shape[0]), "draw": np.arange(draws.shape[1])}
    data = np.where(observed, draws[0, 0], np.nan).astype(draws.dtype)
    attrs = dict(attrs or {})
    return az.InferenceData(
        attrs=attrs,
        posterior=xr.Dataset({"x": (("chain", "draw", *dims), draws)}, coords={**chains, **coords}, attrs=attrs),
        observed_data=xr.Dataset({"x": (dims, data)}, coords=coords),
        constant_data=xr.Dataset({"observed": (dims, observed)}, coords=coords),
    )


def write_posterior(posterior: "arviz.InferenceData", path: str | os.PathLike[str]) -> None:
    """Write an ``InferenceData`` as compressed netCDF, in one step: the file is there whole or not at all.

    Args:
        posterior: what to write.
        path: where to; its folder must exist, an existing file is replaced.

    Raises:
        FileNotFoundError: a folder that does not exist.
        ValueError: attributes that netCDF cannot hold (not numbers or text, or lists of them).
        OSError: a folder that cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"posterior: the folder {str(path.parent)!r} does not exist. Make it first.")
    groups = {"": posterior.attrs, **{name: posterior[name].attrs for name in posterior.groups()}}
    for group, attrs in groups.items():
        for name, value in attrs.items():
            if np.asarray(value).dtype.kind not in "iufUS" or value is None:
                raise problem(
                    f"attribute {name!r} of {group or 'the posterior'}",
                    got=repr(value),
                    expected="a number, text, or a list of one of these",
                    fix="Convert it, e.g. True to 1 or a dict to JSON text.",
                )
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        posterior.to_netcdf(str(partial), engine="h5netcdf", compress=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_posterior(path: str | os.PathLike[str]) -> "arviz.InferenceData":
    """Read what ``write_posterior`` wrote, into memory; the file is closed again.

    Args:
        path: the netCDF file.

    Returns:
        The same groups, variables, coordinates and attributes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not netCDF or is cut short.
    """
    import arviz as az

    if not Path(path).is_file():
        raise FileNotFoundError(f"posterior: there is no file {os.fspath(path)!r}. Check the path.")
    try:
        with az.rc_context({"data.load": "eager"}):
            return az.InferenceData.from_netcdf(os.fspath(path), engine="h5netcdf")
    except Exception as error:
        raise problem(
            f"posterior {os.fspath(path)!r}",
            got=f"a file that cannot be read ({type(error).__name__}: {error})",
            expected="netCDF (HDF5) written by write_posterior",
            fix="Write it again.",
        ) from error
