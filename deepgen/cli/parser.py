"""The commands' names, arguments and help."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from deepgen.cli import options as o
from deepgen.cli.engine import place
from deepgen.cli.refusals import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Deep generative models as probabilistic programs, in NumPyro and in Pyro.",
)


def main() -> None:
    """Run the command that the process was called with."""
    app(prog_name="deepgen")


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


@app.command()
def run(
    family: o.Family,
    source: o.Data,
    engine: o.EngineOption = o.EngineName.NUMPYRO,
    device: o.Device = None,
    seed: o.Seed = 0,
    out: o.Out = None,
    steps: o.Steps = None,
    latent_dim: o.LatentDim = None,
    hidden: o.Hidden = None,
    network: o.NetworkOption = None,
    likelihood: o.Likelihood = None,
    learning_rate: o.LearningRate = 1e-3,
    patience: o.Patience = None,
    missing: Annotated[float, typer.Option("--missing", help="Share of held-out entries to hide, at random.")] = 0.5,
    rows: Annotated[
        int | None,
        typer.Option("--rows", min=2, help="At most so many held-out rows are completed. Default: 400 of vae."),
    ] = None,
    method: o.Method = None,
    draws: o.Draws = 100,
    warmup: o.Warmup = 200,
    chains: o.Chains = 4,
    particles: o.Particles = None,
    drop: o.Drop = None,
    categorical: o.Categorical = None,
    ordinal: o.Ordinal = None,
    separator: o.Separator = None,
    decimal: o.Decimal = ".",
    resume: o.Resume = True,
    progress: o.Progress = None,
) -> None:
    """Fit, complete held-out rows of which a part is hidden, evaluate, and write a report.

    Writes program.json, params.safetensors, posterior.nc, metrics.json, report.html, losses.csv and run.json. While it
    fits, a checkpoint fit.safetensors is there; the same command takes it up after an interruption, and a finished fit
    removes it.
    """
    from deepgen.cli import commands

    place(engine.value, device)
    reading = _reading(drop, categorical, ordinal, separator, decimal)
    settings = _settings(
        family,
        source,
        engine,
        seed,
        network,
        latent_dim,
        hidden,
        likelihood,
        steps,
        learning_rate,
        patience,
        reading,
        wide=True,
    )
    plan = _plan(method, draws, warmup, chains, particles, missing=missing, rows=rows)
    folder = out or commands.default_folder(family, source)
    _print(commands.run(settings, plan, folder, resume=resume, progress=progress))


@app.command()
def fit(
    family: o.Family,
    source: o.Data,
    engine: o.EngineOption = o.EngineName.NUMPYRO,
    device: o.Device = None,
    seed: o.Seed = 0,
    out: o.Out = None,
    steps: o.Steps = None,
    latent_dim: o.LatentDim = None,
    hidden: o.Hidden = None,
    network: o.NetworkOption = None,
    likelihood: o.Likelihood = None,
    learning_rate: o.LearningRate = 1e-3,
    patience: o.Patience = None,
    drop: o.Drop = None,
    categorical: o.Categorical = None,
    ordinal: o.Ordinal = None,
    separator: o.Separator = None,
    decimal: o.Decimal = ".",
    resume: o.Resume = True,
    progress: o.Progress = None,
) -> None:
    """Fit a program to the training rows of a data set or file.

    Blanks are allowed: the bound is then that of the observed entries. After an interruption the same command takes up
    the checkpoint in the folder; a finished fit removes it.
    """
    from deepgen.cli import commands

    place(engine.value, device)
    reading = _reading(drop, categorical, ordinal, separator, decimal)
    settings = _settings(
        family,
        source,
        engine,
        seed,
        network,
        latent_dim,
        hidden,
        likelihood,
        steps,
        learning_rate,
        patience,
        reading,
        wide=True,
    )
    folder = out or commands.default_folder(family, source)
    _print(commands.fit(settings, folder, resume=resume, progress=progress))


@app.command()
def sample(
    folder: o.Folder,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="How many.")] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="An npz, or for tables also a CSV or Parquet file.")
    ] = None,
    engine: o.EngineOption = o.EngineName.NUMPYRO,
    device: o.Device = None,
    seed: o.Seed = 0,
) -> None:
    """Draw from a program; images also as a PNG sheet."""
    from deepgen.cli import commands

    place(engine.value, device)
    _print(commands.sample(folder, num, out, engine.value, seed))


@app.command()
def impute(
    target: Annotated[str, typer.Argument(help="A family to fit to the file, or a run's folder.", metavar="TARGET")],
    path: Annotated[str, typer.Argument(help="A CSV, Parquet or npz file with blanks or NaN.", metavar="FILE")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The completed file.")] = None,
    engine: o.EngineOption = o.EngineName.NUMPYRO,
    device: o.Device = None,
    seed: o.Seed = 0,
    steps: o.Steps = None,
    network: Annotated[
        o.NetworkName | None,
        typer.Option("--network", help="table (default for tables): from a multivariate normal on; or mlp."),
    ] = None,
    latent_dim: o.LatentDim = None,
    hidden: o.Hidden = None,
    likelihood: o.Likelihood = None,
    learning_rate: o.LearningRate = 1e-3,
    patience: o.Patience = None,
    method: o.Method = None,
    draws: o.Draws = 100,
    warmup: o.Warmup = 200,
    chains: o.Chains = 4,
    particles: o.Particles = None,
    drop: o.Drop = None,
    categorical: o.Categorical = None,
    ordinal: o.Ordinal = None,
    separator: o.Separator = None,
    decimal: o.Decimal = ".",
    keep: Annotated[
        Path | None, typer.Option("--keep", help="The fitted program's folder. Default: next to the completed file.")
    ] = None,
    resume: o.Resume = True,
    progress: o.Progress = None,
) -> None:
    """Complete a file with blanks, and say how sure each filled cell is.

    Of a table it writes the completed table (observed cells, and columns left out, as the text they were),
    NAME.intervals.csv with a line for each filled cell, and NAME.nc with the draws, NAME being the file's without .csv.
    A family is fitted to all rows by the bound of their observed cells, which is right where values are missing at
    random; a flow, which needs whole rows, to rows whose blanks are drawn from the multivariate normal that EM fits to
    them. A run's folder leaves out by itself what its program does not model; options of the fit do nothing there and
    are refused.
    """
    from deepgen.cli import completion

    place(engine.value, device)
    settings = _settings(
        target,
        path,
        engine,
        seed,
        network,
        latent_dim,
        hidden,
        likelihood,
        steps,
        learning_rate,
        patience,
        _reading(drop, categorical, ordinal, separator, decimal),
        default=completion.default_network(target, path),
    )
    plan = _plan(method, draws, warmup, chains, particles)
    _print(
        completion.impute(
            target,
            path,
            out,
            settings,
            plan,
            keep,
            resume=resume,
            progress=progress,
        )
    )


@app.command()
def evaluate(
    folder: o.Folder,
    source: Annotated[
        str | None, typer.Argument(help="Other data than the run's held-out rows.", metavar="[DATA]")
    ] = None,
    engine: o.EngineOption = o.EngineName.NUMPYRO,
    device: o.Device = None,
    seed: o.Seed = 0,
    particles: o.Particles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the log-likelihood of held-out rows, or its bound, and bits per dimension, with standard errors."""
    from deepgen.cli import commands

    place(engine.value, device)
    _print(commands.evaluate(folder, source, engine.value, seed, particles or 1000, as_json))


