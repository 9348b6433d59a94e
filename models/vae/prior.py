"""What the priors have in common: their names and what their constructors need."""

from typing import Any

import numpy as np

from deepgen import checks
from deepgen.nn.bounded import unbounded
from deepgen.program import Conditional

NAMES = ("standard", "mixture", "vamp")


def check_name(name: str) -> None:
    """Refuse an unknown prior.

    Raises:
        ValueError: naming those there are.
    """
    checks.one_of("prior", name, NAMES)


def check_components(name: Any, num_components: int | None) -> int:
    """The number of components, where the prior is a mixture.

    Args:
        name: the prior's name, or a flow that is the prior.
        num_components: the user's, or None.

    Returns:
        The number; 0 where the prior has none.

    Raises:
        ValueError: an unknown prior, a number that is missing, too small, or that nothing would use.
    """
    flow = isinstance(name, Conditional)
    if not flow:
        check_name(name)
    if (flow or name == "standard") and num_components is not None:
        raise checks.problem(
            "num_components",
            got=num_components,
            expected="None with a flow as prior" if flow else "None with prior='standard'",
            fix="Leave it out, or take prior='mixture' or 'vamp'.",
        )
    if not flow and name != "standard" and (num_components is None or num_components < 2):
        raise checks.problem(
            "num_components", got=num_components, expected="a number >= 2", fix="Say how many components the prior has."
        )
    return int(num_components or 0)


def unit_scale() -> float:
    """The unbounded number that stands for a standard deviation of one."""
    return float(unbounded(np.zeros(()), -7.0, 3.0))


def pseudo_inputs(
    features: np.ndarray | None, fill: np.ndarray, num_components: int, noise: Any, num_codes: int = 0
) -> np.ndarray:
    """Where the pseudo-inputs of a VampPrior start: rows of the data, or noise around the fill.

    Args:
        features: (n, F) of the data, complete; None for noise.
        fill: (F,) what an encoder is shown where data is missing.
        num_components: K.
        noise: (K, F) standard normal.
        num_codes: C, the classes, each of which is in its turn that of a pseudo-input.

    Returns:
        (K, F + C), the classes' codes behind the features.
    """
    codes = np.eye(num_codes)[np.arange(num_components) % max(num_codes, 1)] if num_codes else np.zeros((len(noise), 0))
    if features is None:
        return np.concatenate([fill + np.asarray(noise), codes], axis=1)
    index = np.linspace(0, len(features) - 1, num_components).round().astype(int)
    return np.concatenate([features[index] + 0.01 * np.asarray(noise), codes], axis=1)
