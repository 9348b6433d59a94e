"""Draws down a ladder of noise, corrected by a density, in Pyro."""

from collections.abc import Mapping
from typing import Any

import torch

from deepgen.inference.imputation import result
from deepgen.inference.imputation.corrected import judge
from deepgen.inference.imputation.descent import pyro as descent
from deepgen.inference.imputation.hamiltonian import pyro as hamiltonian


def corrected(
    program: Any,
    x: torch.Tensor,
    observed: torch.Tensor,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """Chains over the missing entries that begin at ends of annealed Langevin dynamics, see `impute`.

    A step is one leapfrog step with a fresh momentum and its test: MALA.
    """
    ends = descent.descend(program, x, observed, {**options, "num_samples": 1}, progress, method="annealed-langevin")
    start = torch.as_tensor(ends.x[:, 0], dtype=x.dtype, device=x.device)
    start = start.reshape(options["num_chains"], len(x), -1)
    v = torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device)).reshape(len(x), -1)
    seen, once = observed.reshape(v.shape), {**options, "num_steps": 1}
    data = _Data(program, tuple(x.shape[1:]))
    draws = hamiltonian.walk(data, v, seen, start, once, progress, judge.ACCEPTED)
    return draws._replace(attrs={**draws.attrs, **judge.said(program.judge)})


class _Data:
    """The data as their own coordinates."""

    def __init__(self, program: Any, event_shape: tuple[int, ...]):
        self.program, self.event_shape = program, event_shape

    def log_prob(self, v: torch.Tensor) -> torch.Tensor:
        """log p of (..., D) up to a constant."""
        return self.program.log_density(v.reshape(-1, *self.event_shape)).reshape(v.shape[:-1])

    def to_data(self, v: torch.Tensor) -> torch.Tensor:
        """The data of (..., D)."""
        return v.reshape(*v.shape[:-1], *self.event_shape)
