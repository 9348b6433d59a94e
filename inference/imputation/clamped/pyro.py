"""Clamped chains in Pyro: every row and chain in one run."""

from collections.abc import Mapping
from typing import Any

import torch

from deepgen.inference.imputation import result
from deepgen.program.pyro import isolated


def clamped(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """Chains of the program's own kernel over the missing entries, from its base, see `impute`."""
    law = program.distribution()
    with torch.no_grad(), isolated():
        drawn = law.base.sample((options["num_chains"], len(x))).to(x)
        run = law.kernel.run(
            law,
            torch.where(observed, x.nan_to_num(), drawn),
            num_warmup=options["num_warmup"],
            num_samples=options["num_samples"],
            num_steps=options["num_steps"],
            observed=observed,
            progress=progress,
        )
    stats, said = result.chain_stats(
        run.log_density.transpose(0, 1).cpu().numpy(),
        acceptance_rate=run.accept_prob.cpu().numpy(),
        step_size=None if run.step_size is None else run.step_size.cpu().numpy(),
        diverging=None if run.diverging is None else run.diverging.cpu().numpy(),
    )
    said = {**said, "kernel": type(law.kernel).__name__}
    return result.Draws(run.x.transpose(0, 1).cpu().numpy(), {}, stats, said)
