"""Descents of a noise ladder in JAX, and as kernels for ``numpyro.infer.MCMC``."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from deepgen.inference.langevin import arguments, ladder, overdamped

__all__ = ["AnnealedLangevin", "PredictorCorrector", "descend", "descend_with_noise"]

Score = Callable[[Array, Array], Array]


def descend_with_noise(
    noise_at: Callable[[Any, Any], Array],
    score_fn: Score,
    position: Float[Array, "n *event"],
    sigmas: Any,
    *,
    num_steps: int,
    step_size: float | None = None,
    snr: float | None = None,
    denoise: bool = True,
) -> Float[Array, "n *event"]:
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

    def score(x: Array, sigma: Array) -> Array:
        found = score_fn(x.reshape(x.shape[0], *event), jnp.broadcast_to(sigma, x.shape[:1]))
        arguments.check_value("score_fn", tuple(found.shape), (x.shape[0], *event))
        return found.reshape(x.shape)

    levels = jnp.asarray(sigmas, flat.dtype)
    nexts = jnp.append(levels[1:], 0.0)
    sizes = ladder.step_sizes(levels, 1.0 if step_size is None else step_size)

    def descent(x: Array, level: tuple[Array, ...]) -> tuple[Array, None]:
        number, sigma, sigma_next, h = level

        def move(t: Any, x: Array) -> Array:
            s, z = score(x, sigma), noise_at(number, t)
            size = h if snr is None else ladder.corrector_step_size(sigma, snr)
            return overdamped.propose(x, s, size, z)

        x = lax.fori_loop(0, num_steps, move, x)
        if snr is None:
            return x, None
        below = ladder.predict(x, score(x, sigma), sigma, sigma_next, noise_at(number, num_steps))
        return jnp.where(sigma_next > 0, below, x), None

    x, _ = lax.scan(descent, flat, (jnp.arange(len(levels)), levels, nexts, sizes))
    return (ladder.denoise(x, score(x, levels[-1]), levels[-1]) if denoise else x).reshape(position.shape)


def descend(
    rng_key: Array,
    score_fn: Score,
    position: Float[Array, "n *event"],
    sigmas: Any,
    *,
    num_steps: int,
    step_size: float | None = None,
    snr: float | None = None,
    denoise: bool = True,
) -> Float[Array, "n *event"]:
    """One descent of a noise ladder: annealed Langevin dynamics, or with ``snr`` the predictor-corrector.

    On each level, ``num_steps`` Langevin steps with the score of that noise, of size h_i = step_size sigma_i / sigma_L,
    or so large that drift and noise are in the ratio ``snr``; the predictor-corrector then steps down to the next level
    by the reverse diffusion. The draws are approximate.

    Args:
        rng_key: a JAX key.
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
    shape, dtype = (position.shape[0], position[0].size), position.dtype

    def noise_at(level: Any, t: Any) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(rng_key, level), t), shape, dtype)

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
    """The state of a descending kernel; with vectorized chains each field has an axis of chains in front."""

    i: Array
    """draws made"""
    z: dict[str, Array]
    """the last draw, ``x``"""
    diverging: Array
    """whether it is not finite"""
    rng_key: Array


class _Descending(MCMCKernel):
    sample_field = "z"
    default_fields = ("z", "diverging")
    law = "approximate"
    model = None

    def __init__(self, score_fn: Score, sigmas: Any, event_shape: tuple[int, ...], **settings: Any) -> None:
        arguments.check_ladder(np.asarray(sigmas), **{k: v for k, v in settings.items() if k != "denoise"})
        self.score_fn, self.sigmas, self.event_shape = score_fn, np.asarray(sigmas), tuple(event_shape)
        self.settings = settings

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: Any = (), model_kwargs: Any = None
    ) -> DescentState:
        """Nothing drawn yet."""
        batch = () if is_prng_key(rng_key) else (len(rng_key),)
        zero = jnp.zeros(batch, jnp.int32)
        return DescentState(zero, {"x": jnp.zeros((*batch, *self.event_shape))}, zero > 0, rng_key)

    def sample(self, state: DescentState, model_args: Any, model_kwargs: Any) -> DescentState:
        """A draw: one descent from fresh noise, independent of the last."""
        single = is_prng_key(state.rng_key)
        keys = state.rng_key[None] if single else state.rng_key
        keys, own = jnp.swapaxes(jax.vmap(jax.random.split)(keys), 0, 1)
        shape = (1, *self.event_shape)
        noise = jax.vmap(lambda key: float(self.sigmas[0]) * jax.random.normal(jax.random.fold_in(key, 0), shape))(own)
        one = jax.vmap(lambda key, x: descend(key, self.score_fn, x, self.sigmas, **self.settings))
        x = one(own, noise)[:, 0]
        finite = jnp.isfinite(x).reshape(len(x), -1).all(1)
        new = DescentState(state.i + 1, {"x": x}, ~finite, keys)
        return jax.tree.map(lambda a, b: a.reshape(b.shape), new, state) if single else new


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
