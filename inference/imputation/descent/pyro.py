"""Draws down a ladder of noise by a Pyro program."""

from collections.abc import Mapping
from typing import Any

import torch
from tqdm.auto import trange

from deepgen.inference.imputation import result
from deepgen.inference.imputation.descent import chunks


def descend(
    program: Any,
    x: torch.Tensor,
    observed: torch.Tensor,
    options: Mapping[str, int],
    progress: bool | None,
    *,
    method: str,
) -> result.Draws:
    """Independent draws of all rows, see `impute`; the program's ``complete`` makes them."""
    chains, samples = options["num_chains"], options["num_samples"]
    count, size = chains * samples, x[0].numel()
    group = chunks.together(count, len(x), size)
    filled = torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
    rows, seen = (part.repeat(group, *(1,) * (x.ndim - 1)) for part in (filled, observed))
    disable = None if progress is None else not progress
    drawn = torch.cat(
        [
            program.complete(rows, seen, method=method, num_steps=options["num_steps"])
            for _ in trange(-(-count // group), disable=disable)
        ]
    )
    shape = (chains, samples, *x.shape)
    return result.Draws(
        drawn.reshape(-1, *x.shape)[:count].reshape(shape).cpu().numpy(), {}, chunks.stats(count, len(x)), {}
    )
