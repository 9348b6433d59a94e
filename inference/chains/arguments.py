"""What the kernels and their runs refuse before any compute."""

from typing import Any

from deepgen import checks

NEVER = 1e9
"""Nats that the flip of an observed entry would lose."""


def check_kernel(step_size: Any, num_steps: Any) -> None:
    """Refuse a kernel's settings.

    Args:
        step_size: positive.
        num_steps: at least 1.

    Raises:
        ValueError: naming the argument.
    """
    checks.positive("step_size", step_size)
    checks.at_least("num_steps", num_steps, 1)


def check_langevin(step_size: Any, noise_scale: Any, max_gradient: Any) -> None:
    """Refuse the settings of unadjusted Langevin steps.

    Args:
        step_size: positive.
        noise_scale: not negative.
        max_gradient: positive, or None.

    Raises:
        ValueError: naming the argument.
    """
    checks.positive("step_size", step_size)
    checks.positive("noise_scale", noise_scale, zero=True)
    if max_gradient is not None:
        checks.positive("max_gradient", max_gradient)


def check_exact(kernel: Any, what: str = "kernel") -> None:
    """Refuse a kernel that does not keep the law, where draws of the law are promised.

    Raises:
        ValueError: naming it.
    """
    if not kernel.exact:
        raise checks.problem(
            what,
            got=f"{type(kernel).__name__}, whose chains are not of the law",
            expected="a kernel that keeps it: HamiltonianSteps, FlipSteps or BlockGibbs",
            fix="Give this kernel to the objective, ContrastiveDivergence(kernel=...), which trains with short runs.",
        )


def check_kind(kernel: Any, discrete: bool) -> None:
    """Refuse a kernel for numbers where the law is of zeros and ones, and the other way round.

    Args:
        kernel: the kernel.
        discrete: whether the law's base is discrete.

    Raises:
        ValueError: naming it.
    """
    if kernel.discrete != discrete:
        kind = "zeros and ones" if discrete else "real numbers"
        names = "FlipSteps or, for an RBM, BlockGibbs" if discrete else "HamiltonianSteps or LangevinSteps"
        raise checks.problem(
            "kernel", got=f"{type(kernel).__name__} for a law of {kind}", expected=names, fix="Take one of these."
        )


def check_run(num_warmup: Any, num_samples: Any, num_steps: Any, thinning: Any) -> None:
    """Refuse the lengths that no run can have.

    Raises:
        ValueError: naming the argument.
    """
    for name, value, least in (
        ("num_warmup", num_warmup, 0),
        ("num_samples", num_samples, 1),
        ("num_steps", num_steps, 1),
    ):
        checks.at_least(name, value, least)
    checks.at_least("thinning", thinning, 1)
