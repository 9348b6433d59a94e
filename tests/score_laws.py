"""A score model whose law is known: the exact score of a normal law."""

from typing import Any

import numpy as np
from scipy.linalg import sqrtm
from sequence_laws import normal

BETA, T_MIN = (0.1, 20.0), 1e-3
RNG = np.random.default_rng(9)
LOC = RNG.normal(size=4).astype(np.float32)
FACTOR = (0.6 * np.eye(4) + 0.35 * RNG.normal(size=(4, 4))).astype(np.float32)


def pushed(t: float, loc: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the probability flow of a variance-preserving diffusion at t, begun at N(0, I) at t = 1.

    It is linear: (x_t - alpha_t m) = S_t^(1/2) S_1^(-1/2) (x_1 - alpha_1 m), S_t = alpha_t^2 C + (1 - alpha_t^2) I.
    """

    def alpha(t: float) -> float:
        return float(np.exp(-0.5 * (t * BETA[0] + 0.5 * t * t * (BETA[1] - BETA[0]))))

    def spread(t: float) -> np.ndarray:
        return alpha(t) ** 2 * covariance + (1 - alpha(t) ** 2) * np.eye(len(loc))

    step = np.real(sqrtm(spread(t))) @ np.linalg.inv(np.real(sqrtm(spread(1.0))))
    return alpha(t) * loc - step @ (alpha(1.0) * loc), step @ step.T


def exact_law() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the normal law whose scores `linear_score` has."""
    factor = FACTOR.astype(float)
    return LOC.astype(float), factor @ factor.T


def linear_score() -> dict[str, Any]:
    """The score of N(m, L L') at every level: draws are those of its probability flow, N(m, L L') but for 1e-2."""
    mean, covariance = pushed(T_MIN, *exact_law())
    sde = {"sde": "vp", "beta_min": BETA[0], "beta_max": BETA[1], "t_min": T_MIN}
    return {
        "config": {"event_shape": [4], "sde": sde, "network": {"network": "GaussianScore", "event_shape": [4]}},
        "tensors": {"network.loc": LOC, "network.factor": FACTOR},
        **normal(mean, covariance),
        "event_shape": (4,),
        "integer": False,
        "tight": True,
        "exact": True,
        "latent": False,
        "generator": "network",
        "solver_error": 5e-4,
        "posterior": lambda x: {},
        "decode": lambda latents: np.zeros(4),
    }
