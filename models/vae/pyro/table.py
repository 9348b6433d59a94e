"""Fitting a VAE to a table in Pyro, from the multivariate normal on."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from deepgen import checks
from deepgen.inference.likelihood.pyro import log_prob
from deepgen.inference.svi.loop import Fit
from deepgen.inference.svi.pyro.fit import fit
from deepgen.inference.svi.pyro.importance import IWAE
from deepgen.inference.svi.schedules import Linear
from deepgen.models.vae import recipe
from deepgen.models.vae.pyro.program import VAE
from deepgen.program.pyro import sample


def fit_table(
    x: Any,
    *,
    likelihood: Any = "gaussian_per_dimension",
    latent_dim: int | None = None,
    hidden: Sequence[int] = (64, 64),
    steps: int = 2000,
    batch_size: int | None = 128,
    num_particles: int = recipe.PARTICLES,
    pseudo_rows: int | None = None,
    learning_rate: float = recipe.LEARNING_RATE,
    validation: float = 0.1,
    patience: int | None = None,
    checkpoint: Any = None,
    resume: bool = True,
    progress: bool | None = None,
) -> Fit:
    r"""A VAE of a table with holes, fitted from a multivariate normal on: the default way to complete a table.

    The program of `VAE.table` starts as the normal that EM finds. It is trained by the importance-weighted bound of the
    observed cells (MIWAE, Mattei & Frellsen 2019),

    .. math:: \sum_i \log \frac1K \sum_k \frac{p(x_{i,\mathrm{observed}}, z_k)}{q(z_k \mid x_{i,\mathrm{observed}})},

    on the rows and on ``pseudo_rows`` rows drawn from that normal with the holes of the data, others for each pass over
    the rows, which keep a small table from being learned by heart. The state with the best bound of held-out rows is
    returned; where none is better than the normal itself, that is. Values are taken for missing at random.

    Args:
        x: (n, d), NaN where missing; for a Gaussian law standardised columns are best.
        likelihood: a Gaussian law or its name, or a law of mixed columns.
        latent_dim: how many latents; None for as many as features, at most 32.
        hidden: the widths of both networks' hidden layers.
        steps: at most so many.
        batch_size: rows a step.
        num_particles: K.
        pseudo_rows: how many in a pass; None for 20 for each column, at most twice the rows.
        learning_rate: of Adam at the first step; it falls linearly to a hundredth at the last.
        validation: the share of the rows that is watched and not fitted.
        patience: stop after this many evaluations, one every 100 steps, without improvement; None never stops early.
        checkpoint: as of `fit`.
        resume: as of `fit`.
        progress: as of `fit`.

    Returns:
        What `fit` returns.

    Raises:
        ValueError: data that the law does not take, too few rows, or what `fit` refuses.

    Warns:
        UserWarning: a column whose observed entries are all the same, and what `fit` warns of.
    """
    seed = int(torch.randint(2**31 - 1, ()))
    checks.positive("learning_rate", learning_rate)
    start = VAE.table(x, likelihood=likelihood, latent_dim=latent_dim, hidden=hidden)
    data = start.check_data(x, missing=True)
    checks.tell_constant("x", data)
    train, held = recipe.split(data, validation, seed)
    count = min(recipe.PSEUDO_ROWS * data.shape[1], 2 * len(train)) if pseudo_rows is None else pseudo_rows
    checks.at_least("pseudo_rows", count, 0)
    if count:
        times = recipe.passes(len(train), count, steps * (batch_size or 0))
        drawn = sample(start, count * times).numpy(force=True)
        train = np.concatenate([np.tile(train, (times, 1)), recipe.with_holes(drawn, data, seed)])
    done = fit(
        copy.deepcopy(start),
        train,
        steps=steps,
        batch_size=batch_size,
        objective=IWAE(num_particles=num_particles),
        learning_rate=Linear(steps, learning_rate, learning_rate / 100),
        clip_norm=5.0,
        validation=held,
        patience=steps if patience is None else patience,
        chunk=recipe.CHUNK,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    before, after = (
        float(log_prob(program, held, num_particles=recipe.COMPARED).value.mean()) for program in (start, done.program)
    )
    return done if after > before else replace(done, program=start)
