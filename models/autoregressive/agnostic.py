r"""One network for the conditionals of every order: what it sees, and a loss of one random place of one random order.

The network sees values and a mask of what is decided. In the order o, whose ranks are those of random priorities,

.. math:: \log p_o(x) = \sum_{d=1}^{D} \log p(x_{o(d)} \mid x_{o(1)}, \ldots, x_{o(d-1)}).

Uria, Murray & Larochelle 2014, A deep and tractable density estimator; Germain et al. 2015, MADE.
"""

from typing import Any

import array_api_compat
from jaxtyping import Bool, Float, Int, Shaped

from deepgen import checks
from deepgen.models.autoregressive import inputs


def ranks(priorities: Float[Any, "*batch D"], observed: Bool[Any, "*batch D"]) -> Int[Any, "*batch D"]:
    """The place of each entry in the order of rising priorities, observed entries first.

    Args:
        priorities: distinct numbers.
        observed: whether each entry is.

    Returns:
        0 … D - 1, the entry that is decided first at 0.

    >>> import numpy as np
    >>> ranks(np.array([0.3, 0.1, 0.2]), np.array([True, False, True])).tolist()
    [1, 2, 0]
    """
    xp = array_api_compat.array_namespace(priorities)
    by_priority = xp.argsort(xp.argsort(priorities, axis=-1), axis=-1)
    last = xp.astype(~observed, by_priority.dtype) * priorities.shape[-1]
    return xp.argsort(xp.argsort(by_priority + last, axis=-1), axis=-1)


def shown(
    x: Shaped[Any, "m D"],
    decided: Bool[Any, "m D"],
    num_categories: int | None,
    input_range: tuple[float, float] | None,
    dtype: Any,
) -> Float[Any, "m features"]:
    """What the network sees: the features of what is decided, zeros for the rest, and which is which.

    Args:
        x: the entries, anything admissible where not decided.
        decided: which are.
        num_categories: as of `inputs.features`.
        input_range: as of `inputs.features`.
        dtype: of the features.

    Returns:
        (m, D (F + 1)).
    """
    xp = array_api_compat.array_namespace(x)
    mask = xp.astype(decided, dtype)
    values = inputs.features(x, num_categories, input_range, dtype) * mask[:, None]
    return xp.concat([xp.reshape(values, (x.shape[0], -1)), mask], axis=-1)


def position(uniforms: Float[Any, "*#batch"], observed: Bool[Any, "*#batch D"]) -> Int[Any, "*#batch"]:
    """A random place 0 … K - 1 among the K observed entries of each row.

    Args:
        uniforms: in [0, 1).
        observed: whether each entry is.
    """
    xp = array_api_compat.array_namespace(uniforms)
    count = xp.sum(xp.astype(observed, uniforms.dtype), axis=-1)
    place = xp.minimum(xp.floor(uniforms * count), count - 1)
    return xp.astype(xp.maximum(place, xp.zeros_like(place)), xp.int32)


def scaled(
    log_p: Float[Any, "*#batch D"],
    rank: Int[Any, "*#batch D"],
    place: Int[Any, "*#batch"],
    observed: Bool[Any, "*#batch D"],
) -> Float[Any, "*#batch"]:
    r"""An estimate of the mean of log p over orders, without bias, from the conditionals at one place of one order.

    .. math:: \frac{K}{K - d} \sum_{i:\ \mathrm{rank}(i) \ge d} \log p(x_i \mid \text{the } d \text{ before}),
        \qquad d = 0, \ldots, K - 1

    over the K observed entries (in the notation of Uria et al., who count d from 1, D / (D - d + 1)).

    Args:
        log_p: of each entry given those of a rank below the place, nats.
        rank: of each entry, the observed first.
        place: d.
        observed: whether each entry is.

    Returns:
        Nats.
    """
    xp = array_api_compat.array_namespace(log_p)
    count = xp.sum(xp.astype(observed, log_p.dtype), axis=-1)
    asked = observed & (rank >= place[..., None])
    total = xp.sum(xp.where(asked, log_p, xp.zeros_like(log_p)), axis=-1)
    left = xp.maximum(count - xp.astype(place, log_p.dtype), xp.ones_like(count))
    return count / left * total


def check(network_shape: tuple[int, ...], observation: Any, features: int) -> None:
    """Refuse a network whose outputs are not what the law of the entries wants.

    Args:
        network_shape: of the outputs of one row.
        observation: the law of a datum.
        features: how many numbers the network was shown.

    Raises:
        ValueError: another number of outputs.
    """
    wanted = observation.num_params
    for size in observation.event_shape:
        wanted *= size
    if tuple(network_shape) != (1, wanted):
        raise checks.problem(
            "network",
            got=f"outputs of shape {tuple(network_shape)} for one row of {features} numbers",
            expected=f"(1, {wanted}), {observation.num_params} for each entry",
            fix=f"Give its last layer {wanted} outputs.",
        )


def sizes(law: Any) -> tuple[int, int, dict[str, Any]]:
    """How many numbers a network sees and gives, and how entries enter it.

    Args:
        law: of a datum.

    Returns:
        The two sizes, and the keyword arguments ``num_categories`` and ``input_range`` of `shown`.

    Raises:
        ValueError: a law that differs from entry to entry, or that couples a pixel's channels.
    """
    if tuple(law.element().event_shape) != ():
        raise checks.problem(
            "likelihood",
            got=f"{law.name!r} with coupled channels",
            expected="a law of single entries, of which any may be decided first",
            fix="Pass likelihoods.DiscretizedLogistic(event_shape, coupled=False).",
        )
    seen: dict[str, Any] = {
        "num_categories": law.num_classes if law.name == "categorical" else None,
        "input_range": (0.0, law.num_values - 1.0) if law.name == "discretized_logistic" else None,
    }
    entries = 1
    for size in law.event_shape:
        entries *= size
    return entries * (inputs.num_features(**seen) + 1), entries * law.num_params, seen
