"""Programs measured on held-out rows in Pyro: compared by ArviZ, and split into rate and distortion."""

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepgen import checks
from deepgen.evaluation.loo import comparison, estimated, held_out, refuse_mixture, refuse_one
from deepgen.evaluation.rate_distortion import RateDistortion, rate_distortion_table, refuse_unsplit
from deepgen.inference.likelihood import streaming
from deepgen.inference.likelihood.pyro import log_prob, log_weights
from deepgen.inference.likelihood.weighted import rows_and_way
from deepgen.likelihoods.laws import is_missing
from deepgen.program import Program, TakesHoles, check_program
from deepgen.program.pyro import isolated, log_densities, propose, tensor

if TYPE_CHECKING:
    import pandas


def compare(programs: Mapping[str, Program], x: Any, *, num_particles: int | None = None) -> "pandas.DataFrame":
    r"""ArviZ's comparison (``az.compare``) of programs by log p(x) of held-out rows.

    Each row's log p(x) is that of ``log_prob``: exact, an estimate, or the importance-weighted bound of K particles,
    whose error differs between programs. Where a row's importance weights have a Pareto k above 0.7 (and few of them
    are effective) its value is too low; the table counts such rows of each program, and a warning says so. The error of
    an energy-based program's log Z is that of all rows together, and no part of ``se`` and ``dse``.

    .. math:: \mathrm{elpd} = \sum_i \log p(x_i), \qquad
        \mathrm{dse} = \sqrt{n \operatorname{Var}_i(\log p_a(x_i) - \log p_b(x_i))}

    Vehtari, Gelman & Gabry 2017 (the comparison); Yao, Vehtari, Simpson & Gelman 2018 (the stacking weights).

    Args:
        programs: by name, two or more, fitted to other rows.
        x: (n, *event_shape), two rows or more, NaN (negative integers) where missing.
        num_particles: K, as in ``log_prob``; None for 1000, or for as many estimates as a program takes by itself.

    Returns:
        A line for each program, best first, with the columns of ``az.compare``, untrusted_rows and kind.

    Raises:
        TypeError: no program where there should be one.
        ValueError: fewer than two programs, an `MNAR` beside what is none, data that a program does not take, or a
            ``num_particles`` that is not positive.

    Warns:
        UserWarning: where the weights of some rows are not to be trusted.
    """
    for program in programs.values():
        check_program(program)
    count = 1000 if num_particles is None else int(num_particles)
    checks.at_least("num_particles", count, 1)
    refuse_one(programs)
    refuse_mixture(programs)
    rows = {name: rows_and_way(program, x) for name, program in programs.items()}
    scores = {}
    for name, program in programs.items():
        array, way = rows[name]
        if way != "guide":
            scores[name] = estimated(log_prob(program, x, num_particles=num_particles))
            continue
        particles = 1 if program.likelihood == "exact" else count
        with torch.no_grad(), isolated():
            parts = [
                _log_weights(program, batch, seen, particles) for batch, seen in _batches(program, array, particles)
            ]
        scores[name] = held_out(torch.cat(parts).cpu().numpy(), program.likelihood)
    return comparison(scores)


def rate_distortion(program: Program, x: Any, *, num_particles: int = 100) -> RateDistortion:
    r"""The two parts of a row's -ELBO: what the latents tell of it, and what they leave out.

    .. math:: R = E_q[\log q(z \mid x) - \log p(z)] = KL(q(z \mid x) \,\|\, p(z)), \qquad
        D = -E_q \log p(x \mid z), \qquad R + D = -\mathrm{ELBO} \ge -\log p(x)

    by the mean over draws from the guide, the same for both (Alemi et al. 2018, "Fixing a broken ELBO"). Missing
    entries are left out of D.

    Args:
        program: the program.
        x: (n, *event_shape), NaN (negative integers) where missing.
        num_particles: draws of each row.

    Returns:
        Both, for each row in nats.

    Raises:
        TypeError: no program where there should be one.
        ValueError: a program without latents or one that models which entries are observed, data that the program does
            not take, or a ``num_particles`` that is not positive.
    """
    check_program(program)
    checks.at_least("num_particles", num_particles, 1)
    refuse_unsplit(program)
    array, _ = rows_and_way(program, x)
    with torch.no_grad(), isolated():
        batches = _batches(program, array, 1)
        parts = [_rate_distortion(program, batch, seen, int(num_particles)) for batch, seen in batches]
    return RateDistortion(*(torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)))


def rate_distortion_curve(
    programs: Mapping[Hashable, Program], x: Any, *, num_particles: int = 100
) -> "pandas.DataFrame":
    """Rate and distortion of several programs on the same rows, for instance one for each beta.

    Args:
        programs: by beta, or by name.
        x: as in `rate_distortion`.
        num_particles: as in `rate_distortion`.

    Returns:
        What ``evaluation.rate_distortion_table`` gives: means in nats a row, with standard errors.

    Raises:
        ValueError: no programs, and what `rate_distortion` refuses.
    """
    return rate_distortion_table(
        {name: rate_distortion(program, x, num_particles=num_particles) for name, program in programs.items()}
    )


def _batches(program: Program, array: np.ndarray, particles: int) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """The rows in batches that fit the memory, and what is observed of them."""
    missing = is_missing(array)
    rows, _ = streaming.chunk_sizes(len(array), particles, int(np.prod(program.event_shape)))
    for start in range(0, len(array), rows):
        batch = tensor(program, array[start : start + rows])
        seen = torch.as_tensor(~missing[start : start + rows], device=batch.device) if missing.any() else None
        yield batch, seen


def _log_weights(program: Any, x: torch.Tensor, observed: torch.Tensor | None, particles: int) -> torch.Tensor:
    """(rows, particles)."""
    found = [log_weights(program, x, observed, min(64, particles - start))[1] for start in range(0, particles, 64)]
    return torch.cat(found).T


def _rate_distortion(
    program: Any, x: torch.Tensor, observed: torch.Tensor | None, particles: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows,) each."""
    observed = None if isinstance(program, TakesHoles) else observed
    complete = x if observed is None else torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
    rate = distortion = torch.zeros(len(x), device=x.device)
    for _ in range(particles):
        latents, log_q = propose(program.guide, x)
        densities = log_densities(program.model, latents, complete, observed)
        distortion = distortion - densities.pop("x")
        rate = rate + log_q - sum(densities.values())
    return rate / particles, distortion / particles
