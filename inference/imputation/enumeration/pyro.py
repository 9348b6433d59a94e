"""Completions weighed by a Pyro program."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from deepgen.inference.imputation import result
from deepgen.inference.imputation.enumeration import completions
from deepgen.program.pyro import isolated


def weigh(sequence: Any, x: np.ndarray, observed: np.ndarray, device: Any = None) -> completions.Weighed:
    """The exact log density of every completion of the rows.

    Args:
        sequence: the factors of the program.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        device: where the program is.

    Returns:
        The densities.

    Raises:
        ValueError: entries that are not discrete, or rows with too many completions.
    """
    completions.refuse(observed, sequence.values())

    def log_prob(rows: Any, owner: Any) -> Any:
        with torch.no_grad(), isolated():
            parts = (torch.as_tensor(part, device=device) for part in (rows, owner))
            return sequence.log_prob(*parts).cpu().numpy()

    return completions.weigh(log_prob, x, observed, sequence.values())


def enumerate_missing(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """All completions weighed exactly, see `impute`."""
    sequence, rows, seen = program.sequential(), x.cpu().numpy(), observed.cpu().numpy()
    weighed = weigh(sequence, rows, seen, x.device)
    uniforms = torch.rand(options["num_chains"], options["num_samples"], len(x)).numpy(force=True)
    return completions.draws(weighed, rows, seen, sequence.values(), uniforms)
