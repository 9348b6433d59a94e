"""Ways to lose data: masks at a given rate, completely at random, at random, and not at random.

Every mechanism here draws the cells of a row independently given the data, with
P(cell missing) = sigmoid(a + strength * score), and differs in the score: nothing (MCAR), columns that always stay
observed (MAR), the hidden value itself (MNAR). The intercept ``a`` is found so that the expected share of hidden
cells is the rate asked for (Rubin 1976 for the three kinds; Muzellec et al. 2020, https://arxiv.org/abs/2002.03860,
for the logistic ones).
"""

from collections.abc import Sequence

import numpy as np

from deepgen.checks import one_of, problem

Seed = int | np.random.Generator
# A row that empties with a smaller log-probability than this cannot be told from one that never does.
_NEGLIGIBLE = -45.0


def hide(x: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The data with NaN where ``observed`` is False; a float copy, observed entries bit for bit.

    Args:
        x: (n, \\*event_shape) numbers; integers and booleans become float32, or float64 where float32 cannot hold them.
        observed: booleans of the same shape.

    Raises:
        ValueError: when the shapes differ or ``observed`` is not boolean.
    """
    x, observed = np.asarray(x), np.asarray(observed)
    if observed.shape != x.shape or observed.dtype != np.bool_:
        raise problem(
            "observed",
            got=f"dtype {observed.dtype}, shape {observed.shape}",
            expected=f"booleans of the data's shape {x.shape}",
            fix="Pass a mask made by mcar, mar, mnar, pixels, block or half from the same data.",
        )
    out = x.astype(np.result_type(x.dtype, np.float32))
    out[~observed] = np.nan
    return out


def mcar(x: np.ndarray, rate: float, *, seed: Seed, empty_rows: bool = False) -> np.ndarray:
    """Missing completely at random: every cell with the same probability, whatever the data.

    Args:
        x: (n, \\*event_shape) numbers; cells that are NaN already stay missing and do not count for the rate.
        rate: the expected share of cells to hide, in [0, 1).
        seed: a seed or a generator.
        empty_rows: whether a row may lose all its cells. Where not, rows are drawn conditionally on keeping one, and
            the probability is raised so that the rate still holds.

    Returns:
        Booleans of x's shape, True where observed.

    Raises:
        ValueError: a rate outside [0, 1), or one that cannot be reached without emptying rows.

    >>> float(mcar(np.zeros((1000, 10)), 0.5, seed=0).mean().round(1))
    0.5
    """
    x = _data(x)
    return _draw(np.zeros(x.shape), ~np.isnan(x), rate, seed=seed, empty_rows=empty_rows)


def mar(
    x: np.ndarray, rate: float, *, seed: Seed, drivers: Sequence[int] | None = None, strength: float = 2.0
) -> np.ndarray:
    """Missing at random: what is hidden depends on columns that are always observed, and on nothing else.

    Column j's score is a random direction over the standardised drivers, scaled to unit variance.

    Args:
        x: (n, d) numbers; NaN cells stay missing and do not count for the rate.
        rate: the expected share to hide of the cells *of the columns that can go missing*, in [0, 1).
        seed: a seed or a generator.
        drivers: the columns that always stay observed and decide; None draws 30 % (at least one) of the complete ones.
        strength: the slope of the logit per standard deviation of the score.

    Returns:
        Booleans of x's shape, True where observed.

    Raises:
        ValueError: a rate outside [0, 1), data that are not a table, drivers that are not columns, that have NaN or
            are constant, or that leave no column to hide.
    """
    x = _data(x)
    _check_strength(strength)
    if x.ndim != 2 or x.shape[1] < 2:
        raise problem(
            "x", got=f"shape {x.shape}", expected="(n, d) with d >= 2", fix="Flatten it: x.reshape(len(x), -1)."
        )
    rng = _generator(seed)
    score = _standardised(x)
    usable = np.flatnonzero(~np.isnan(x).any(0) & (score != 0).any(0))
    if drivers is None:
        if not usable.size:
            raise problem(
                "x",
                got="no column that is complete and not constant",
                expected="at least one to drive the missingness",
                fix="Use mcar or mnar.",
            )
        count = min(max(round(0.3 * x.shape[1]), 1), usable.size, x.shape[1] - 1)
        chosen = rng.choice(usable, size=count, replace=False)
    else:
        chosen = np.unique(np.asarray(drivers, dtype=int))
        bad = sorted(set(chosen.tolist()) - set(usable.tolist()))
        if bad or not chosen.size or chosen.size == x.shape[1]:
            raise problem(
                "drivers",
                got=list(drivers),
                expected=f"some, not all, of the complete columns that are not constant: {usable.tolist()}",
                fix="Choose among these.",
            )
    weights = rng.standard_normal((chosen.size, x.shape[1]))
    logits = strength * _standardised(score[:, chosen] @ weights)
    hidable = ~np.isnan(x)
    hidable[:, chosen] = False
    observed = _draw(logits, hidable, rate, seed=rng, empty_rows=True)
    observed[:, chosen] = True
    return observed


def mnar(x: np.ndarray, rate: float, *, seed: Seed, strength: float = 2.0, empty_rows: bool = False) -> np.ndarray:
    """Missing not at random (self-masking): a cell is hidden the more readily the larger its own value.

    The score is the cell's value, standardised by its column.

    Args:
        x: (n, \\*event_shape) numbers; NaN cells stay missing and do not count for the rate.
        rate: the expected share of cells to hide, in [0, 1).
        seed: a seed or a generator.
        strength: the slope of the logit per standard deviation; negative hides the small values.
        empty_rows: whether a row may lose all its cells; where not, as in ``mcar``.

    Returns:
        Booleans of x's shape, True where observed.

    Raises:
        ValueError: a rate outside [0, 1), or one that cannot be reached without emptying rows; a strength of 0.
    """
    x = _data(x)
    _check_strength(abs(strength))
    return _draw(strength * _standardised(x), ~np.isnan(x), rate, seed=seed, empty_rows=empty_rows)


def pixels(x: np.ndarray, rate: float, *, seed: Seed) -> np.ndarray:
    """Random pixels of each image hidden, all channels of a pixel together, exactly ``round(rate * h * w)`` an image.

    Args:
        x: (n, c, h, w) images.
        rate: the share of pixels to hide, in [0, 1).
        seed: a seed or a generator.

    Returns:
        Booleans of x's shape, True where observed.

    Raises:
        ValueError: a rate outside [0, 1), or data that are not images.
    """
    n, c, h, w = _images(x)
    _check_rate(rate)
    hidden = np.arange(h * w) < round(rate * h * w)
    observed = _generator(seed).permuted(np.tile(~hidden, (n, 1)), axis=1)
    return np.repeat(observed.reshape(n, 1, h, w), c, axis=1)


def block(x: np.ndarray, size: tuple[int, int], *, seed: Seed) -> np.ndarray:
    """A rectangle of each image hidden, at a place drawn uniformly among those where it fits.

    Args:
        x: (n, c, h, w) images.
        size: height and width of the rectangle in pixels.
        seed: a seed or a generator.

    Returns:
        Booleans of x's shape, True where observed.

    Raises:
        ValueError: data that are not images, or a rectangle that does not fit or hides everything.
    """
    n, c, h, w = _images(x)
    height, width = size
    if not (1 <= height <= h and 1 <= width <= w) or (height, width) == (h, w):
        raise problem("size", got=size, expected=f"within the image's {(h, w)}, not all of it", fix="Make it smaller.")
    rng = _generator(seed)
    top = rng.integers(h - height + 1, size=(n, 1, 1))
    left = rng.integers(w - width + 1, size=(n, 1, 1))
    row, column = np.arange(h)[:, None], np.arange(w)
    hidden = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    return np.repeat(~hidden[:, None], c, axis=1)


def half(x: np.ndarray, side: str) -> np.ndarray:
    """One half of every image hidden; of an odd size the middle line stays observed.

    Args:
        x: (n, c, h, w) images.
        side: the half that is hidden: "left", "right", "top" or "bottom".

    Returns:
        Booleans of x's shape, True where observed.

    Raises:
        ValueError: data that are not images, or another side.
    """
    shape = _images(x)
    _, _, h, w = shape
    sides = {
        "left": np.s_[..., : w // 2],
        "right": np.s_[..., w - w // 2 :],
        "top": np.s_[..., : h // 2, :],
        "bottom": np.s_[..., h - h // 2 :, :],
    }
    one_of("side", side, sides)
    observed = np.ones(shape, dtype=bool)
    observed[sides[side]] = False
    return observed


def _draw(logits: np.ndarray, hidable: np.ndarray, rate: float, *, seed: Seed, empty_rows: bool) -> np.ndarray:
    """Masks with P(hidden) = sigmoid(a + logits) on the hidable cells; ``a`` makes their expected share the rate."""
    _check_rate(rate)
    shape, n = logits.shape, len(logits)
    logits, hidable = logits.reshape(n, -1), hidable.reshape(n, -1)
    cells = hidable.sum()
    if rate == 0 or not cells:
        return hidable.reshape(shape)
    limit = 1.0 if empty_rows else float((hidable.sum(1) - 1).clip(0).sum() / cells)
    if not empty_rows and np.isclose(rate, limit, rtol=0, atol=1e-9):
        return _keep_one(logits, hidable, _generator(seed)).reshape(shape)
    if rate >= limit:
        raise problem(
            "rate",
            got=rate,
            expected=f"at most {limit:.4g}, the share that leaves every row one observed cell",
            fix="Lower the rate, or pass empty_rows=True.",
        )
    if logits.any():
        intercept = _intercept(logits, hidable, rate, empty_rows)
        log_p = np.where(hidable, _log_sigmoid(intercept + logits), 0.0)
    else:
        # Rows that differ only in how many cells they can lose are one row, counted.
        width, count = np.unique(hidable.sum(1), return_counts=True)
        stair = np.arange(width[-1]) < width[:, None]
        intercept = _intercept(np.zeros(stair.shape), stair, rate, empty_rows, count)
        log_p = np.where(hidable, _log_sigmoid(intercept), 0.0)
    rng = _generator(seed)
    uniform = rng.random(log_p.shape)
    observed = hidable & (uniform >= np.exp(log_p))
    if not empty_rows:
        tight = np.flatnonzero(hidable.any(1) & (log_p.sum(1) > _NEGLIGIBLE))
        observed[tight] = _draw_keeping_one(log_p[tight], hidable[tight], uniform[tight])
    return observed.reshape(shape)


def _keep_one(logits: np.ndarray, hidable: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One cell of each row, j with probability proportional to exp(-logits_j): the limit of ever larger ``a``."""
    score = np.where(hidable, rng.gumbel(size=logits.shape) - logits, -np.inf)
    return hidable & (np.arange(logits.shape[1]) == score.argmax(1)[:, None])


def _draw_keeping_one(log_p: np.ndarray, hidable: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Exact draws of rows given that each keeps a cell, left to right.

    While none is kept, P(hide j | the row keeps one) = p_j (1 - prod_{k>j} p_k) / (1 - prod_{k>=j} p_k).
    """
    log_rest = np.cumsum(log_p[:, ::-1], axis=1)[:, ::-1]
    log_after = np.concatenate([log_rest[:, 1:], np.zeros((len(log_p), 1))], axis=1)
    rest = -np.expm1(log_rest)
    given = np.exp(log_p) * -np.expm1(log_after) / np.where(rest > 0, rest, 1.0)
    observed = np.zeros(log_p.shape, dtype=bool)
    kept = np.zeros(len(log_p), dtype=bool)
    for j in range(log_p.shape[1]):
        chance = np.where(kept, np.exp(log_p[:, j]), given[:, j])
        observed[:, j] = hidable[:, j] & (uniform[:, j] >= chance)
        kept |= observed[:, j]
    return observed


def _intercept(
    logits: np.ndarray, hidable: np.ndarray, rate: float, empty_rows: bool, count: np.ndarray | int = 1
) -> float:
    """Where the expected share of hidden cells, given that rows keep a cell unless ``empty_rows``, is the rate."""
    from scipy.optimize import brentq

    cells = hidable.sum(1)
    target = rate * float((cells * count).sum())

    def excess(intercept: float) -> float:
        log_p = np.where(hidable, _log_sigmoid(intercept + logits), 0.0)
        log_all = log_p.sum(1)
        hidden = np.exp(log_p).sum(1, where=hidable)
        if not empty_rows:
            # Given that a row keeps one, sum_j p_j (1 - prod_{k != j} p_k) / (1 - prod_k p_k); for 0 / 0 its limit.
            tight = np.flatnonzero((log_all > _NEGLIGIBLE) & (cells > 0))
            log_p, lost = log_p[tight], -np.expm1(log_all[tight])
            others = -np.expm1(log_all[tight, None] - log_p)
            hidden[tight] = (np.exp(log_p) * others).sum(1, where=hidable[tight]) / np.where(lost > 0, lost, 1.0)
            hidden[tight] = np.where(lost > 0, hidden[tight], cells[tight] - 1)
        return float((hidden * count).sum() - target)

    low, high = -1.0, 1.0
    while excess(low) > 0:
        low *= 2
    while excess(high) < 0 and high < 1e4:
        high *= 2
    return float(brentq(excess, low, high, xtol=1e-7)) if excess(high) > 0 else high


def _log_sigmoid(x: np.ndarray | float) -> np.ndarray | np.floating:
    return -np.logaddexp(0.0, -x)


def _generator(seed: Seed) -> np.random.Generator:
    # Salted, so that a mask never repeats the stream that drew the data with the same number for a seed.
    return seed if isinstance(seed, np.random.Generator) else np.random.default_rng([seed, 0x6D61736B])


def _standardised(x: np.ndarray) -> np.ndarray:
    """Each column centred and scaled by its observed cells; missing cells and constant columns become 0."""
    present = ~np.isnan(x)
    count = np.maximum(present.sum(0), 1)
    centred = np.where(present, x - np.where(present, x, 0.0).sum(0) / count, 0.0)
    sd = np.sqrt((centred**2).sum(0) / count)
    constant = sd <= 1e-12 * np.where(present, np.abs(x), 0.0).max(0, initial=0.0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, sd))


def _data(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype.kind not in "fiub" or x.ndim < 2 or not x.size or (x.dtype.kind == "f" and np.isinf(x).any()):
        infinite = " with infinite values" if x.dtype.kind == "f" and np.isinf(x).any() else ""
        raise problem(
            "x",
            got=f"dtype {x.dtype}, shape {x.shape}{infinite}",
            expected="finite numbers (NaN: missing already) of shape (n, *event_shape), not empty",
            fix="Encode the data first, e.g. with Encoding.encode.",
        )
    return x.astype(np.float64)


def _images(x: np.ndarray) -> tuple[int, int, int, int]:
    shape = np.shape(x)
    if len(shape) != 4:
        raise problem(
            "x",
            got=f"shape {shape}",
            expected="images (n, channels, height, width)",
            fix="Reshape it, e.g. x.reshape(-1, 1, 8, 8), and flatten the mask afterwards.",
        )
    n, c, h, w = shape
    return n, c, h, w


def _check_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise problem("rate", got=rate, expected="a share in [0, 1)", fix="Pass for instance rate=0.5.")


def _check_strength(strength: float) -> None:
    if not 0 < strength <= 50:
        raise problem(
            "strength",
            got=strength,
            expected="a slope of size above 0 and at most 50",
            fix="Use mcar for no dependence; 50 is as good as a threshold.",
        )
