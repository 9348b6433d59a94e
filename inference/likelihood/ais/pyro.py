"""Annealed importance sampling in Pyro: eager steps over all chains and rows."""

from typing import Any, NamedTuple

import numpy as np
import torch
from pyro import poutine
from tqdm import tqdm

from deepgen import checks
from deepgen.inference.hmc import pyro as hmc
from deepgen.inference.likelihood.ais import annealing, bounds
from deepgen.inference.likelihood.ais.bounds import Bracket
from deepgen.likelihoods.laws import is_missing
from deepgen.program import LogProb, Program, check_program, takes_labels
from deepgen.program.latents import pyro as latents
from deepgen.program.pyro import isolated, log_densities, log_joint, propose, tensor

__all__ = ["Bracket", "ais", "bdmc"]


def ais(
    program: Program,
    x: Any,
    *,
    y: Any = None,
    num_chains: int = 16,
    num_temperatures: int = 500,
    num_steps: int = 10,
    start: str = "prior",
    progress: bool | None = None,
) -> LogProb:
    r"""log p(x) of each row by annealed importance sampling, with its Monte Carlo standard error.

    Chains go from a start :math:`q_0` (the prior of the latents, or the guide) to the posterior through
    :math:`f_t = q_0^{1 - \beta_t} p(x, \cdot)^{\beta_t}`, with Hamiltonian transitions :math:`T_t` that keep
    :math:`f_t`:

    .. math:: \log \frac1K \sum_k w_k, \quad
        w = \prod_{t=1}^{T} \left(\frac{p(x, z_{t-1})}{q_0(z_{t-1})}\right)^{\beta_t - \beta_{t-1}},
        \quad z_0 \sim q_0,\ z_t \sim T_t(\cdot \mid z_{t-1})

    with sigmoid temperatures. Each weight is unbiased for p(x); its logarithm is therefore in expectation a lower bound
    of log p(x), which it reaches as K or T grows. Missing entries are integrated out: the value is then that of
    log p(x_observed). Of a program with classes, whose labels ``y`` are all known, it is that of log p(x | y).

    From the prior, normal latents are moved as the standard normal noise that the model shifts and scales, so that one
    step size serves levels whose scales are far apart; from the guide, latents are moved as they are.

    The step sizes, one for each row and temperature, are found by a pilot run of the same length, which adapts them
    from temperature to temperature towards an acceptance of 0.65, and are fixed in a second run with noise of its own:
    only the second run counts, and it is unbiased whatever the pilot found. The cost of a row is about
    ``2 num_chains num_temperatures (num_steps + 1)`` gradients.

    The standard error comes from the weights themselves: where few of them dominate it is too small. `bdmc` tells how
    far to trust the setting.

    Args:
        program: a program with continuous latents.
        x: (n, *event_shape), NaN (negative integers) where missing.
        y: (n,) labels of the rows, or one for all, of a program with classes, which needs them.
        num_chains: K, chains of each row.
        num_temperatures: T, the number of steps from the start to the posterior.
        num_steps: the mean number of leapfrog steps of a transition.
        start: ``"prior"`` or ``"guide"``; the guide must reach wherever the posterior does.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        Value, standard error and the kind ``"estimate"``.

    Warns:
        UserWarning: where single chains outweigh all others in most rows, see `bounds.judged`.

    Raises:
        TypeError: no program where there should be one.
        ValueError: data or labels that the program does not take, labels of which some are unknown, a program without
            latents, with discrete ones or with a law of which entries are observed, or an argument out of range.

    References:
        Neal, "Annealed importance sampling" (2001); Wu, Burda, Salakhutdinov and Grosse, "On the quantitative analysis
        of decoder-based generative models" (2017).
    """
    check_program(program)
    bounds.check_run(num_chains, num_temperatures, num_steps, start)
    bounds.check_program(program)
    array = program.check_data(x, missing=True)
    labels = None if y is None else bounds.check_known(takes_labels(program).check_labels(y, len(array)))
    missing = is_missing(array)
    settings = _Settings(num_chains, num_temperatures, num_steps, start)
    seen = torch.as_tensor(~missing) if missing.any() else None
    (forward,) = _anneal(program, tensor(program, array), seen, labels, None, settings, progress)
    return LogProb(*bounds.judged(forward, start), "estimate")


