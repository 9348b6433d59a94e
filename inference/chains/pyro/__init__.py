"""Kernels over whole data sets in torch: of real numbers, and of zeros and ones."""

from typing import Any

from deepgen.inference.chains.pyro.binary import BlockGibbs, FlipSteps
from deepgen.inference.chains.pyro.real import HamiltonianSteps, LangevinSteps
from deepgen.inference.chains.pyro.walking import Run, Step, steps

__all__ = ["BlockGibbs", "FlipSteps", "HamiltonianSteps", "LangevinSteps", "Run", "Step", "default", "steps"]


def default(base: Any) -> Any:
    """The kernel for a law on this base: flips of zeros and ones, Hamiltonian steps of real numbers.

    Args:
        base: a distribution.
    """
    return FlipSteps() if base.support.is_discrete else HamiltonianSteps()
