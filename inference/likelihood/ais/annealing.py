r"""From a law that can be sampled to the posterior of the latents, in small steps.

Notation: a start :math:`q_0(z)`, normalised; :math:`f_T(z) = p(x, z)`; between them :math:`f_t = q_0^{1 - \beta_t}
f_T^{\beta_t}` with :math:`0 = \beta_0 < \dots < \beta_T = 1`; :math:`\Delta(z) = \log f_T(z) - \log q_0(z)`.
"""

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float, Int

TARGET = 0.65
"""The acceptance probability to which step sizes are adapted (Wu et al. 2017)."""
GAIN = 0.5
"""How strongly one iteration moves the log step size."""
FIRST_STEP_SIZE = 0.3
SETTLING = 20
"""Iterations of the pilot at the first temperature, which find a step size to begin with."""


class Plan(NamedTuple):
    """A run of several legs, iteration by iteration: the pilot, then each estimate.

    A leg is a set of chains. Iteration i first adds ``increment`` times Delta of their positions to the log weights of
    ``leg``, then moves them by one transition that keeps the law of ``temperature``. After the last iteration every leg
    is due ``last`` times Delta.

    Attributes:
        leg: (i,) which chains move; 0 is the pilot.
        temperature: (i,) beta.
        increment: (i,) of beta, along the leg; zero in the pilot.
        slot: (i,) which step size is used, or written by the pilot: one for each inner temperature.
        last: (legs,) the last increment.
    """

    leg: Int[np.ndarray, " i"]
    temperature: Float[np.ndarray, " i"]
    increment: Float[np.ndarray, " i"]
    slot: Int[np.ndarray, " i"]
    last: Float[np.ndarray, " legs"]


def sigmoid_schedule(num_temperatures: int, steepness: float = 4.0) -> Float[np.ndarray, " t"]:
    r"""Temperatures that are dense at both ends.

    .. math:: \beta_t = \frac{\tilde\beta_t - \tilde\beta_0}{\tilde\beta_T - \tilde\beta_0}, \qquad
        \tilde\beta_t = \sigma\left(\delta \left(\frac{2 t}{T} - 1\right)\right)

    Args:
        num_temperatures: T.
        steepness: delta.

    Returns:
        (T + 1,) from 0 to 1.

    References:
        Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood using bidirectional Monte Carlo" (2015),
        section 6; Wu, Burda, Salakhutdinov and Grosse (2017).
    """
    raw = 1 / (1 + np.exp(-steepness * np.linspace(-1.0, 1.0, num_temperatures + 1)))
    return (raw - raw[0]) / (raw[-1] - raw[0])


def plan(temperatures: Float[np.ndarray, " t"], *, reverse: bool) -> Plan:
    """What happens in which order: the pilot, a forward leg, and a reverse leg where asked for.

    The log weight of a path is the sum over t of (beta_t - beta_{t-1}) Delta(z_{t-1}) in either direction; a transition
    at beta_t stands between z_{t-1} and z_t.

    Args:
        temperatures: (T + 1,) from 0 to 1, T at least 2.
        reverse: whether there is a leg from the posterior to the start.

    Returns:
        The plan.
    """
    inner, increments = temperatures[1:-1], np.diff(temperatures)
    slots = np.arange(len(inner))
    settling = np.zeros(SETTLING, dtype=int)
    legs = [(np.concatenate([settling, slots]), np.zeros(SETTLING + len(inner)), 0.0)]
    legs.append((slots, increments[:-1], increments[-1]))
    if reverse:
        legs.append((slots[::-1], increments[:0:-1], increments[0]))
    slot = np.concatenate([leg[0] for leg in legs])
    return Plan(
        np.repeat(np.arange(len(legs)), [len(leg[0]) for leg in legs]),
        inner[slot],
        np.concatenate([leg[1] for leg in legs]),
        slot,
        np.array([leg[2] for leg in legs]),
    )


def tempered(initial: Float[Any, "*batch"], delta: Float[Any, "*batch"], temperature: Any) -> Float[Any, "*batch"]:
    """log f_t = log q_0 + beta_t Delta.

    Args:
        initial: (*batch) log q_0(z), nats.
        delta: (*batch) log p(x, z) - log q_0(z), nats.
        temperature: beta_t.

    Returns:
        (*batch) nats.
    """
    return initial + temperature * delta


def adapted(log_step_size: Float[Any, "1 n"], accept_prob: Float[Any, "chains n"]) -> Float[Any, "1 n"]:
    """The log step size of each row after an iteration of the pilot.

    The rule of Wu et al. multiplies a step size by 1.02 where acceptance is above 0.65 and by 0.98 where it is below.
    Here the factor grows with the distance, log e <- log e + g (mean acceptance of the row's chains - 0.65), so that
    few temperatures suffice.

    Args:
        log_step_size: (1, n).
        accept_prob: (chains, n) of the iteration.

    Returns:
        (1, n).
    """
    xp = array_namespace(accept_prob)
    return log_step_size + GAIN * (xp.mean(accept_prob, axis=0, keepdims=True) - TARGET)
