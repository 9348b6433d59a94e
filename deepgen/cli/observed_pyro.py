"""Fitting to data with holes in Pyro: the bound of the observed entries."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from deepgen.handlers.sites.pyro import ObservedEntries
from deepgen.inference.svi.pyro import Fit, fit
from deepgen.program.pyro import with_params

BATCH_SIZE = 128


class Observing(Messenger):
    """The density of site x becomes that of its observed entries, the others integrated out."""

    def __init__(self, observed: torch.Tensor):
        self.observed = observed
        super().__init__()

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "x":
            msg["fn"] = ObservedEntries(msg["fn"], self.observed, msg["value"])


def fit_observed(program: Any, x: np.ndarray, **options: Any) -> Fit:
    r"""Fit by the bound of what is observed (Mattei & Frellsen 2019), nats per row:

    E_{q(z | x_observed)}[log p(x_observed | z)] - KL(q(z | x_observed) || p(z))

    It bounds log p(x_observed), so it is right where values are missing (completely) at random.

    Args:
        program: a program whose law of x is elementwise independent given the latents; a copy is trained.
        x: (n, *event_shape), NaN where missing.
        options: of `fit`.

    Returns:
        The `Fit`, its ``program`` trained.
    """
    program = deepcopy(program)

    def model(x: torch.Tensor) -> Any:
        missing = torch.isnan(x) if x.is_floating_point() else x < 0
        filled = torch.where(missing, torch.zeros((), dtype=x.dtype, device=x.device), x)
        with poutine.scale(scale=1 / len(x)), Observing(~missing):
            return program.model(filled)

    def guide(x: torch.Tensor) -> Any:
        with poutine.scale(scale=1 / len(x)):
            return program.guide(x)

    options.setdefault("batch_size", BATCH_SIZE)
    found = fit((model, guide), x, **options)
    return replace(found, program=with_params(program, found.params))
