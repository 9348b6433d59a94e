"""log p(x) in Pyro: exact where the program has no latents, else the importance-weighted bound."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pyro import poutine

from deepgen import checks
from deepgen.inference.imputation.neighbours import pyro as neighbours
from deepgen.inference.likelihood import streaming
from deepgen.inference.likelihood.evidence.pyro import log_evidence
from deepgen.inference.likelihood.partition import pyro as partition
from deepgen.inference.likelihood.weighted import marginal, rows_and_way
from deepgen.likelihoods.laws import is_missing
from deepgen.ode.divergence import average
from deepgen.program import (
    Labelled,
    LogProb,
    ModelsMissingness,
    Program,
    TakesHoles,
    check_given,
    check_program,
    given,
    takes_labels,
)
from deepgen.program.pyro import isolated, log_joint, propose, tensor


def log_weights(
    program: Any, x: torch.Tensor, observed: torch.Tensor | None, num_particles: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Draws from the guide and their log weights log p(x_observed, latents) - log q(latents | x).

    Args:
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape); where missing, as the guide wants it.
        observed: booleans of x's shape, or None where all is observed.
        num_particles: S.

    Returns:
        The latents by site, (S, n, ...) each, and the log weights (S, n).
    """
    if isinstance(program, ModelsMissingness | TakesHoles):
        observed = None
    complete = x if observed is None else torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
    latents, log_q = propose(program.guide, x, num_particles)
    return latents, log_joint(program.model, latents, complete, observed, num_particles) - log_q


def class_log_weights(
    program: Any, x: torch.Tensor, observed: torch.Tensor | None, num_particles: int, num_classes: int
) -> torch.Tensor:
    """Log weights log p(x_observed, y, latents) - log q(latents | x, y) of every class y, no class drawn.

    Args:
        program: what has ``model`` and ``guide``, with the site ``"y"``.
        x: (n, *event_shape); where missing, as the guide wants it.
        observed: booleans of x's shape, or None where all is observed.
        num_particles: S.
        num_classes: K.

    Returns:
        (S, K, n) nats.
    """
    complete = x if observed is None else torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
    count = num_particles * num_classes
    y = torch.arange(num_classes, device=x.device).repeat(num_particles)[:, None].expand(count, len(x))
    latents, log_q = propose(poutine.condition(program.guide, data={"y": y}), x, count)
    weights = log_joint(program.model, {**latents, "y": y}, complete, observed, count) - log_q
    return weights.reshape(num_particles, num_classes, len(x))


def log_prob(program: Program, x: Any, *, y: Any = None, num_particles: int | None = None) -> LogProb:
    r"""log p(x) of each row, of what kind it is and with its Monte Carlo standard error.

    With latents it is the importance-weighted bound of K particles, in chunks of constant memory,

    .. math:: \log \frac1K \sum_k \frac{p(x, z_k)}{q(z_k \mid x)}, \quad z_k \sim q(z \mid x),

    a lower bound of log p(x) in expectation, which it reaches as K grows (Burda, Grosse & Salakhutdinov 2016). Missing
    entries are integrated out: the value is then that of log p(x_observed). Of a program with classes it is
    log p(x | y) where the class is given and log p(x), the classes summed out, where it is not. Of an invertible
    program (a flow) the missing entries of a row are integrated out by K weighted completions, as `impute` draws them
    by ``"importance"``: the log of their mean weight, of kind ``"estimate"``.

    Rows with holes of a program that decides entry after entry have an exact value where their missing entries come
    last in its order, or are discrete and so few that all completions can be counted; that of others is estimated by
    particles that complete them step by step (`impute`'s ``"smc"``), exp of it without bias. The kind is then
    ``"estimate"``.

    Where the program estimates its density otherwise (by the divergence of a flow along random signs: `ScoreModel`, and
    a `Flow` by a `CNF` with ``num_probes`` of more than 32 entries), it is the mean of K estimates of complete rows,
    with its standard error (NaN where K is 1).

    Of an energy-based program, which has no latents, log Z is estimated by `log_partition` with K chains, and its
    standard error is that of every row (for each class, where these are given); the estimate of log Z is in expectation
    a lower bound, and `log_partition` alone gives the upper one that closes the bracket. Missing entries are refused
    there, and of a `Dequantized` program. Of an `MNAR` the value bounds log p(x_observed, mask): the law of which
    entries are observed counts, so that it is less than log p(x_observed) of the program within.

    Args:
        program: the program.
        x: (n, *event_shape), NaN (negative integers) where missing.
        y: (n,) labels of the rows, or one for all, -1 where unknown, of a program with classes, None: all unknown; or
            (n, context_dim) the context of a conditional program.
        num_particles: K, or of each of eight clouds of a row with holes; None for 1000, or for as many estimates as the
            program takes by itself. A program without latents needs none for complete rows.

    Returns:
        Value, standard error and kind.

    Raises:
        TypeError: no program where there should be one.
        ValueError: data or labels that the program does not take, or a ``num_particles`` that is not positive;
            or the density of a row is NaN.

    Warns:
        UserWarning: where the weights of some rows of an invertible program are not to be trusted.
    """
    check_program(program)
    array, way = rows_and_way(program, x)
    found = _WAYS[way](program, array, y, num_particles)
    checks.numbers("log_prob", np.isnan(found.value))
    return found