def bdmc(
    program: Program,
    num_rows: int,
    *,
    y: Any = None,
    num_chains: int = 16,
    num_temperatures: int = 500,
    num_steps: int = 10,
    start: str = "prior",
    progress: bool | None = None,
) -> Bracket:
    r"""Bounds of the model's mean log p(x) from both sides, on rows that it draws itself: bidirectional Monte Carlo.

    With (z, x) drawn from the model, z is an exact posterior draw of x. Annealed chains from the start give a lower
    bound of log p(x) in expectation (see `ais`), chains from z back to the start an upper bound,

    .. math:: \log \frac1K \sum_k w_k \;\lesssim\; \log p(x) \;\lesssim\; -\log \frac1K \sum_k \frac1{\bar w_k}

    with :math:`\bar w_k` the same product along the reversed chain. The gap bounds the error of `ais` with the same
    settings, on data like those of the model. The step sizes come from a pilot run, as in `ais`. Of a program with
    classes, whose labels ``y`` are all known, z and x are drawn given these, and the bounds are those of log p(x | y).

    Args:
        program: a program with continuous latents.
        num_rows: how many rows to draw.
        y: (num_rows,) labels to draw them with, or one for all, of a program with classes, which needs them.
        num_chains: K, chains of each row in each direction.
        num_temperatures: T, the number of steps between the start and the posterior.
        num_steps: the mean number of leapfrog steps of a transition.
        start: ``"prior"`` or ``"guide"``.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        Both bounds and their gap, means over the rows with standard errors, and each row's.

    Raises:
        TypeError: no program where there should be one.
        ValueError: labels that the program does not take or of which some are unknown, a program without latents, with
            discrete ones or with a law of which entries are observed, or an argument out of range.

    References:
        Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood using bidirectional Monte Carlo" (2015).
    """
    check_program(program)
    checks.at_least("num_rows", num_rows, 2)
    bounds.check_run(num_chains, num_temperatures, num_steps, start)
    bounds.check_program(program)
    labels = None if y is None else bounds.check_known(takes_labels(program).check_labels(y, num_rows))
    values, simulated = _simulate(_view(program, labels, slice(None), start), num_rows)
    settings = _Settings(num_chains, num_temperatures, num_steps, start)
    forward, reverse = _anneal(program, simulated, None, labels, values, settings, progress)
    return bounds.bracket(forward, reverse, simulated.numpy(force=True))


class _Known:
    """What has ``model`` and ``guide`` of x alone, and a label that is known at the site "y"."""

    def __init__(self, program: Any, y: torch.Tensor) -> None:
        given = program.given(y)
        self.model, self.guide = (poutine.condition(side, data={"y": y}) for side in (given.model, given.guide))


def _view(program: Any, labels: np.ndarray | None, part: slice, start: str) -> Any:
    """The program of these rows, whose labels may be known; from the prior, with its normal latents as noise."""
    view = program if labels is None else _Known(program, tensor(program, labels[part]))
    return latents.Noise(view) if start == "prior" else view


class _Settings(NamedTuple):
    num_chains: int
    num_temperatures: int
    num_steps: int
    start: str


