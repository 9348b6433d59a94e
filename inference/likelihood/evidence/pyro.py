"""The evidence of rows with holes under a Pyro program that decides step by step."""

from typing import Any

import numpy as np
import torch

from deepgen.inference.imputation.enumeration import pyro as enumeration
from deepgen.inference.imputation.sequential import clouds
from deepgen.inference.imputation.sequential import pyro as sequential
from deepgen.inference.likelihood.evidence import ways
from deepgen.inference.likelihood.evidence.ways import Evidence


def log_evidence(sequence: Any, x: torch.Tensor, observed: np.ndarray, num_particles: int) -> Evidence:
    """log p(x_observed): exact where the missing entries come last or can be enumerated, else by particles.

    Args:
        sequence: the factors of the program, or its mixture of them.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        num_particles: of each of the `ways.CLOUDS` clouds of a row that needs them.

    Returns:
        The evidence.

    Raises:
        ValueError: steps observed in part, where the law of their entries is joint.
    """
    found = ways.ways(sequence, observed)

    def taken(rows: np.ndarray) -> tuple[Any, torch.Tensor]:
        index = torch.as_tensor(rows, device=x.device)
        return sequence.taken(index), x[index]

    def completed(rows: np.ndarray, *run: int) -> clouds.Clouds:
        own, data = taken(rows)
        seen = torch.as_tensor(observed[rows], device=x.device)
        return clouds.mix(sequential.complete_all(own, data, seen, *run))

    def last(rows: np.ndarray) -> tuple[Any, Any]:
        return completed(rows, 1).log_evidence[0], 0.0

    def few(rows: np.ndarray) -> tuple[Any, Any]:
        own, data = taken(rows)
        return enumeration.weigh(own, data.cpu().numpy(), observed[rows], x.device).evidence(), 0.0

    def estimated(rows: np.ndarray) -> tuple[Any, Any]:
        return clouds.log_evidence(completed(rows, num_particles, ways.CLOUDS).log_evidence.astype(float))

    return ways.gather(len(x), [(found.last, last), (found.few, few), (found.estimated, estimated)])
