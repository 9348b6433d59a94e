"""Rate and distortion of programs, and a table of them."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from deepgen.checks import problem
from deepgen.evaluation.estimate import cell_mean
from deepgen.program import ModelsMissingness

if TYPE_CHECKING:
    import pandas


class RateDistortion(NamedTuple):
    """The two parts of -ELBO of each row, in nats; their sum is it.

    Attributes:
        rate: (n,) estimates of KL(q(z | x) || p(z)); unbiased, so a small one may come out negative.
        distortion: (n,) estimates of -E_q log p(x | z).
    """

    rate: Float[np.ndarray, " n"]
    distortion: Float[np.ndarray, " n"]


def refuse_unsplit(program: Any) -> None:
    """Refuse a program whose log density has no two such parts.

    Raises:
        ValueError: a program without latents, or with a law of what is observed beside that of x.
    """
    name, expected = type(program).__name__, "a program with latents, whose likelihood is a bound, such as VAE"
    if program.likelihood != "bound":
        why = "an unnormalised or estimated density" if program.likelihood == "estimate" else "an exact density"
        raise problem(
            "program",
            got=f"a {name}, which has {why} and no latents to tell of x",
            expected=expected,
            fix="Ask log_prob for its log p(x).",
        )
    if isinstance(program, ModelsMissingness):
        raise problem(
            "program",
            got=f"a {name}, whose bound is of x and of which entries are observed",
            expected=expected,
            fix="Pass the program that it wraps, program.program.",
        )


def rate_distortion_table(found: Mapping[Hashable, RateDistortion]) -> "pandas.DataFrame":
    """Means over rows and their standard errors, a line for each program.

    -ELBO is the sum of the two, row by row; its standard error is not that of independent parts. The noise of the draws
    is in the spread over rows already.

    Args:
        found: by beta, or by name, what ``rate_distortion`` gave on the same rows.

    Returns:
        The columns rate, rate_stderr, distortion, distortion_stderr, negative_elbo, negative_elbo_stderr, in nats a
        row, in the order given.

    Raises:
        ValueError: no programs, or programs measured on different numbers of rows.
    """
    import pandas as pd

    counts = {name: len(one.rate) for name, one in found.items()}
    if not counts or len(set(counts.values())) > 1:
        raise problem(
            "found",
            got=f"numbers of rows {counts}",
            expected="programs measured on the same rows",
            fix="Pass each program the same x.",
        )
    lines = {}
    for name, one in found.items():
        parts = {"rate": one.rate, "distortion": one.distortion, "negative_elbo": one.rate + one.distortion}
        means = {part: cell_mean(values, np.arange(len(values))) for part, values in parts.items()}
        lines[name] = {
            key: number
            for part, mean in means.items()
            for key, number in ((part, mean.value), (f"{part}_stderr", mean.stderr))
        }
    return pd.DataFrame.from_dict(lines, orient="index")
