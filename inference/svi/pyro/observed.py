"""A program's model of data with holes, and its guide of data without, in Pyro."""

from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine.messenger import Messenger

from deepgen.handlers.sites.pyro import ObservedEntries, independent, interior
from deepgen.inference.svi import rows
from deepgen.program.said import complete_data


class ObservedModel:
    """A model whose site "x" has the density of its observed entries, the missing ones integrated out.

    In a plain ``SVI`` it is how a program is fitted to data with holes; `fit` does so by itself. With `IWAE` its
    loss is the MIWAE bound (Mattei & Frellsen 2019).

    Args:
        model: p(latents, x), the law of x independent over its elements given the latents.

    Raises:
        ValueError: when called, where the elements of x are not independent given the latents.

    >>> import math, pyro, torch, deepgen.pyro as dg
    >>> vae = dg.VAE.mlp((2,), 1, "gaussian", hidden=(4,))
    >>> x = torch.tensor([[0.5, math.nan], [math.nan, 1.0]])
    >>> adam = pyro.optim.Adam({"lr": 1e-3})
    >>> svi = pyro.infer.SVI(dg.ObservedModel(vae.model), vae.guide, adam, dg.IWAE(num_particles=2))
    >>> math.isfinite(svi.step(x))
    True
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        self.model = model

    def __call__(self, x: torch.Tensor, *args: Any) -> Any:
        """Run the model.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            args: what else the model takes, such as labels.

        Returns:
            What the model returns.

        Raises:
            ValueError: the elements of x are not independent given the latents.
        """
        observed = ~torch.isnan(x) if x.is_floating_point() else x >= 0
        with _Observing(observed):
            return self.model(torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device)), *args)


class CompleteGuide:
    """A guide whose data are known to be complete.

    Args:
        guide: q(latents | x).
    """

    def __init__(self, guide: Callable[..., Any]) -> None:
        self.guide = guide

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the guide.

        Args:
            args: of the guide.
            kwargs: of the guide.

        Returns:
            What the guide returns.
        """
        with complete_data():
            return self.guide(*args, **kwargs)


class _Observing(Messenger):
    def __init__(self, observed: torch.Tensor) -> None:
        self.observed = observed
        super().__init__()

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] != "x":
            return
        fn = msg["fn"]
        if not independent(fn):
            raise rows.not_elementwise(fn)
        msg["fn"] = ObservedEntries(fn, self.observed, interior(fn, msg["value"]))
