r"""Clouds of particles that complete a row step by step, and what they say.

At each step the particles draw what is missing from :math:`p(x_t \mid x_{<t})` and are weighed by the density that this
law has at what is observed. The product of the mean weights estimates :math:`p(x_\mathrm{observed})` without bias. The
weighted particles have the law :math:`p(x_\mathrm{missing} \mid x_\mathrm{observed})` in the limit of many. Where the
missing entries come last, all weights are the same and the draws are exact.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from deepgen import checks
from deepgen.inference.imputation import importance, result
from deepgen.inference.smc import genealogy
from deepgen.program.sequence import steps

ENOUGH = 100
"""How many effective ancestors a row needs; half of its particles where it has fewer than twice as many."""


class Clouds(NamedTuple):
    """C independent clouds of N particles for each row.

    Attributes:
        x: (C, n, N, *event_shape) the completed rows.
        log_weights: (C, n, N), normalised.
        log_evidence: (C, n) estimates of log p(x_observed), nats.
        ancestors: (C, n, N) which particle each was at the row's first missing entry.
        smallest_ess: (C, n) the smallest effective sample size of all steps.
        resampled: (C, n) how often a cloud was resampled.
    """

    x: Any
    log_weights: Any
    log_evidence: Any
    ancestors: Any
    smallest_ess: Any
    resampled: Any


def refuse_in_part(observed: Bool[np.ndarray, "n ..."], order: Int[np.ndarray, "steps entries"], joint: bool) -> None:
    """Refuse steps of which some entries are observed and some are not, where their law is joint.

    Raises:
        ValueError: there are such rows.
    """
    seen = steps.by_step(observed, order)
    rows = (seen.any(2) & ~seen.all(2)).any(0)
    if joint and rows.any():
        raise checks.problem(
            "x",
            got=f"{int(rows.sum())} rows with steps observed in part, the first at {int(np.argmax(rows))}",
            expected="the entries of a step, such as the channels of a pixel, observed or missing together",
            fix="Mark all of them missing, or take a program whose entries are independent within a step.",
        )


def refuse_unless_last(
    observed: Bool[np.ndarray, "n ..."], order: Int[np.ndarray, "steps entries"], joint: bool
) -> None:
    """Refuse rows in which something is observed behind something missing.

    Raises:
        ValueError: there are such rows.
    """
    last = steps.missing_last(observed, order, joint=joint)
    if not last.all():
        raise checks.problem(
            "x",
            got=f"{int((~last).sum())} of {len(last)} rows with entries observed in a later step than one that is "
            f"missing, the first at {int(np.argmin(last))}",
            expected="for method='exact' all missing entries last in the order of the program",
            fix="Take method='smc', method='enumerate' where few discrete entries are missing, or method='auto'.",
        )


def mix(parts: Sequence[Clouds]) -> Clouds:
    r"""The clouds of a mixture of equal weights from those of its M members.

    Which member a row follows is one more thing that particles differ in. Those of member m weigh in by its evidence,

    .. math:: W \propto Z_m W^{(m)}, \qquad Z = \frac1M \sum_m Z_m \approx p(x_\mathrm{observed}),

    so that Z is without bias as well.

    Args:
        parts: of each member, of the same number of clouds and particles.

    Returns:
        Clouds of M times as many particles.
    """
    if len(parts) == 1:
        return parts[0]
    evidence = np.stack([part.log_evidence for part in parts]).astype(float)
    anchor = evidence.max(0)
    anchor = np.where(np.isfinite(anchor), anchor, 0)
    with np.errstate(divide="ignore"):
        total = anchor + np.log(np.exp(evidence - anchor).mean(0))
        share = evidence - np.log(np.exp(evidence - anchor).sum(0)) - anchor
    count = parts[0].log_weights.shape[-1]
    return Clouds(
        np.concatenate([part.x for part in parts], axis=2),
        np.concatenate([part.log_weights + own[..., None] for part, own in zip(parts, share, strict=True)], axis=2),
        total,
        np.concatenate([part.ancestors + m * count for m, part in enumerate(parts)], axis=2),
        np.min([part.smallest_ess for part in parts], axis=0),
        np.max([part.resampled for part in parts], axis=0),
    )


def direct(parts: Sequence[Clouds], uniforms: Float[np.ndarray, "n samples"]) -> tuple[np.ndarray, np.ndarray]:
    """Independent draws from a mixture whose members' own particles are exact draws.

    Args:
        parts: of each member one cloud, none of them resampled, a particle for each draw.
        uniforms: in [0, 1), which choose each draw's member by p(member | x_observed).

    Returns:
        The draws (n, samples, *event_shape), and the exact log p(x_observed) of each row (n,).
    """
    evidence = np.stack([part.log_evidence[0] for part in parts]).astype(float)
    anchor = evidence.max(0)
    weights = np.exp(evidence - anchor)
    cumulative = np.cumsum(weights / weights.sum(0), axis=0)
    member = np.minimum((uniforms >= cumulative[:, :, None]).sum(0), len(parts) - 1)
    rows, samples = np.ogrid[: uniforms.shape[0], : uniforms.shape[1]]
    drawn = np.stack([part.x[0] for part in parts])[member, rows, samples]
    return drawn, anchor + np.log(weights.mean(0))


def of_missing(observed: Bool[np.ndarray, "n ..."]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What draws of a program that decides the observed entries first say of themselves.

    Args:
        observed: what is observed of each row.

    Returns:
        Statistics with their dimensions, and attributes.
    """
    count = (~observed).reshape(len(observed), -1).sum(1)
    return {"num_missing": (("row",), count)}, {
        "law_of": "p(x_missing | x_observed) with the observed entries decided first, over all orders of the missing"
    }


