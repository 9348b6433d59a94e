"""What a fit is given, by its kind: refused before any compute where it is something else."""

from typing import Any, Protocol, runtime_checkable

from deepgen import checks
from deepgen.program import check_program


@runtime_checkable
class Objective(Protocol):
    """What can be minimised, of either engine."""

    def loss(self, *args: Any, **kwargs: Any) -> Any:
        """Of a model, a guide and their data."""


def check(program: Any, objective: Any) -> None:
    """Refuse what is no program and no pair, and what is no objective.

    Args:
        program: a program, or a pair (model, guide).
        objective: to be minimised, or None.

    Raises:
        TypeError: naming the argument.
    """
    if not isinstance(program, tuple):
        check_program(program, "a program, or a pair (model, guide)")
    elif len(program) != 2 or not all(callable(side) for side in program):
        raise checks.wrong_type(
            "program",
            program,
            expected="a program, or a pair (model, guide)",
            fix="Pass two functions; where there are no latents the guide does nothing.",
        )
    if objective is not None and (isinstance(objective, type) or not isinstance(objective, Objective)):
        raise checks.wrong_type(
            "objective",
            objective,
            expected="an objective of deepgen or of the engine",
            fix="Pass one, such as ELBO() or IWAE(num_particles=8).",
        )