def class_log_prob(program: Any, x: Any, *, num_particles: int = 1000) -> LogProb:
    """log p(x, y) of each row and every class y, as `log_prob` bounds it.

    Args:
        program: a program with classes.
        x: (n, *event_shape), NaN (negative integers) where missing.
        num_particles: draws of the other latents for each class.

    Returns:
        Value and standard error (n, K), and kind.

    Raises:
        ValueError: data that the program does not take, a ``num_particles`` that is not positive, or no classes.
    """
    takes_labels(program, "program")
    array, _ = rows_and_way(program, x)
    value, stderr = _values(program, array, None, num_particles, by_class=True)
    return LogProb(value, stderr, program.likelihood)


def _guided(program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    value, stderr = _values(program, array, y, _count(num_particles), by_class=False)
    return LogProb(value, stderr, program.likelihood)


def _completed(program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    count, missing = _count(num_particles), is_missing(array)
    view = given(program, y, len(array))
    found = neighbours.weigh(view.chart(), tensor(program, array), tensor(program, ~missing), count)
    return marginal(found.log_weights, found.judged, missing)


def _stepwise(program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    sequence: Any = given(program, y, len(array)).sequential()
    found = log_evidence(sequence, tensor(program, array), ~is_missing(array), _count(num_particles))
    return LogProb(found.value, found.stderr, "exact" if found.exact else "estimate")


def _normalised(program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    labels = None if y is None else check_given(program, y, len(array))
    return partition.log_prob(program, array, _count(num_particles), labels)


def _own(program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    return LogProb(*program.own_log_prob(array, y, num_particles))


def _values(
    program: Any, array: np.ndarray, y: Any, num_particles: int, *, by_class: bool
) -> tuple[np.ndarray, np.ndarray]:
    checks.at_least("num_particles", num_particles, 1)
    labels = None if y is None else check_given(program, y, len(array))
    missing = is_missing(array)
    particles = 1 if program.likelihood == "exact" else int(num_particles)
    classes = program.num_classes if isinstance(program, Labelled) else 1
    rows, chunk = streaming.chunk_sizes(len(array), particles, classes * int(np.prod(program.event_shape)))
    parts = []
    with torch.no_grad(), isolated():
        for start in range(0, len(array), rows):
            batch = tensor(program, array[start : start + rows])
            seen = torch.as_tensor(~missing[start : start + rows], device=batch.device) if missing.any() else None
            view = program if labels is None else program.given(labels[start : start + rows])
            weigh = _weigher(program, view, batch, seen, by_class)
            parts.append(_log_prob(weigh, batch, (classes if by_class else 1) * len(batch), particles, chunk))
    values = [[part.reshape(classes, -1).T if by_class else part for part in pair] for pair in parts]
    value, stderr = (torch.cat(part).cpu().numpy() for part in zip(*values, strict=True))
    return value, stderr


def _weigher(
    program: Any, view: Any, x: torch.Tensor, observed: torch.Tensor | None, by_class: bool
) -> Callable[[int], torch.Tensor]:
    """From a number of particles to that many log weights of each row (and class, the class first)."""

    def weigh(count: int) -> torch.Tensor:
        if not isinstance(program, Labelled):
            return log_weights(view, x, observed, count)[1]
        weights = class_log_weights(view, x, observed, count, program.num_classes)
        return weights.reshape(count, -1) if by_class else torch.logsumexp(weights, dim=1)

    return weigh


def _log_prob(
    weigh: Callable[[int], torch.Tensor], x: torch.Tensor, size: int, particles: int, chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    sums = streaming.empty(torch.zeros(size, device=x.device))
    for start in range(0, particles, chunk):
        sums = streaming.add(sums, weigh(min(chunk, particles - start)))
    return streaming.log_mean(sums, particles)


def _count(num_particles: int | None, usual: int = 1000) -> int:
    count = usual if num_particles is None else num_particles
    checks.at_least("num_particles", count, 1)
    return int(count)


def _estimated(program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    """The mean of a program's own estimates of each row, and its standard error."""
    count = _count(num_particles, program.probes)
    context = None if y is None else check_given(program, y, len(array))
    rows = min(len(array), streaming.estimated_rows(count, int(np.prod(program.event_shape))))
    parts = []
    with torch.no_grad(), isolated():
        for start in range(0, len(array), rows):
            batch = tensor(program, array[start : start + rows])
            view = program if context is None else program.given(context[start : start + rows])
            parts.append(average(view.estimate(batch, count)))
    value, stderr = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return LogProb(value, stderr, "estimate")


_WAYS: dict[str, Callable[..., LogProb]] = {
    "guide": _guided,
    "estimates": _estimated,
    "partition": _normalised,
    "completions": _completed,
    "steps": _stepwise,
    "own": _own,
}
