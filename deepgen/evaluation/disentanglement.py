"""Do single latents stand for single factors? The mutual information gap and DCI, on data made from known factors."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from deepgen.checks import at_least, one_of, problem
from deepgen.evaluation.estimate import Estimate

KINDS = ("classifier", "regressor")
TREES = 20
_CHUNK = 2**22


@dataclass(frozen=True, eq=False)
class MIG:
    """The mutual information gap and what it is made of.

    Attributes:
        value: the mean over factors of the gaps, with its standard error over rows.
        gaps: (k,) for each factor the gap between its two best latents, as a share of the factor's entropy.
        mutual_information: (d, k) I(z_j; v_k) in nats.
        entropy: (k,) H(v_k) in nats.
    """

    value: Estimate
    gaps: Float[np.ndarray, " k"]
    mutual_information: Float[np.ndarray, "d k"]
    entropy: Float[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class DCI:
    """Disentanglement, completeness, informativeness, each with its standard error over rows.

    Attributes:
        disentanglement: in [0, 1]; 1 where each latent matters to one factor only.
        completeness: in [0, 1]; 1 where each factor is predicted from one latent only.
        error: of the prediction of held-out rows, the mean over factors; small where the latents are informative.
        importance: (d, k) how much latent j matters to the prediction of factor k; its columns sum to one, or are zero
            where no latent predicts anything.
        errors: (k,) the error of each factor.
    """

    disentanglement: Estimate
    completeness: Estimate
    error: Estimate
    importance: Float[np.ndarray, "d k"]
    errors: Float[np.ndarray, " k"]


def mig(
    loc: np.ndarray,
    scale: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    num_samples: int = 4,
    num_bootstrap: int = 100,
) -> MIG:
    r"""The mutual information gap of a normal posterior's marginals (Chen, Li, Grosse & Duvenaud 2018).

    .. math:: \frac1K \sum_k \frac{I(z_{(1)}; v_k) - I(z_{(2)}; v_k)}{H(v_k)}, \qquad
        I(z_j; v_k) = E \log \frac{q(z_j \mid v_k)}{q(z_j)},

    with the best and the second best latent of each factor, :math:`q(z_j \mid v_k)` the mean of the posteriors
    :math:`q(z_j \mid x_n)` of the rows with that value of the factor, and :math:`q(z_j)` that of all rows
    (https://arxiv.org/abs/1802.04942). The expectation is over rows and ``num_samples`` draws of each. It is 1 where
    each factor is known from one latent and from no other, 0 where two latents know it equally well or none knows it.

    The rows are the population: :math:`q(z_j)` is a mixture over them. A latent whose posteriors are so narrow that it
    tells all rows apart knows every factor of a row, and closes every gap. The standard error is that of the bootstrap
    over rows. Time grows with the square of the number of rows.

    Args:
        loc: (n, d) the posterior's means.
        scale: (n, d) its standard deviations.
        factors: (n, k) integers.
        seed: of the draws and the bootstrap.
        num_samples: draws of each row.
        num_bootstrap: resamples of the rows.

    Returns:
        The gap and its parts.

    Raises:
        ValueError: shapes that do not fit, fewer than two latents, standard deviations that are not positive, or a
            factor with one value only.
    """
    loc, codes, classes = _checked("loc", loc, factors)
    scale = np.asarray(scale, dtype=np.float64)
    if scale.shape != loc.shape or not (scale > 0).all() or not np.isfinite(scale).all():
        raise problem(
            "scale",
            got=f"shape {scale.shape}, smallest {scale.min() if scale.size else 'none'}",
            expected=f"{loc.shape} positive finite numbers",
            fix="Pass the posterior's standard deviations.",
        )
    at_least("num_samples", num_samples, 1)
    at_least("num_bootstrap", num_bootstrap, 2)
    rng = np.random.default_rng(seed)
    (n, d), k = loc.shape, len(classes)
    noise = rng.standard_normal((num_samples, n, d))
    resampled = rng.multinomial(n, np.full(n, 1 / n), size=num_bootstrap).T
    weights = np.concatenate([np.ones((n, 1)), resampled], axis=1)
    information = np.zeros((d, k, num_bootstrap + 1))
    for j in range(d):
        for draw in noise[:, :, j]:
            information[j] += _information(loc[:, j], scale[:, j], draw, codes, classes, weights) / num_samples
    entropy = np.stack([_entropy(np.eye(count)[codes[:, i]].T @ weights / n) for i, count in enumerate(classes)])
    best = np.sort(information, axis=0)
    # A resample may hold one value of a factor only: then nothing is there to be known.
    gaps = np.where(entropy > 0, (best[-1] - best[-2]) / np.where(entropy > 0, entropy, 1.0), 0.0)
    values = gaps.mean(0)
    return MIG(
        Estimate(float(values[0]), float(values[1:].std(ddof=1))), gaps[:, 0], information[:, :, 0], entropy[:, 0]
    )


def dci(
    codes: np.ndarray,
    factors: np.ndarray,
    *,
    seed: int,
    kind: str = "classifier",
    num_bootstrap: int = 10,
) -> DCI:
    r"""Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    A random forest predicts each factor from the codes; :math:`R_{jk} \ge 0` is how important it finds code j for
    factor k (the mean decrease in impurity). With H the entropy to the base of the number of outcomes,

    .. math:: D = \sum_j \frac{\sum_k R_{jk}}{\sum R}\, \bigl(1 - H(R_{j\cdot} / \textstyle\sum_k R_{jk})\bigr),
        \qquad C = \frac1K \sum_k \bigl(1 - H(R_{\cdot k} / \textstyle\sum_j R_{jk})\bigr)

    (https://openreview.net/forum?id=By-7dz-AZ; each column of R sums to one). Informativeness is the error on the half
    of the rows that the forests did not see: the share of wrong classes, or, for ``kind="regressor"``, the root mean
    square error in units of that of guessing the mean. The standard errors are those of the bootstrap over rows, the
    forests fitted anew to each resample; so they also hold the forests' own randomness.

    Args:
        codes: (n, d) for instance the posterior's means.
        factors: (n, k) integers.
        seed: of the halves, the forests and the bootstrap.
        kind: "classifier", or "regressor" for factors whose integers are amounts.
        num_bootstrap: resamples of the rows.

    Returns:
        The three numbers and what they are made of.

    Raises:
        ValueError: shapes that do not fit, fewer than two codes or factors, a factor with one value only, fewer than
            four rows, or an unknown kind.
    """
    one_of("kind", kind, KINDS)
    codes, factors, classes = _checked("codes", codes, factors)
    at_least("num_bootstrap", num_bootstrap, 2)
    at_least("number of rows", len(codes), 4)
    at_least("number of factors", len(classes), 2)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(codes))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    found = [_forests(codes, factors, train, test, kind, rng)]
    for _ in range(num_bootstrap):
        again, held = (rng.choice(half, len(half)) for half in (train, test))
        found.append(_forests(codes, factors, again, held, kind, rng))
    importance, errors = found[0]

    def estimate(values: list[float]) -> Estimate:
        return Estimate(values[0], float(np.std(values[1:], ddof=1)))

    return DCI(
        estimate([disentanglement(r) for r, _ in found]),
        estimate([completeness(r) for r, _ in found]),
        estimate([float(e.mean()) for _, e in found]),
        importance,
        errors,
    )


def disentanglement(importance: np.ndarray) -> float:
    """D of `dci` from importances (d, k): how far each code matters to one factor only; 0 where none matters."""
    total = importance.sum(1)
    if not total.sum():
        return 0.0
    share = importance / np.where(total > 0, total, 1.0)[:, None]
    return float(total @ (1 - _entropy(share.T) / np.log(importance.shape[1])) / total.sum())


def completeness(importance: np.ndarray) -> float:
    """C of `dci` from importances (d, k): how far each factor is known from one code only; 0 for one known from none.

    It is the mean over factors.
    """
    total = importance.sum(0)
    share = importance / np.where(total > 0, total, 1.0)
    return float(np.where(total > 0, 1 - _entropy(share) / np.log(len(importance)), 0.0).mean())


def _information(
    loc: np.ndarray,
    scale: np.ndarray,
    noise: np.ndarray,
    codes: np.ndarray,
    classes: list[int],
    weights: np.ndarray,
) -> np.ndarray:
    """I(z_j; v_k) of one latent from one draw a row, (k, b), for each column of the rows' weights (n, b)."""
    n, z = len(loc), loc + scale * noise
    held = [
        [(codes[:, k] == value, _log(weights[codes[:, k] == value].sum(0))) for value in range(count)]
        for k, count in enumerate(classes)
    ]
    found = np.zeros((len(classes), weights.shape[1]))
    step = max(_CHUNK // n, 1)
    for at in range(0, n, step):
        part = np.arange(at, min(at + step, n))
        log_density = -0.5 * ((z[part, None] - loc) / scale) ** 2 - np.log(scale)
        density = np.exp(log_density - log_density.max(1, keepdims=True))
        log_all = _log(density @ weights / n)
        for k, groups in enumerate(held):
            for members, log_total in groups:
                own = members[part]
                log_among = _log(density[np.ix_(own, members)] @ weights[members]) - log_total
                found[k] += (weights[part[own]] * (log_among - log_all[own])).sum(0)
    return found / n


def _forests(
    codes: np.ndarray, factors: np.ndarray, train: np.ndarray, test: np.ndarray, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The importances (d, k) and the errors (k,) of forests fitted to some rows and judged on others."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    forest = RandomForestClassifier if kind == "classifier" else RandomForestRegressor
    importance, errors = np.empty((codes.shape[1], factors.shape[1])), np.empty(factors.shape[1])
    for k in range(factors.shape[1]):
        # All codes are tried at each split: else those that know nothing are split on where chance leaves out the rest.
        fitted = forest(n_estimators=TREES, max_features=None, random_state=int(rng.integers(2**31)))
        fitted.fit(codes[train], factors[train, k])
        truth, guess = factors[test, k], fitted.predict(codes[test])
        importance[:, k] = fitted.feature_importances_
        if kind == "classifier":
            errors[k] = (guess != truth).mean()
        else:
            plain = np.sqrt(((truth - factors[train, k].mean()) ** 2).mean())
            errors[k] = np.sqrt(((guess - truth) ** 2).mean()) / plain if plain else 0.0
    return importance, errors


def _checked(what: str, values: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Codes as float64, each factor's values numbered from 0, and how many it has."""
    values, factors = np.asarray(values, dtype=np.float64), np.asarray(factors)
    if values.ndim != 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise problem(
            what,
            got=f"shape {values.shape}" + ("" if np.isfinite(values).all() else " with values that are not finite"),
            expected="(n, d) finite numbers with d >= 2",
            fix="One latent alone is neither disentangled nor entangled.",
        )
    if factors.ndim != 2 or len(factors) != len(values) or factors.dtype.kind not in "iub":
        raise problem(
            "factors",
            got=f"dtype {factors.dtype}, shape {factors.shape}",
            expected=f"({len(values)}, k) integers",
            fix="Number the values of each factor; bin those of a continuous one.",
        )
    numbered = [np.unique(factors[:, k], return_inverse=True) for k in range(factors.shape[1])]
    classes = [len(found) for found, _ in numbered]
    if not classes or min(classes) < 2:
        raise problem(
            "factors",
            got=f"{classes} different values",
            expected="at least 2 of each factor",
            fix="Leave out a factor that does not vary.",
        )
    return values, np.stack([number for _, number in numbered], axis=1), classes


def _entropy(probs: np.ndarray) -> np.ndarray:
    """The entropy in nats of distributions along the first axis."""
    return -(probs * np.log(np.where(probs > 0, probs, 1.0))).sum(0)


def _log(values: np.ndarray) -> np.ndarray:
    """log, and 0 where a resample left nothing: those rows have weight 0."""
    return np.log(np.where(values > 0, values, 1.0))