@app.command("list")
def list_() -> None:
    """Print what each family can do in each engine, and the data sets."""
    from deepgen.cli import commands

    _print(commands.listing())


def _settings(
    family: str,
    source: str,
    engine: Any,
    seed: int,
    network: Any,
    latent_dim: int | None,
    hidden: list[int] | None,
    likelihood: str | None,
    steps: int | None,
    learning_rate: float,
    patience: int | None,
    reading: dict[str, Any] | None,
    wide: bool = False,
    default: Any = "mlp",
) -> Any:
    from deepgen.cli.recipes import RECIPES, recipe, refuse_unused
    from deepgen.cli.sources import Settings

    if family in RECIPES or wide:
        made = recipe(family)
        given = {"network": network, "latent_dim": latent_dim, "hidden": hidden, "likelihood": likelihood}
        refuse_unused(family, given)
        steps = steps or made.steps
        default = default if "network" in made.takes else None
        if wide and network is not o.NetworkName.TABLE:
            latent_dim = latent_dim or made.wide.get("latent_dim")
            hidden, patience = hidden or made.wide.get("hidden"), patience or 8
    return Settings(
        family=family,
        source=source,
        engine=engine.value,
        seed=seed,
        network=network.value if network else default,
        latent_dim=latent_dim,
        hidden=tuple(hidden) if hidden else None,
        likelihood=likelihood,
        steps=steps or Settings.steps,
        learning_rate=learning_rate,
        patience=patience,
        reading=reading,
    )


def _reading(
    drop: list[str] | None,
    categorical: list[str] | None,
    ordinal: list[str] | None,
    separator: str | None,
    decimal: str,
) -> dict[str, Any] | None:
    """What was said of how to read a table, as `read_table` takes it; None where nothing was."""
    orders = {name: levels.split(",") if given else None for name, given, levels in map(_order, ordinal or [])}
    said: dict[str, Any] = {"drop": drop, "categorical": categorical, "ordinal": orders}
    said |= {"separator": "\t" if separator == "\\t" else separator, "decimal": None if decimal == "." else decimal}
    return {name: value for name, value in said.items() if value} or None


def _order(text: str) -> tuple[str, str, str]:
    return text.partition("=")


def _plan(method: str | None, draws: int, warmup: int, chains: int, particles: int | None, **more: Any) -> Any:
    from deepgen.cli.run import Plan

    return Plan(method=method, draws=draws, warmup=warmup, chains=chains, particles=particles, **more)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)
