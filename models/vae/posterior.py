"""What the amortised posteriors have in common: their names, and how an encoder's numbers are read."""

import math
from typing import Any

import array_api_compat

from deepgen import checks
from deepgen.nn.bounded import bounded

NAMES = ("diagonal", "full", "conjugate")
STRETCH = 2.0


def check_name(name: str) -> None:
    """Refuse an unknown posterior.

    Raises:
        ValueError: naming those there are.
    """
    checks.one_of("posterior", name, NAMES)


def scale(raw: Any) -> Any:
    """Standard deviations from unbounded numbers: log s in (-7, 3)."""
    return array_api_compat.array_namespace(raw).exp(bounded(raw, -7.0, 3.0))


def latent_dim(num_params: int) -> int:
    """How many latents a full-covariance posterior of that many numbers has: l with 2 l + l (l - 1) / 2 numbers."""
    return (math.isqrt(9 + 8 * num_params) - 3) // 2
