"""What annealed chains say of log Z."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from deepgen import checks
from deepgen.inference.likelihood.ais import bounds


class LogPartition(NamedTuple):
    """log Z of a law base(x) exp(-E(x)) / Z, between stochastic bounds.

    Attributes:
        value: from chains that go from the base to the law, nats: in expectation at most the truth, which it reaches.
        stderr: its Monte Carlo standard error.
        upper: from chains that go back, nats: in expectation at least the truth, as far as they begin at draws of the
            law. They begin at the ends of long runs. NaN where none were run.
        upper_stderr: its standard error.
    """

    value: float
    stderr: float
    upper: float
    upper_stderr: float


def check_run(num_chains: int, num_temperatures: int, num_steps: int) -> None:
    """Refuse what a run cannot use.

    Args:
        num_chains: at least 2, for there is no standard error of one.
        num_temperatures: at least 2.
        num_steps: at least 1.

    Raises:
        ValueError: naming the argument.
    """
    checks.at_least("num_chains", num_chains, 2)
    checks.at_least("num_temperatures", num_temperatures, 2)
    checks.at_least("num_steps", num_steps, 1)


def check_program(program: object, kind: type) -> None:
    """Refuse a program whose density has no unknown constant.

    Args:
        program: the program.
        kind: the protocol of those that have one.

    Raises:
        ValueError: naming it.
    """
    if not isinstance(program, kind):
        raise checks.problem(
            "program",
            got=f"a {type(program).__name__}, whose density is normalised or not known",
            expected="an energy-based program",
            fix="Call log_prob.",
        )


def of_weights(forward: Float[np.ndarray, " k"], backward: Float[np.ndarray, " k"] | None) -> LogPartition:
    """The estimate of log weights.

    Args:
        forward: of chains from the base.
        backward: of chains from the law, the same sums along their way; None where there are none.

    Returns:
        Both bounds.
    """
    value, stderr = (float(part[0]) for part in bounds.log_mean(forward.astype(float)[:, None]))
    if backward is None:
        return LogPartition(value, stderr, float("nan"), float("nan"))
    upper, error = (float(part[0]) for part in bounds.log_mean(-backward.astype(float)[:, None]))
    return LogPartition(value, stderr, -upper, error)
