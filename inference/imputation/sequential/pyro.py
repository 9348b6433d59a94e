"""Missing entries drawn step by step in Pyro: one loop for all rows and particles."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from deepgen.handlers.sites.pyro import ObservedEntries, interior
from deepgen.inference.imputation import result
from deepgen.inference.imputation.sequential import clouds
from deepgen.inference.smc import pyro as particles
from deepgen.inference.smc.trees import leaves, tree_map
from deepgen.program.pyro import isolated
from deepgen.program.sequence import steps

THRESHOLD = 0.5
"""The share of the particles below which their ESS leads to resampling."""


def complete(
    sequence: Any,
    x: torch.Tensor,
    observed: torch.Tensor,
    num_particles: int,
    num_clouds: int = 1,
    threshold: float = THRESHOLD,
) -> clouds.Clouds:
    """Clouds of particles that complete each row.

    Args:
        sequence: the factors of the program.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        num_particles: of each cloud.
        num_clouds: independent of each other.
        threshold: the share of particles below which the ESS leads to resampling; 0 never.

    Returns:
        The clouds.

    Raises:
        ValueError: steps observed in part, where the law of their entries is joint.
    """
    mask, order = observed.cpu().numpy(), sequence.order
    clouds.refuse_in_part(mask, order, sequence.joint())
    n, event_shape = len(x), tuple(x.shape[1:])
    total = num_clouds * n
    with torch.no_grad(), isolated():
        one = sequence.start(torch.zeros(1, dtype=torch.int64, device=x.device))
    kept = sum(math.prod(leaf.shape) for leaf in leaves(one)) + 4 * order.size
    size = clouds.chunk(total, kept * num_particles)
    rows = np.arange(total) % n
    given = torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device)).cpu().numpy()
    values, seen = steps.by_step(given, order), steps.by_step(mask, order)
    first = steps.first_missing(mask, order)
    parts = []
    for i in range(0, total, size):
        chosen = rows[i : i + size]
        inputs = tuple(torch.as_tensor(part[:, chosen], device=x.device) for part in (values, seen))
        inputs = (torch.arange(len(order), device="cpu"), *inputs)
        found = _fill(sequence, torch.as_tensor(chosen, device=x.device), inputs, num_particles, threshold)
        # the particles at the start and after T steps: those of the first missing entry are one later
        when = np.minimum(first[chosen] + 1, len(order))
        parts.append(
            (
                steps.by_place(found.history[1:].cpu().numpy(), order, event_shape),
                found.log_weights.cpu().numpy(),
                found.log_evidence.cpu().numpy(),
                found.lineage.cpu().numpy()[when, np.arange(len(chosen))],
                found.ess.amin(0).cpu().numpy(),
                found.resampled.sum(0).cpu().numpy(),
            )
        )
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return clouds.Clouds(*(part.reshape(num_clouds, n, *part.shape[1:]) for part in joined))


def complete_all(
    sequence: Any,
    x: torch.Tensor,
    observed: torch.Tensor,
    num_particles: int,
    num_clouds: int = 1,
    threshold: float = THRESHOLD,
) -> list[clouds.Clouds]:
    """What `complete` finds with each member of a mixture, which share the particles.

    Args:
        sequence: the factors of the program, or its mixture of them.
        x: as in `complete`.
        observed: as in `complete`.
        num_particles: of each cloud of all members together, rounded up to equal shares.
        num_clouds: as in `complete`.
        threshold: as in `complete`.

    Returns:
        Clouds of each member.

    Raises:
        ValueError: as `complete`.
    """
    share = -(-num_particles // len(sequence.members))
    return [complete(member, x, observed, share, num_clouds, threshold) for member in sequence.members]


def smc(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """Sequential Monte Carlo, see `impute`."""
    run = options["num_particles"], options["num_chains"]
    found = clouds.mix(complete_all(program.sequential(), x, observed, *run))
    return clouds.draws(found, torch.rand(options["num_chains"], len(x), options["num_samples"]).numpy(force=True))


def exact(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """The missing entries drawn from the program after the observed ones, see `impute`."""
    sequence = program.sequential()
    for member in sequence.members:
        clouds.refuse_unless_last(observed.cpu().numpy(), member.order, member.joint())
    chains, samples = options["num_chains"], options["num_samples"]
    count = chains * samples * len(sequence.members)
    found = complete_all(sequence, x, observed, count, threshold=0.0)
    drawn, evidence = clouds.direct(found, torch.rand(len(x), chains * samples).numpy(force=True))
    drawn = np.moveaxis(drawn, 1, 0)
    stats = {"log_evidence": (("row",), evidence)}
    return result.Draws(drawn.reshape(chains, samples, *drawn.shape[1:]), {}, stats, {})


def observed_first(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """The missing entries drawn by a program that takes what is observed as decided first, see `impute`."""
    chains, samples = options["num_chains"], options["num_samples"]
    size = clouds.chunk(chains * samples, 4 * x.numel())
    shape, parts = (size * len(x), *x.shape[1:]), []
    with torch.no_grad(), isolated():
        for _ in range(-(-chains * samples // size)):
            rows, seen = (part.expand(size, *x.shape).reshape(shape) for part in (x, observed))
            parts.append(program.sample_given(rows, seen).reshape(size, *x.shape).cpu().numpy())
    drawn = np.concatenate(parts)[: chains * samples].reshape(chains, samples, *x.shape)
    return result.Draws(drawn, {}, *clouds.of_missing(observed.cpu().numpy()))


def _fill(sequence: Any, rows: torch.Tensor, inputs: Any, num_particles: int, threshold: float) -> particles.Particles:
    dtype, entries = inputs[1].dtype, inputs[1].shape[2]
    device, weight = rows.device, torch.get_default_dtype()

    def unfold(tree: Any, shape: tuple[int, ...]) -> Any:
        return tree_map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), tree)

    def fold(tree: Any) -> Any:
        return tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)

    def start(shape: tuple[int, ...]) -> tuple[Any, torch.Tensor]:
        cache = sequence.start(rows.repeat_interleave(num_particles))
        value = torch.zeros((*shape, entries), dtype=dtype, device=device)
        return {"cache": unfold(cache, shape), "value": value}, torch.zeros(shape, dtype=weight, device=device)

    def move(so_far: Any, item: Any) -> tuple[Any, torch.Tensor]:
        t, value, seen = item
        shape = (len(rows), num_particles)
        law, cache = sequence.step(fold(so_far["cache"]), int(t), fold(so_far["value"]))
        value, seen = (
            part[:, None].expand(*shape, entries).reshape(len(rows) * num_particles, *law.event_shape)
            for part in (value, seen)
        )
        value = torch.where(seen, value, law.sample().to(dtype))
        log_factor = ObservedEntries(law, seen, interior(law, value)).log_prob(value)
        moved = {"cache": unfold(cache, shape), "value": value.reshape(*shape, entries)}
        return moved, log_factor.reshape(shape).to(weight)

    return particles.smc(
        start,
        move,
        inputs,
        num_particles=num_particles,
        batch_shape=(len(rows),),
        ess_threshold=threshold,
        collect=lambda so_far: so_far["value"],
    )
