"""The law of a table column by column, by SciPy in float64, sharing no line with the package."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from element_laws import SCALE, ElementLaw, squash
from scipy import stats
from scipy.special import expit, softmax

CONCENTRATION = (np.log(1e-2), np.log(1e3))
GAP = (np.log(1e-3), np.log(1e2))

Column = tuple[str, int]
Numbers = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Discrete:
    """Codes 0, 1, … with given probabilities on the last axis."""

    p: np.ndarray

    def logpmf(self, x: np.ndarray) -> np.ndarray:
        return np.log(np.sum(self.p * (np.asarray(x)[..., None] == np.arange(self.p.shape[-1])), axis=-1))

    def mode(self) -> np.ndarray:
        return self.p.argmax(-1)

    def median(self) -> np.ndarray:
        return (np.cumsum(self.p, axis=-1)[..., :-1] < 0.5).sum(-1)


def columns_laws(columns: Sequence[Column], own: Numbers, outputs: np.ndarray) -> Iterator[Any]:
    """The law of each column in turn, frozen, at outputs (..., F)."""
    outputs = np.asarray(outputs, dtype=float)
    own = {name: np.asarray(value, dtype=float) for name, value in own.items()}
    at = scaled = counted = cut = 0
    for kind, levels in columns:
        m, centre, spread = outputs[..., at], own["centre"][at], own["spread"][at]
        if kind in ("real", "positive"):
            scale = spread * np.exp(squash(own["raw_scale"][scaled], *SCALE))
            scaled += 1
            loc = centre + spread * m
            yield stats.norm(loc, scale) if kind == "real" else stats.lognorm(s=scale, scale=np.exp(loc))
        elif kind == "count":
            mean = np.exp(own["log_rate"][counted] + m)
            r = np.exp(squash(own["raw_concentration"][counted], *CONCENTRATION))
            counted += 1
            yield stats.nbinom(r, r / (r + mean))
        elif kind == "categorical":
            yield Discrete(softmax(outputs[..., at : at + levels], axis=-1))
        else:
            raw = own["raw_cutpoints"][cut : cut + levels - 1]
            cut += levels - 1
            cuts = raw[0] + np.concatenate([[0.0], np.cumsum(np.exp(squash(raw[1:], *GAP)))])
            below = expit(cuts - m[..., None])
            edges = np.concatenate([np.zeros((*m.shape, 1)), below, np.ones((*m.shape, 1))], axis=-1)
            yield Discrete(np.diff(edges, axis=-1))
        at += levels if kind == "categorical" else 1


def log_prob(columns: Sequence[Column], own: Numbers, outputs: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(..., D) log densities of the entries."""
    found = [
        law.logpdf(x[..., i]) if kind in ("real", "positive") else law.logpmf(x[..., i])
        for i, ((kind, _), law) in enumerate(zip(columns, columns_laws(columns, own, outputs), strict=True))
    ]
    return np.stack(np.broadcast_arrays(*found), axis=-1)


def middle(columns: Sequence[Column], own: Numbers, outputs: np.ndarray) -> np.ndarray:
    """(..., D): the means of numbers, the modes of categories, the medians of ordered codes."""
    take = {"categorical": lambda law: law.mode(), "ordinal": lambda law: law.median()}
    found = [
        take.get(kind, lambda law: law.mean())(law)
        for (kind, _), law in zip(columns, columns_laws(columns, own, outputs), strict=True)
    ]
    return np.stack(found, axis=-1)


def plain_columns(kinds: Sequence[str], own: Numbers) -> ElementLaw:
    """The law of real, positive and count columns, each of which has one number of the decoder and a mean."""
    described = [(kind, 0) for kind in kinds]

    def at(a: np.ndarray) -> Iterator[Any]:
        return columns_laws(described, own, a[..., 0, :])

    return ElementLaw(
        {"law": "table", "columns": [[kind, 0] for kind in kinds]},
        1,
        lambda x, a: log_prob(described, own, a[:, 0], x),
        lambda a: np.stack([law.mean() for law in at(a)], axis=-1),
        lambda a: np.stack([law.var() for law in at(a)], axis=-1),
        lambda rng, a: np.stack([law.rvs(random_state=rng) for law in at(a)], axis=-1).astype(np.float32),
    )
