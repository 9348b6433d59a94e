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
from deepgen.inference.likelihood.weighted import marginal
from deepgen.likelihoods.laws import is_missing
from deepgen.ode.divergence import average
from deepgen.program import (
    Estimates,
    Labelled,
    LogProb,
    ModelsMissingness,
    Program,
    TakesHoles,
    check_given,
    given,
    takes_labels,
)
from deepgen.program.invertible import Invertible, Rounded
from deepgen.program.pyro import isolated, log_joint, propose, tensor
from deepgen.program.sequence import Sequential
from deepgen.program.unnormalised import HasUnnormalisedLaw


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

    Where the program estimates its density otherwise (`ScoreModel`: by the divergence of its probability flow along
    random signs), it is the mean of K estimates of complete rows, with its standard error (NaN where K is 1).

    Of an energy-based program, which has no latents, log Z is estimated by `log_partition` with K chains, and its
    standard error is that of every row (for each class, where these are given). Missing entries are refused there, and
    of a `Dequantized` program.

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
        ValueError: data or labels that the program does not take, or a ``num_particles`` that is not positive;
            or the density of a row is NaN.

    Warns:
        UserWarning: where the weights of some rows of an invertible program are not to be trusted.
    """
    found = _of_its_kind(program, x, y, num_particles)
    checks.numbers("log_prob", np.isnan(found.value))
    return found


def _of_its_kind(program: Program, x: Any, y: Any, num_particles: int | None) -> LogProb:
    if isinstance(program, Estimates):
        return LogProb(*_estimates(program, x, y, num_particles), program.likelihood)
    particles = _usual(num_particles)
    if isinstance(program, HasUnnormalisedLaw):
        checks.at_least("num_particles", particles, 1)
        array = program.check_data(x)
        labels = None if y is None else check_given(program, y, len(array))
        return partition.log_prob(program, array, particles, labels)
    if isinstance(program, Invertible) and is_missing(program.check_data(x, missing=True)).any():
        return _marginal(program, x, y, particles)
    if isinstance(program, Sequential):
        array = program.check_data(x, missing=True)
        seen = ~is_missing(array)
        if not seen.all():
            checks.at_least("num_particles", particles, 1)
            sequence: Any = given(program, y, len(array)).sequential()
            found = log_evidence(sequence, tensor(program, array), seen, int(particles))
            return LogProb(found.value, found.stderr, "exact" if found.exact else "estimate")
    value, stderr = _values(program, x, y, particles, by_class=False)
    return LogProb(value, stderr, program.likelihood)


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
    value, stderr = _values(program, x, None, num_particles, by_class=True)
    return LogProb(value, stderr, program.likelihood)


def _marginal(program: Any, x: Any, y: Any, num_particles: int) -> LogProb:
    checks.at_least("num_particles", num_particles, 1)
    array = program.check_data(x, missing=True)
    view, missing = given(program, y, len(array)), is_missing(array)
    rows, observed = tensor(program, array), tensor(program, ~missing)
    found = neighbours.weigh(view.chart(), rows, observed, int(num_particles))
    return marginal(found.log_weights, found.judged, missing)


def _values(program: Any, x: Any, y: Any, num_particles: int, *, by_class: bool) -> tuple[np.ndarray, np.ndarray]:
    checks.at_least("num_particles", num_particles, 1)
    array = program.check_data(x, missing=not isinstance(program, Rounded))
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


def _usual(num_particles: int | None) -> int:
    return 1000 if num_particles is None else num_particles


def _estimates(program: Any, x: Any, y: Any, num_particles: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The mean of a program's own estimates of each row, and its standard error."""
    count = program.probes if num_particles is None else num_particles
    checks.at_least("num_particles", count, 1)
    array = program.check_data(x)
    context = None if y is None else check_given(program, y, len(array))
    rows = min(len(array), streaming.estimated_rows(int(count), int(np.prod(program.event_shape))))
    parts = []
    with torch.no_grad(), isolated():
        for start in range(0, len(array), rows):
            batch = tensor(program, array[start : start + rows])
            view = program if context is None else program.given(context[start : start + rows])
            parts.append(average(view.estimate(batch, int(count))))
    value, stderr = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return value, stderr
