"""What a flow has to be as a prior or as a posterior of latents, and the points by which its moments are taken."""

from functools import cache
from typing import Any

import numpy as np

from deepgen import checks

POINTS = 64
"""Pairs of points of a posterior's base."""


def check_prior(flow: Any, latent_dim: int) -> None:
    """Refuse a flow that is no law of the latents.

    Args:
        flow: the flow.
        latent_dim: how many latents.

    Raises:
        ValueError: data of another shape, or a flow that wants a context.
    """
    _check_shape("prior", flow, latent_dim)
    if flow.context_dim:
        raise checks.problem(
            "prior",
            got=f"a flow with context_dim={flow.context_dim}",
            expected="a flow without a context",
            fix="Make it with context_dim=0; a conditional flow can be the posterior.",
        )


def check_posterior(flow: Any, latent_dim: int) -> None:
    """Refuse a flow that cannot carry the encoder's normal to the latents.

    Args:
        flow: the flow.
        latent_dim: how many latents.

    Raises:
        ValueError: data of another shape, or a base that is not normal.
    """
    _check_shape("posterior", flow, latent_dim)
    if flow.base != "normal":
        raise checks.problem(
            "posterior",
            got=f"a flow with base={flow.base!r}",
            expected="base='normal': the encoder's normal stands in its place",
            fix="Make it with base='normal'.",
        )


@cache
def points(latent_dim: int) -> np.ndarray:
    """Points of equal weight with the mean and the covariance of a standard normal: exact for affine maps of one.

    Args:
        latent_dim: D.

    Returns:
        (K, D), each with its negative.

    >>> bool(np.allclose(points(3).mean(0), 0) and np.allclose(points(3).T @ points(3) / len(points(3)), np.eye(3)))
    True
    """
    drawn = np.random.default_rng(0).standard_normal((max(POINTS, 2 * latent_dim), latent_dim))
    root = np.linalg.cholesky(drawn.T @ drawn / len(drawn))
    half = np.linalg.solve(root, drawn.T).T
    return np.concatenate([half, -half])


def _check_shape(what: str, flow: Any, latent_dim: int) -> None:
    if tuple(flow.event_shape) != (latent_dim,):
        raise checks.problem(
            what,
            got=f"a flow of event_shape {tuple(flow.event_shape)} for latent_dim={latent_dim}",
            expected=f"one of event_shape ({latent_dim},)",
            fix=f"Make the flow with event_shape ({latent_dim},).",
        )
