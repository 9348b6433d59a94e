r"""The diffusions that turn data into noise, all of them linear: :math:`x_t = \alpha(t) x_0 + \sigma(t) \epsilon`.

Divided by α(t) every one of them is data plus noise of the standard deviation :math:`\rho = \sigma / \alpha`. A network
therefore sees :math:`(x_t / \alpha, \rho)` and serves them all.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

from deepgen import checks
from deepgen.nn import arguments


@dataclass(frozen=True)
class VE:
    r"""The variance-exploding diffusion: noise is added, and nothing is taken away.

    .. math:: dx = g(t)\, dw, \quad \alpha = 1, \quad \sigma(t) = \sigma_{\min} (\sigma_{\max} / \sigma_{\min})^t

    Song & Ermon 2019 (discrete levels); Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole 2021.

    Args:
        sigma_min: the least noise, in the data's units: what a draw cannot resolve.
        sigma_max: the largest; about the largest distance between two data (`inference.langevin.ladder`).
        levels: train on so many levels alone, from sigma_min to sigma_max in equal ratios; None for all in between.

    Raises:
        ValueError: standard deviations that are not 0 < sigma_min < sigma_max, or fewer than two levels.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    levels: int | None = None
    t_min: ClassVar[float] = 0.0
    power: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        _ordered("sigma", self.sigma_min, self.sigma_max)
        if self.levels is not None:
            arguments.whole("levels", self.levels, least=2)

    @property
    def prior_scale(self) -> float:
        """The standard deviation of the noise that is left at t = 1."""
        return self.sigma_max

    def time(self, level: Any) -> Any:
        """From numbers in [0, 1) to the times that are trained at."""
        xp = array_namespace(level)
        return level if self.levels is None else xp.floor(level * self.levels) / (self.levels - 1)

    def alpha(self, t: Any) -> Any:
        """The factor of the data at t."""
        return 0 * t + 1

    def sigma(self, t: Any) -> Any:
        """The standard deviation of the noise at t."""
        return self.sigma_min * array_namespace(t).exp(t * math.log(self.sigma_max / self.sigma_min))

    def drift(self, t: Any) -> Any:
        """a(t) of the drift a(t) x."""
        return 0 * t

    def diffusion(self, t: Any) -> Any:
        """g(t)."""
        return self.sigma(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))


@dataclass(frozen=True)
class VP:
    r"""The variance-preserving diffusion: data shrink as noise grows, and unit variance stays.

    .. math:: dx = -\tfrac12 \beta(t) x\, dt + \sqrt{\beta(t)}\, dw, \quad \alpha = e^{-B(t) / 2}, \quad
        \sigma^2 = 1 - e^{-B(t)}, \quad \beta(t) = \beta_{\min} + t (\beta_{\max} - \beta_{\min}), \quad
        B(t) = \int_0^t \beta

    Song et al. 2021; with discrete steps Ho, Jain & Abbeel 2020.

    Args:
        beta_min: β at t = 0.
        beta_max: β at t = 1.
        t_min: where draws end and densities begin, in (0, 1): the noise left there is what is not resolved.

    Raises:
        ValueError: numbers that are not 0 < beta_min < beta_max, or a ``t_min`` outside of (0, 1).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3
    power: ClassVar[float] = 2.0
    prior_scale: ClassVar[float] = 1.0
    levels: ClassVar[None] = None

    def __post_init__(self) -> None:
        _ordered("beta", self.beta_min, self.beta_max)
        if not 0 < self.t_min < 1:
            raise checks.problem("t_min", got=self.t_min, expected="a number in (0, 1)", fix="1e-3 is usual.")

    def time(self, level: Any) -> Any:
        """From numbers in [0, 1) to the times that are trained at."""
        return self.t_min + (1 - self.t_min) * level

    def alpha(self, t: Any) -> Any:
        """The factor of the data at t."""
        return array_namespace(t).exp(-0.5 * self._total(t))

    def sigma(self, t: Any) -> Any:
        """The standard deviation of the noise at t."""
        xp = array_namespace(t)
        return xp.sqrt(-xp.expm1(-self._total(t)))

    def drift(self, t: Any) -> Any:
        """a(t) of the drift a(t) x."""
        return -0.5 * self._rate(t)

    def diffusion(self, t: Any) -> Any:
        """g(t)."""
        return array_namespace(t).sqrt(self._rate(t))

    def _rate(self, t: Any) -> Any:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _total(self, t: Any) -> Any:
        return t * self.beta_min + 0.5 * t * t * (self.beta_max - self.beta_min)


@dataclass(frozen=True)
class SubVP(VP):
    r"""The diffusion below the variance-preserving one: the same shrinkage with less noise at every time.

    .. math:: dx = -\tfrac12 \beta x\, dt + \sqrt{\beta (1 - e^{-2 B})}\, dw, \quad \alpha = e^{-B / 2}, \quad
        \sigma = 1 - e^{-B}

    Song et al. 2021.

    Args:
        beta_min: as of `VP`.
        beta_max: as of `VP`.
        t_min: as of `VP`.

    Raises:
        ValueError: as `VP`.
    """

    t_min: float = 1e-2

    def sigma(self, t: Any) -> Any:
        """The standard deviation of the noise at t."""
        return -array_namespace(t).expm1(-self._total(t))

    def diffusion(self, t: Any) -> Any:
        """g(t)."""
        xp = array_namespace(t)
        return xp.sqrt(-self._rate(t) * xp.expm1(-2 * self._total(t)))


Diffusion = VE | VP | SubVP
SDES: dict[str, type] = {"ve": VE, "vp": VP, "subvp": SubVP}


def spec(sde: Diffusion) -> dict[str, Any]:
    """A diffusion as JSON knows it: its name and its numbers."""
    name = next(name for name, kind in SDES.items() if kind is type(sde))
    return {"sde": name, **asdict(sde)}


def of_spec(description: Mapping[str, Any]) -> Any:
    """The diffusion that `spec` described.

    Raises:
        ValueError: an unknown name, or numbers that it refuses.
    """
    checks.one_of("sde", description.get("sde"), SDES)
    return SDES[description["sde"]](**{name: value for name, value in description.items() if name != "sde"})


def check(sde: Any) -> Any:
    """A diffusion, or the one of that name with its usual numbers.

    Raises:
        ValueError: neither.
    """
    if isinstance(sde, VE | VP):
        return sde
    checks.one_of("sde", sde, SDES)
    return SDES[sde]()


def grid(sde: Diffusion, num_steps: int) -> Float[np.ndarray, " times"]:
    r"""Times from 1 down to t_min, evenly in :math:`t^{1/p}`: with p = 2 closer together where little noise is left.

    Args:
        sde: which says p.
        num_steps: how many steps.

    Returns:
        (num_steps + 1,).
    """
    ends = np.linspace(1.0, sde.t_min ** (1 / sde.power), num_steps + 1)
    times = ends**sde.power
    times[-1] = sde.t_min
    return times


def least_noise(sde: Diffusion) -> float:
    """The standard deviation ρ of what is not resolved, in the data's units."""
    end = np.asarray(sde.t_min)
    return float(sde.sigma(end) / sde.alpha(end))