class _Path:
    """log q_0 and Delta of (chains, n, d), on the unconstrained space."""

    def __init__(
        self, program: Any, layout: latents.Layout, x: torch.Tensor, observed: torch.Tensor | None, start: str
    ):
        self.program, self.layout, self.x, self.observed, self.start = program, layout, x, observed, start
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        self.complete = x if observed is None else torch.where(observed, x, zero)

    def __call__(self, position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, log_det = self.layout.unflatten(position)
        densities = log_densities(self.program.model, values, self.complete, self.observed, len(position))
        zero = torch.zeros_like(log_det)
        prior = sum((densities[name] for name in self.layout.names), zero)
        likelihood = sum((value for name, value in densities.items() if name not in values), zero)
        if self.start == "prior":
            return prior + log_det, likelihood
        log_q = log_joint(self.program.guide, values, self.x, num_particles=len(position))
        return log_q + log_det, prior + likelihood - log_q

    def draw(self, num_chains: int) -> torch.Tensor:
        """Exact draws of q_0, (chains, n, d)."""
        guide, x = self.program.guide, self.x
        if self.start == "prior":
            guide, x = poutine.block(self.program.model, hide=["x"]), self.complete
        return self.layout.flatten(propose(guide, x, num_chains)[0])


def _anneal(
    program: Any,
    x: torch.Tensor,
    observed: torch.Tensor | None,
    labels: np.ndarray | None,
    exact: dict[str, torch.Tensor] | None,
    settings: _Settings,
    progress: bool | None,
) -> np.ndarray:
    """The log weights (legs, chains, n) of the forward leg, and of the reverse one from ``exact`` latents."""
    sites = latents.sites(_view(program, labels, slice(1), settings.start), x)
    bounds.check_latents(
        [site["name"] for site in sites], [site["name"] for site in sites if site["fn"].support.is_discrete]
    )
    layout = latents.layout(sites)
    vectors = None if exact is None else layout.flatten({name: value[None] for name, value in exact.items()})
    temperatures = annealing.sigmoid_schedule(settings.num_temperatures)
    plan = annealing.plan(temperatures, reverse=exact is not None)
    rows = bounds.chunk_rows(len(x), len(plan.last) * settings.num_chains, int(np.prod(x.shape[1:])))
    starts = range(0, len(x), rows)
    hidden = None if progress is None else not progress
    parts = []
    bar = tqdm(total=len(plan.leg) * len(starts), disable=hidden, unit="step", desc="AIS")
    with bar, torch.no_grad(), isolated():
        for first in starts:
            part = slice(first, first + rows)
            seen = None if observed is None else observed[part].to(x.device)
            path = _Path(_view(program, labels, part, settings.start), layout, x[part], seen, settings.start)
            ends = None if vectors is None else vectors[:, part]
            parts.append(_run(path, plan, ends, settings, bar).cpu().numpy())
    return np.concatenate(parts, axis=-1)


def _run(path: _Path, plan: annealing.Plan, exact: torch.Tensor | None, settings: _Settings, bar: Any) -> torch.Tensor:
    count = settings.num_chains
    position = list(path.draw(2 * count).split(count))
    if exact is not None:
        position.append(exact.expand_as(position[0]))
    log_weight = [torch.zeros_like(chains[..., 0]) for chains in position]
    searched = torch.full_like(log_weight[0][:1], float(np.log(annealing.FIRST_STEP_SIZE)))
    log_step_size = [searched] * (settings.num_temperatures - 1)
    inverse_mass = torch.ones_like(position[0][:1, :1])
    for leg, temperature, increment, slot in zip(plan.leg, plan.temperature, plan.increment, plan.slot, strict=True):
        state, delta = _at(path, float(temperature), position[leg])
        if leg == 0:
            log_step_size[slot] = searched
        target = _Tempered(path, float(temperature))
        state, info = hmc.step(state, target, log_step_size[slot].exp(), inverse_mass, settings.num_steps)
        if leg == 0:
            searched = annealing.adapted(searched, info.accept_prob)
        position[leg] = state.position
        log_weight[leg] = log_weight[leg] + float(increment) * delta
        bar.update()
    ends = zip(position[1:], log_weight[1:], plan.last[1:], strict=True)
    return torch.stack([weight + float(last) * path(chains)[1] for chains, weight, last in ends])


class _Tempered:
    def __init__(self, path: _Path, temperature: float):
        self.path, self.temperature = path, temperature

    def __call__(self, position: torch.Tensor) -> torch.Tensor:
        return annealing.tempered(*self.path(position), self.temperature)


def _at(path: _Path, temperature: float, position: torch.Tensor) -> tuple[hmc.State, torch.Tensor]:
    """The state of the chains under f_t, and Delta, from one evaluation."""
    with torch.enable_grad():
        position = position.detach().requires_grad_()
        initial, delta = path(position)
        value = annealing.tempered(initial, delta, temperature)
        (gradient,) = torch.autograd.grad(value.sum(), position)
    return hmc.State(position.detach(), value.detach(), gradient), delta.detach()


def _simulate(program: Any, num_rows: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    with torch.no_grad(), isolated():
        trace = poutine.trace(program.model).get_trace(size=num_rows)
    samples = [site for site in trace.nodes.values() if site["type"] == "sample" and not site["is_observed"]]
    values = {site["name"]: site["value"] for site in samples if not poutine.util.site_is_subsample(site)}
    return values, values.pop("x")