def log_evidence(values: Float[np.ndarray, "clouds n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The logarithm of the mean over clouds, and its standard error from their spread by the delta method.

    Args:
        values: log-evidence of each cloud, nats.

    Returns:
        Both, nats; an error of NaN from one cloud that is not exact.
    """
    largest = values.max(0)
    anchor = np.where(np.isfinite(largest), largest, 0)
    ratio = np.exp(values - anchor)
    mean = ratio.mean(0)
    with np.errstate(divide="ignore"):
        value = anchor + np.log(mean)
    if len(values) < 2:
        return value, np.full(len(mean), np.nan)
    spread = ratio.std(0, ddof=1) / np.sqrt(len(values))
    return value, np.divide(spread, mean, out=np.zeros_like(mean), where=mean > 0)


def ancestral_ess(
    ancestors: Int[np.ndarray, "*batch particles"], weights: Float[np.ndarray, "*batch particles"]
) -> Float[np.ndarray, "*batch"]:
    r"""The effective number of independent draws: :math:`1 / \sum_a W_a^2` over the weights that ancestors a have left.

    Particles of one ancestor agree in all that was decided before they parted. An effective sample size of the weights
    alone counts them as different.

    Args:
        ancestors: of each particle.
        weights: normalised.

    Returns:
        From 1 to the number of particles.
    """
    flat, share = ancestors.reshape(-1, ancestors.shape[-1]), weights.reshape(-1, ancestors.shape[-1])
    total = np.zeros(flat.shape)
    np.add.at(total, (np.arange(len(flat))[:, None], flat), share)
    return (1 / (total**2).sum(-1)).reshape(ancestors.shape[:-1])


def draws(found: Clouds, uniforms: Float[np.ndarray, "clouds n samples"]) -> result.Draws:
    """Draws from the clouds by weight, with what the clouds say of themselves.

    Args:
        found: the clouds.
        uniforms: in [0, 1).

    Returns:
        A chain from each cloud.

    Warns:
        UserWarning: where the particles of some rows have degenerated.
    """
    clouds, rows, count = found.log_weights.shape
    weights = np.exp(found.log_weights.astype(float))
    weights /= weights.sum(-1, keepdims=True)
    index = np.stack([importance.resample(w, u) for w, u in zip(weights, uniforms, strict=True)])
    place = np.arange(clouds)[:, None, None], np.arange(rows)[None, :, None]
    x = np.moveaxis(found.x[(*place, index)], 2, 1)
    value, stderr = log_evidence(found.log_evidence.astype(float))
    ess = ancestral_ess(found.ancestors, weights).sum(0)
    stats = {
        "log_evidence": (("row",), value),
        "log_evidence_stderr": (("row",), stderr),
        "ess": (("row",), ess),
        "unique_ancestors": (("row",), genealogy.count_unique(found.ancestors).sum(0)),
        "smallest_ess": (("chain", "row"), found.smallest_ess),
        "num_resampled": (("chain", "row"), found.resampled),
    }
    bad = int((ess < min(ENOUGH, clouds * count / 2)).sum())
    if bad:
        warnings.warn(
            f"the particles of {bad} of {rows} rows have degenerated: their draws go back to fewer than "
            f"{min(ENOUGH, clouds * count / 2):g} effective particles at the first missing entry (smallest "
            f"{ess.min():.1f}): raise num_particles or num_chains before trusting these rows (sample_stats['ess'] says "
            "which).",
            stacklevel=5,
        )
    return result.Draws(x, {}, stats, {"rows_with_degenerate_particles": bad})


def chunk(rows: int, numbers: int, budget: int = 2**25) -> int:
    """How many rows to complete at a time so that about ``budget`` numbers are alive.

    Args:
        rows: how many there are.
        numbers: how many numbers a row keeps, with all its particles.
        budget: how many numbers.

    Returns:
        From 1 to ``rows``, of equal chunks.
    """
    at_most = max(1, min(rows, budget // max(numbers, 1)))
    return -(-rows // -(-rows // at_most))