def rows(value: Any, like: Any) -> Any:
    """Numbers of the rows, (n,), with axes of length one that make them multiply (n, *event)."""
    return array_namespace(value).reshape(value, (value.shape[0], *(1,) * (like.ndim - 1)))


def noised(sde: Diffusion, x: Float[Any, "n ..."], t: Float[Any, " n"], noise: Float[Any, "n ..."]) -> Any:
    """Data at time t, α x + σ ε.

    Args:
        sde: the diffusion.
        x: (n, *event).
        t: (n,).
        noise: (n, *event) standard normals.

    Returns:
        (n, *event).
    """
    return rows(sde.alpha(t), x) * x + rows(sde.sigma(t), x) * noise


def prior_log_prob(x: Float[Any, "n ..."], scale: float) -> Float[Any, " n"]:
    """The log density of N(0, scale² I), nats.

    Args:
        x: (n, *event).
        scale: its standard deviation.

    Returns:
        (n,).
    """
    xp = array_namespace(x)
    flat = xp.reshape(x / scale, (x.shape[0], -1))
    return -0.5 * xp.sum(flat * flat, axis=-1) - flat.shape[1] * (math.log(scale) + 0.5 * math.log(2 * math.pi))


def flow(sde: Diffusion, x: Any, t: Any, scaled: Any) -> Any:
    r"""The velocity of the probability flow, :math:`a x - \tfrac12 g^2 s`.

    Args:
        sde: the diffusion.
        x: (n, *event) at t.
        t: ().
        scaled: (n, *event), σ s(x, t).

    Returns:
        (n, *event).
    """
    return sde.drift(t) * x - 0.5 * sde.diffusion(t) ** 2 / sde.sigma(t) * scaled


def reverse_step(sde: Diffusion, x: Any, t: Any, t_next: Any, scaled: Any, noise: Any) -> Any:
    r"""A step of Euler and Maruyama down the reverse diffusion.

    .. math:: x' = x - (t - t') (a x - g^2 s) + g \sqrt{t - t'}\, \epsilon

    Anderson 1982, Reverse-time diffusion equation models; Song et al. 2021.

    Args:
        sde: the diffusion.
        x: (n, *event) at t.
        t: ().
        t_next: (), below t.
        scaled: (n, *event), σ s(x, t).
        noise: (n, *event) standard normals.

    Returns:
        (n, *event) at t_next.
    """
    xp = array_namespace(x)
    step, g = t - t_next, sde.diffusion(t)
    return x - step * (sde.drift(t) * x - g * g / sde.sigma(t) * scaled) + g * xp.sqrt(step) * noise


def denoised(sde: Diffusion, x: Any, t: Any, scaled: Any) -> Any:
    """The expected datum given a noisy one, (x + σ² s) / α (Tweedie): the last noise taken away.

    Args:
        sde: the diffusion.
        x: (n, *event) at t.
        t: ().
        scaled: (n, *event), σ s(x, t).

    Returns:
        (n, *event).
    """
    return (x + sde.sigma(t) * scaled) / sde.alpha(t)


def _ordered(what: str, low: Any, high: Any) -> None:
    if not (np.isfinite(low) and np.isfinite(high) and 0 < low < high):
        raise checks.problem(
            f"{what}_min and {what}_max",
            got=f"{low} and {high}",
            expected=f"0 < {what}_min < {what}_max",
            fix="Pass finite numbers in that order.",
        )
