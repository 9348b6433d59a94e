"""What can be asked of a VAE in NumPyro: reconstructions, paths between data, latents in use, and classes."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen import checks
from deepgen.inference.likelihood.numpyro import class_log_prob
from deepgen.models.vae import activity, autoencoder, classes, interpolation
from deepgen.models.vae.numpyro import parts
from deepgen.program import Labelled, check_program, takes_labels
from deepgen.program.numpyro import propose


def reconstruct(rng_key: jax.Array, program: Any, x: Any, *, y: Any = None) -> jax.Array:
    """E[x' | z] at one draw z ~ q(z | x) of each row, through all levels.

    Args:
        rng_key: the key.
        program: the VAE, of one level or more, or the `MNAR` of one.
        x: (n, *event_shape); missing entries allowed.
        y: (n,) labels, or one for all, -1 where unknown, of a program with classes. Those not known are drawn from
            q(y | x).

    Returns:
        (n, *event_shape).

    Raises:
        TypeError: no key, or no program where there should be one.
        ValueError: a program that is no VAE, or data that it does not take.
    """
    checks.random_key(rng_key)
    check_program(program)
    vae, array = autoencoder.within(program), program.check_data(x, missing=True)
    return _reconstruct(rng_key, vae, jnp.asarray(array), _labels(vae, y, len(array)))


def interpolate(
    program: Any, start: Any, end: Any, num_points: int = 8, *, kind: str = "spherical", level: int = 1, y: Any = None
) -> jax.Array:
    """E[x | z] along a path between the posterior means of two (batches of) data.

    Args:
        program: the VAE, of one level or more, or the `MNAR` of one.
        start: (n, *event_shape).
        end: (n, *event_shape).
        num_points: how many points, both ends counted.
        kind: ``"spherical"`` (White 2016) or ``"linear"``.
        level: the level of the path, from 1, the one that x depends on. The levels below the path follow it at the
            means of p(z_k | z_{k+1}), so that its ends are then what that level keeps of the data.
        y: (n,) classes of the paths, or one for all, of a program with classes, which needs them.

    Returns:
        (num_points, n, *event_shape).

    Raises:
        TypeError: no program where there should be one.
        ValueError: a program that is no VAE, fewer than two points, an unknown kind or level, or data that it does not
            take.
    """
    check_program(program)
    checks.at_least("num_points", num_points, 2)
    checks.one_of("kind", kind, interpolation.KINDS)
    vae = autoencoder.within(program)
    checks.one_of("level", level, range(1, len(vae.sites) + 1))
    a, b = (jnp.asarray(program.check_data(x, missing=True)) for x in (start, end))
    checks.equal_shapes("start and end", a.shape, b.shape)
    labels = _labels(vae, y, len(a))
    classes.check_known(isinstance(vae, Labelled), labels)
    return _interpolate(vae, a, b, labels, num_points, kind, level)


def active_units(program: Any, x: Any, *, y: Any = None, threshold: float = 0.01) -> activity.ActiveUnits:
    """Which latents of which level the posterior of ``x`` uses (Burda, Grosse & Salakhutdinov 2016).

    Args:
        program: the VAE, of one level or more, or the `MNAR` of one.
        x: (n, *event_shape), two rows or more.
        y: (n,) labels, or one for all, -1 where unknown, of a program with classes. Those not known are taken to be the
            classifier's most probable ones.
        threshold: the variance of a posterior mean above which a latent is active.

    Returns:
        The activity of every latent.

    Raises:
        TypeError: no program where there should be one.
        ValueError: a program that is no VAE, or data that it does not take.
    """
    check_program(program)
    vae, array = autoencoder.within(program), program.check_data(x, missing=True)
    labels = _labels(vae, y, len(array))
    return activity.of_levels(parts.levels(vae, jnp.asarray(array), labels), threshold)


def classify(
    rng_key: jax.Array, program: Any, x: Any, *, method: str | None = None, num_particles: int = 100
) -> classes.ClassProbabilities:
    r"""Probabilities of the classes of each row: p(y | x), the classifier's q(y | x), or an importance estimate.

    .. math:: p(y \mid x) \approx \frac{w_y}{\sum_k w_k}, \qquad
        w_k = \frac1S \sum_s \frac{p(x, k, z_s)}{q(z_s \mid x, k)}, \quad z_s \sim q(z \mid x, k)

    Args:
        rng_key: the key, of the draws of the latents.
        program: a program with classes.
        x: (n, *event_shape); missing entries allowed, which are integrated out, but by ``"exact"``.
        method: one of the program's ``classifiers``, None for the first of them: ``"exact"`` for p(y | x) where the
            program has it in closed form, of complete data; ``"guide"`` for q(y | x), an approximation;
            ``"importance"`` for the estimate above, exact as S grows.
        num_particles: S; of the estimate alone.

    Returns:
        The probabilities, their standard errors and of what kind they are.

    Raises:
        TypeError: no key, or no program where there should be one.
        ValueError: data that the program does not take, a program without classes, or a method that is none of its.
    """
    checks.random_key(rng_key)
    check_program(program)
    classifiers = takes_labels(program, "program").classifiers
    method = classifiers[0] if method is None else method
    checks.one_of("method", method, classifiers)
    if method == "importance":
        found = class_log_prob(rng_key, program, x, num_particles=num_particles)
        return classes.posterior(found.value, found.stderr)
    if method == "exact":
        value = np.asarray(program.class_probs(x))
        return classes.ClassProbabilities(value, np.zeros_like(value), "exact")
    value = np.asarray(_class_probs(program, jnp.asarray(program.check_data(x, missing=True))))
    return classes.ClassProbabilities(value, np.zeros_like(value), "approximate")


def _labels(program: Any, y: Any, rows: int) -> jax.Array | None:
    return None if y is None else jnp.asarray(takes_labels(program).check_labels(y, rows))


@eqx.filter_jit
def _class_probs(program: Any, x: jax.Array) -> jax.Array:
    return program.class_probs(x)


@eqx.filter_jit
def _reconstruct(rng_key: jax.Array, program: Any, x: jax.Array, y: jax.Array | None) -> jax.Array:
    latents, _ = propose(rng_key, program.guide if y is None else program.given(y).guide, x)
    z = latents[program.sites[0]]
    return program.decode(z, *(latents[name] for name in ("y",) if name in latents))


@eqx.filter_jit
def _interpolate(
    program: Any, start: jax.Array, end: jax.Array, y: jax.Array | None, num_points: int, kind: str, level: int
) -> jax.Array:
    weights = jnp.linspace(0.0, 1.0, num_points, dtype=program.fill.dtype)
    first, last = (parts.levels_given(program, x, y)[level - 1].loc for x in (start, end))
    path = interpolation.interpolate(first, last, weights, kind)
    if y is not None:
        return program.decode(path, y)
    return program.decode(path if level == 1 else program.descend(path, level))
