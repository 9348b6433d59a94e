"""The options that commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deepgen.cli.recipes import RECIPES, takers, ways_to_impute


class EngineName(StrEnum):
    """The engines."""

    NUMPYRO = "numpyro"
    PYRO = "pyro"


class NetworkName(StrEnum):
    """The kinds of networks."""

    MLP = "mlp"
    CONV = "conv"
    TABLE = "table"


Family = Annotated[
    str,
    typer.Argument(
        help=f"One of {', '.join(RECIPES)} (deepgen list).",
        metavar="FAMILY",
    ),
]
Data = Annotated[
    str, typer.Argument(help="A data set's name (deepgen list), or a CSV, Parquet, npz or IDX file.", metavar="DATA")
]
Folder = Annotated[Path, typer.Argument(help="A folder that deepgen run or fit wrote.", metavar="RUN")]
EngineOption = Annotated[EngineName, typer.Option("--engine", help="The engine.")]
Device = Annotated[
    str | None,
    typer.Option("--device", help="Where the engine computes, such as cpu or cuda:1. Default: JAX's own; of Pyro cpu."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the split and of every draw: same seed, same numbers.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write. Default: runs/FAMILY-DATA.")]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="At most so many steps of 128 rows. Default: 3000; less of slow networks."),
]
LatentDim = Annotated[
    int | None,
    typer.Option(
        "--latent-dim",
        min=1,
        help=f"How many latents. Of {takers('latent_dim')}. Default: 16 of a run, 8; of table: its features.",
    ),
]
Hidden = Annotated[
    list[int] | None,
    typer.Option("--hidden", min=1, help=f"Width of a hidden layer; once for each. Of {takers('hidden')}."),
]
NetworkOption = Annotated[
    NetworkName | None,
    typer.Option(
        "--network",
        help=f"Of {takers('network')}. mlp (default); conv: for images; table (vae): from a multivariate normal on.",
    ),
]
Likelihood = Annotated[
    str | None,
    typer.Option(
        "--likelihood",
        help=f"The observation law, of {takers('likelihood')}. Default: bernoulli for 0/1 data; else of vae "
        "gaussian_predicted, of the others categorical or gaussian_mixture. discretized_logistic: for pixels, as "
        "integers 0 to 255.",
    ),
]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="Of Adam.")]
Patience = Annotated[
    int | None,
    typer.Option("--patience", min=1, help="Stop after so many evaluations (one in 100 steps) without a better."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume/--no-resume", help="Take up a fit that was interrupted in this folder, or start afresh."),
]
Progress = Annotated[
    bool | None, typer.Option("--progress/--no-progress", help="Progress bars. Default: on a terminal only.")
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help=f"Of imputation. {ways_to_impute()}. Default: the first; of network table, and so of a table's blanks, "
        "auto.",
    ),
]
Draws = Annotated[int, typer.Option("--draws", min=1, help="Draws of each chain.")]
Warmup = Annotated[int, typer.Option("--warmup", min=0, help="Iterations of each chain before them.")]
Chains = Annotated[int, typer.Option("--chains", min=1, help="Chains of each row.")]
Particles = Annotated[
    int | None,
    typer.Option(
        "--particles",
        min=1,
        help="k of the likelihood's bound, and proposals a row of methods sir, lair, smc, auto. Default: 1000 of vae.",
    ),
]
Drop = Annotated[
    list[str] | None,
    typer.Option("--drop", help="A column that is not modelled and stays as it is; may be repeated."),
]
Categorical = Annotated[
    list[str] | None, typer.Option("--categorical", help="A column of codes of categories; may be repeated.")
]
Ordinal = Annotated[
    list[str] | None,
    typer.Option(
        "--ordinal",
        help="A column of categories in an order, as NAME or as NAME=LOW,MIDDLE,HIGH; may be repeated. The order of "
        "NAME alone: of numbers theirs, of text as it first appears.",
        metavar="NAME[=LEVELS]",
    ),
]
Separator = Annotated[
    str | None,
    typer.Option(
        "--separator",
        help="What stands between the cells of a CSV, such as ';' or '\\t'. Default: a comma; tabs of .tsv.",
    ),
]
Decimal = Annotated[str, typer.Option("--decimal", help="What stands before the fraction of a number in a CSV.")]
