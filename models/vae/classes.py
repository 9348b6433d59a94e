"""Labels of which some are known: their codes, the laws that known ones pin, and the posterior of a class.

Kingma, Mohamed, Rezende & Welling 2014, Semi-supervised learning with deep generative models.
"""

from typing import Any, NamedTuple

import array_api_compat
import numpy as np
from jaxtyping import Float, Int

from deepgen import checks
from deepgen.nn.arguments import wholes

UNKNOWN = -1
CLASSIFIERS = ("guide", "importance")
"""The ways to classify, the default first."""
IMPUTERS = ("sir", "adaptive-gibbs", "gibbs", "pseudo-gibbs", "lair", "auto")
"""The ways to impute: those that need no gradient along the class."""
_OUT = -1e4
"""A log probability whose exponential is zero in every precision, and that times zero is zero."""


class ClassProbabilities(NamedTuple):
    """Probabilities of the classes of each row, with what they are worth.

    Attributes:
        value: (n, K).
        stderr: (n, K) the Monte Carlo standard error; zero for the guide's own, whose error is no Monte Carlo error.
        kind: ``"exact"`` for p(y | x) itself, ``"approximate"`` for the guide's q(y | x), ``"estimate"`` for an
            importance estimate of p(y | x).
    """

    value: Float[np.ndarray, "n k"]
    stderr: Float[np.ndarray, "n k"]
    kind: str


def check_labels(y: Any, rows: int, num_classes: int) -> Int[np.ndarray, " n"]:
    """Labels as an array of integers, -1 where unknown.

    Args:
        y: (rows,) integers, or one for all rows.
        rows: how many there have to be.
        num_classes: K.

    Returns:
        (rows,) int32.

    Raises:
        ValueError: no integers, another number of them, or one outside -1 … K - 1.
    """
    array = np.asarray(y)
    if array.dtype.kind not in "iu":
        raise checks.problem(
            "y",
            got=f"dtype {array.dtype}",
            expected="integers, -1 where the label is not known",
            fix="Convert them, e.g. np.where(np.isnan(y), -1, y).astype(int).",
        )
    if array.shape not in {(), (rows,)}:
        raise checks.problem(
            "y", got=f"shape {array.shape}", expected=f"({rows},), a label a row", fix="Pass -1 for rows without one."
        )
    wrong = (array < UNKNOWN) | (array >= num_classes)
    if wrong.any():
        raise checks.problem(
            "y",
            got=f"the label {array[wrong].flat[0]}",
            expected=f"labels 0 to {num_classes - 1}, or -1 where unknown",
            fix="Number the classes from 0, or build the program with more classes.",
        )
    return np.broadcast_to(array, (rows,)).astype(np.int32)


def one_hot(y: Any, num_classes: int, like: Any) -> Any:
    """The codes (..., K) of labels (...), of the dtype and on the device of ``like``; all zero where unknown."""
    xp = array_api_compat.array_namespace(like)
    classes = xp.arange(num_classes, device=array_api_compat.device(like))
    return xp.astype(y[..., None] == classes, like.dtype)


def pinned(logits: Float[Any, "n k"], y: Int[Any, " n"]) -> Float[Any, "n k"]:
    """Logits of the law of a label given what is known: all on the label where it is known, else as they are.

    Args:
        logits: of the law without labels, of each row or of all.
        y: labels, -1 where unknown.

    Returns:
        The logits, through which no gradient goes where the label is known.
    """
    xp = array_api_compat.array_namespace(logits)
    code = one_hot(y, logits.shape[-1], logits)
    return xp.where((y >= 0)[..., None], _OUT * (1 - code), logits)


def beside(values: Float[Any, "*a"], code: Float[Any, "*b k"], axes: int = 1) -> Any:
    """Values and class codes in one array, broadcast against each other: what the networks are shown.

    Args:
        values: (..., p, *rest), with ``axes`` axes of a datum.
        code: (..., K).
        axes: 1 for vectors; 3 for images (channels, height, width), behind whose channels the code is K planes, each
            the same number everywhere.

    Returns:
        (..., p + K, *rest).
    """
    xp = array_api_compat.array_namespace(values)
    batch = np.broadcast_shapes(tuple(values.shape[:-axes]), tuple(code.shape[:-1]))
    planes = xp.reshape(code, (*code.shape, *[1] * (axes - 1)))
    rest = tuple(values.shape[values.ndim - axes + 1 :])
    parts = [xp.broadcast_to(part, (*batch, part.shape[-axes], *rest)) for part in (values, planes)]
    return xp.concat(parts, axis=-axes)


def tile(y: Any, rows: int) -> Any:
    """The labels of ``rows`` rows that repeat those of the labels, block after block."""
    xp = array_api_compat.array_namespace(y)
    return xp.take(y, xp.arange(rows, device=array_api_compat.device(y)) % y.shape[0], axis=0)


def posterior(log_joint: np.ndarray, stderr: np.ndarray) -> ClassProbabilities:
    r"""p(y | x) from estimates of log p(x, y) of each class.

    .. math:: p_k = \frac{w_k}{\sum_j w_j}, \qquad
        \mathrm{se}_k = p_k \sqrt{(1 - 2 p_k)\, r_k^2 + \sum_j p_j^2 r_j^2}

    with r_k the relative standard error of w_k, that of its logarithm, and the classes' estimates independent.

    Args:
        log_joint: (n, K) nats.
        stderr: (n, K) of each.

    Returns:
        The probabilities, an estimate that is consistent in the number of draws.
    """
    shifted = np.exp(log_joint - log_joint.max(-1, keepdims=True))
    value = shifted / shifted.sum(-1, keepdims=True)
    relative = stderr**2
    variance = (1 - 2 * value) * relative + (value**2 * relative).sum(-1, keepdims=True)
    return ClassProbabilities(value, value * np.sqrt(np.maximum(variance, 0.0)), "estimate")


def check_sizes(num_classes: Any, latent_dim: Any, hidden: Any = ()) -> None:
    """Refuse fewer than two classes, no latent, or widths of layers that are none.

    Raises:
        ValueError: naming the argument.
    """
    checks.at_least("num_classes", num_classes, 2)
    checks.positive("latent_dim", latent_dim)
    wholes("hidden", hidden)


def check_posterior(conjugate: bool) -> None:
    """Refuse a posterior that knows nothing of the class.

    Args:
        conjugate: whether it is that of a linear-Gaussian program.

    Raises:
        ValueError: it is.
    """
    if conjugate:
        raise checks.problem(
            "posterior",
            got="'conjugate', the posterior of one linear-Gaussian program, whatever the class",
            expected="a posterior that the encoder gives: 'diagonal', 'full' or a flow",
            fix="Take 'full', or a VAE.",
        )


def refuse_alpha() -> ValueError:
    """The error for a weight on labels that there are not."""
    return checks.problem(
        "alpha",
        got="a weight of the classification term, and no labels",
        expected="labels y beside x, or alpha=0",
        fix="Pass y, -1 where unknown.",
    )


def check_known(has_classes: bool, labels: Any | None) -> None:
    """Refuse a path between data of a program with classes that is not in known classes.

    Args:
        has_classes: whether the program has classes.
        labels: the labels of the paths, or None.

    Raises:
        ValueError: some are not known.
    """
    if has_classes and (labels is None or bool((labels < 0).any())):
        raise checks.problem(
            "y",
            got="no class" if labels is None else "an unknown class",
            expected="the class of each path",
            fix="Pass y; classify gives the classes of data.",
        )
