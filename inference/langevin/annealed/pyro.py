"""Descents of a noise ladder in torch, and as kernels for ``pyro.infer.MCMC``."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from deepgen import checks
from deepgen.inference.langevin import arguments, ladder, overdamped

__all__ = ["AnnealedLangevin", "PredictorCorrector", "descend", "descend_with_noise"]

Score = Callable[[Tensor, Tensor], Tensor]


def descend_with_noise(
    noise_at: Callable[[Any, Any], Tensor],
    score_fn: Score,
    position: Float[Tensor, "n *event"],
    sigmas: Any,
    *,
    num_steps: int,
    step_size: float | None = None,
    snr: float | None = None,
    denoise: bool = True,
) -> Float[Tensor, "n *event"]:
    """``descend`` as a function of its noise.

    Args:
        noise_at: (level, step), both from 0 -> (n, d) standard normals, d the size of an event; the predictor's step
            comes after the Langevin steps of its level.
        score_fn: as in ``descend``.
        position: as in ``descend``.
        sigmas: as in ``descend``.
        num_steps: as in ``descend``.
        step_size: as in ``descend``.
        snr: as in ``descend``.
        denoise: as in ``descend``.

    Returns:
        As ``descend``.

    Raises:
        ValueError: as ``descend``.
    """
    arguments.check_ladder(np.asarray(sigmas), num_steps=num_steps, step_size=step_size, snr=snr)
    flat, event = position.reshape(position.shape[0], -1), position.shape[1:]

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        found = score_fn(x.reshape(x.shape[0], *event), sigma.expand(len(x)))
        arguments.check_value("score_fn", tuple(found.shape), (x.shape[0], *event))
        return found.reshape(x.shape)

    levels = torch.as_tensor(np.asarray(sigmas), dtype=flat.dtype, device=flat.device)
    sizes = ladder.step_sizes(levels, 1.0 if step_size is None else step_size)
    x = flat
    with torch.no_grad():
        for number, (sigma, h) in enumerate(zip(levels, sizes, strict=True)):
            for t in range(num_steps):
                s, z = score(x, sigma), noise_at(number, t)
                x = overdamped.propose(x, s, h if snr is None else ladder.corrector_step_size(sigma, snr), z)
            if snr is not None and number + 1 < len(levels):
                z = noise_at(number, num_steps)
                x = ladder.predict(x, score(x, sigma), sigma, levels[number + 1], z)
        x = ladder.denoise(x, score(x, levels[-1]), levels[-1]) if denoise else x
    return x.reshape(position.shape)


def descend(
    score_fn: Score,
    position: Float[Tensor, "n *event"],
    sigmas: Any,
    *,
    num_steps: int,
    step_size: float | None = None,
    snr: float | None = None,
    denoise: bool = True,
) -> Float[Tensor, "n *event"]:
    """One descent of a noise ladder: annealed Langevin dynamics, or with ``snr`` the predictor-corrector.

    On each level, ``num_steps`` Langevin steps with the score of that noise, of size h_i = step_size sigma_i / sigma_L,
    or so large that drift and noise are in the ratio ``snr``; the predictor-corrector then steps down to the next level
    by the reverse diffusion. The draws are approximate.

    Args:
        score_fn: (x (n, *event), sigma (n,)) -> (n, *event), the score of the data with noise sigma.
        sigmas: (L,) noise standard deviations from the largest to the smallest, such as ``ladder.geometric``.
        num_steps: Langevin steps on each level.
        step_size: h of the last level, a leapfrog step: the Langevin step is its square.
        snr: instead, the ratio of drift to noise; given, there is a predictor.
        denoise: whether the last noise is taken away at the end.
        position: (n, *event) where to start, a draw of the noise of the first level.

    Returns:
        (n, *event) draws.

    Raises:
        ValueError: a ladder that does not descend, not one of ``step_size`` and ``snr``, a score of the wrong shape.

    References:
        Song and Ermon, "Generative modeling by estimating gradients of the data distribution" (2019) and "Improved
        techniques for training score-based generative models" (2020); Song et al., "Score-based generative modeling
        through stochastic differential equations" (2021).
    """
    like = position.reshape(len(position), -1)

    def noise_at(level: int, t: int) -> Tensor:
        return torch.randn_like(like)

    return descend_with_noise(
        noise_at,
        score_fn,
        position,
        sigmas,
        num_steps=num_steps,
        step_size=step_size,
        snr=snr,
        denoise=denoise,
    )


class DescentState(NamedTuple):
    """The state of a descending kernel; each field but the first has an axis of chains in front."""

    i: int
    """draws made"""
    z: dict[str, Tensor]
    """the last draw, ``x``"""
    diverging: Tensor
    """whether it is not finite"""


class _Descending(MCMCKernel):
    law = "approximate"
    model = None

    def __init__(self, score_fn: Score, sigmas: Any, event_shape: tuple[int, ...], **settings: Any) -> None:
        arguments.check_ladder(np.asarray(sigmas), **{k: v for k, v in settings.items() if k != "denoise"})
        self.score_fn, self.sigmas, self.event_shape = score_fn, np.asarray(sigmas), tuple(event_shape)
        self.settings = settings
        self.transforms: dict[str, Any] = {}
        self._divergences: list[int] = []
        self._skipped = self._drawn = 0
        super().__init__()

    def begin(
        self,
        num_chains: int,
        num_warmup: int,
        params: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> tuple[DescentState, Callable[[DescentState], DescentState]]:
        """Nothing drawn yet, and the function that draws, one descent from fresh noise for each chain."""
        empty = torch.zeros(num_chains, *self.event_shape)
        return DescentState(0, {"x": empty}, torch.zeros(num_chains, dtype=torch.bool)), self._next

    def constrain(self, z: dict[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Draws are values."""
        return z

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Count from here."""
        self._divergences, self._skipped, self._drawn = [], warmup_steps, 0

    @property
    def initial_params(self) -> dict[str, Tensor]:
        """Zeros: each draw begins with fresh noise."""
        return {"x": torch.zeros(self.event_shape)}

    @initial_params.setter
    def initial_params(self, params: dict[str, Tensor]) -> None:
        """Refused: each draw begins with fresh noise."""
        raise checks.problem(
            "initial_params", got="values", expected="None", fix="Each draw begins with fresh noise; leave it out."
        )

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """A draw: one descent from fresh noise, independent of the last."""
        state = self._next(DescentState(0, {"x": params["x"][None]}, torch.zeros(1, dtype=torch.bool)))
        self._drawn += 1
        if self._drawn > self._skipped and bool(state.diverging[0]):
            self._divergences.append(self._drawn - self._skipped - 1)
        return {"x": state.z["x"][0]}

    def logging(self) -> "OrderedDict[str, str]":
        """What stands beside the progress bar."""
        return OrderedDict([("divergences", str(len(self._divergences)))])

    def diagnostics(self) -> dict[str, Any]:
        """The draws that are not finite."""
        return {"divergences": self._divergences}

    def _next(self, state: DescentState) -> DescentState:
        noise = float(self.sigmas[0]) * torch.randn_like(state.z["x"])
        x = descend(self.score_fn, noise, self.sigmas, **self.settings)
        return DescentState(state.i + 1, {"x": x}, ~torch.isfinite(x).reshape(len(x), -1).all(1))


class AnnealedLangevin(_Descending):
    """Annealed Langevin dynamics: each draw is one descent of the noise ladder from fresh noise.

    Draws are independent of each other and approximate: the law is that of the score and of finitely many steps. A
    warm-up learns nothing.

    Args:
        score_fn: (x (n, *event), sigma (n,)) -> (n, *event), the score of the data with noise sigma.
        sigmas: (L,) noise standard deviations from the largest to the smallest, such as ``ladder.geometric``.
        event_shape: of one draw.
        num_steps: Langevin steps on each level.
        step_size: h of the last level, a leapfrog step: the Langevin step is its square. None is
            ``ladder.best_step_size``, which meets each level's noise.
        denoise: whether the last noise is taken away at the end.

    Raises:
        ValueError: a ladder that does not descend, or a number out of range.

    References:
        Song and Ermon, "Generative modeling by estimating gradients of the data distribution" (2019) and "Improved
        techniques for training score-based generative models" (2020).
    """

    def __init__(
        self,
        score_fn: Score,
        sigmas: Any,
        *,
        event_shape: tuple[int, ...],
        num_steps: int = 5,
        step_size: float | None = None,
        denoise: bool = True,
    ) -> None:
        levels = np.asarray(sigmas)
        arguments.check_ladder(levels, num_steps=num_steps, step_size=1.0 if step_size is None else step_size)
        h = ladder.best_step_size(levels, num_steps) if step_size is None else step_size
        super().__init__(score_fn, levels, event_shape, num_steps=num_steps, step_size=h, denoise=denoise)


class PredictorCorrector(_Descending):
    """The predictor-corrector of the variance-exploding process: each draw is one descent from fresh noise.

    On each level ``num_steps`` Langevin steps correct, then a step of the reverse diffusion predicts the next level.
    Draws are independent of each other and approximate.

    Args:
        score_fn: (x (n, *event), sigma (n,)) -> (n, *event), the score of the data with noise sigma.
        sigmas: (L,) noise standard deviations from the largest to the smallest, such as ``ladder.geometric``.
        event_shape: of one draw.
        num_steps: Langevin steps on each level.
        snr: the ratio of drift to noise in them.
        denoise: whether the last noise is taken away at the end.

    Raises:
        ValueError: a ladder that does not descend, or a number out of range.

    References:
        Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole, "Score-based generative modeling through stochastic
        differential equations" (2021).
    """

    def __init__(
        self,
        score_fn: Score,
        sigmas: Any,
        *,
        event_shape: tuple[int, ...],
        num_steps: int = 1,
        snr: float = 0.16,
        denoise: bool = True,
    ) -> None:
        super().__init__(score_fn, sigmas, event_shape, num_steps=num_steps, snr=snr, denoise=denoise)
