"""Completions weighed by a Pyro program."""

from collections.abc import Mapping
from typing import Any

import torch

from deepgen.inference.imputation import result
from deepgen.inference.imputation.enumeration import completions
from deepgen.program.pyro import isolated, log_joint


def enumerate_missing(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """All completions weighed exactly, see `impute`."""
    values, seen = program.sequential().values(), observed.cpu().numpy()
    completions.refuse(seen, values)
    uniforms = torch.rand(options["num_chains"], options["num_samples"], len(x)).numpy()

    def log_prob(rows: Any) -> Any:
        with torch.no_grad(), isolated():
            return log_joint(program.model, {}, torch.as_tensor(rows, device=x.device)).cpu().numpy()

    return completions.draws(log_prob, x.cpu().numpy(), seen, values, uniforms)
