"""Posterior draws of missing variables in Pyro."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS

from deepgen import checks
from deepgen.handlers.entries import split
from deepgen.handlers.pyro import complete, missing
from deepgen.inference.hmc import pyro as hmc
from deepgen.inference.imputation import importance, methods, result
from deepgen.inference.likelihood.pyro import log_weights
from deepgen.likelihoods.laws import is_missing
from deepgen.program import Program
from deepgen.program.pyro import decode, isolated, log_joint, tensor

if TYPE_CHECKING:
    import arviz


def impute(
    program: Program | Callable[..., Any],
    x: Any,
    *,
    observed: Any | None = None,
    method: str | None = None,
    num_samples: int | None = None,
    num_warmup: int | None = None,
    num_chains: int | None = None,
    num_steps: int | None = None,
    num_particles: int | None = None,
    columns: Sequence[str] | None = None,
    model_args: Sequence[Any] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> "arviz.InferenceData":
    r"""Draws from p(x_missing, latents | x_observed), every row's at once.

    ``method="mcmc"``: Hamiltonian Monte Carlo on :math:`p(z) \prod_{i\ \mathrm{observed}} p(x_i \mid z)` of each row,
    then :math:`x_\mathrm{missing} \sim p(x \mid z)`; asymptotically exact. ``method="sir"``: draws of z from the guide,
    resampled with Pareto-smoothed importance weights (Vehtari et al. 2024); exact as ``num_particles`` grows, and
    told by the Pareto k how far to trust it. ``method="nuts"``: for a plain Pyro model, whose latents and missing
    entries are sampled together through the handler `missing`.

    Args:
        program: a program, or a plain model with a site ``"x"`` of the data's shape, called without x.
        x: (n, *event_shape), NaN where missing (negative integers for a categorical law, the mask of a masked array).
        observed: booleans of x's shape, where NaN cannot say it.
        method: ``"mcmc"`` or ``"sir"`` for a program (its first of ``imputers`` if None); ``"nuts"`` for a plain model.
        num_samples: draws of each chain.
        num_warmup: iterations of each chain before them (mcmc, nuts).
        num_chains: chains of each row (mcmc), or of the model (nuts).
        num_steps: the mean number of leapfrog steps of an iteration (mcmc).
        num_particles: proposals of each row (sir).
        columns: the names of a table's columns, for the result's coordinates.
        model_args: arguments of a plain model.
        model_kwargs: keyword arguments of a plain model.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        Groups ``posterior``: ``x`` (chain, draw, row, ...), completed, the observed entries bit for bit, and the
        latents; ``sample_stats``; ``observed_data``; ``constant_data``. The attrs say the method and its draws' law.

    Raises:
        ValueError: data that the program does not take, a method that it does not offer, an option that the method does
            not use.

    Warns:
        UserWarning: where the weights or chains of some rows are not to be trusted.
    """
    given = {
        "num_samples": num_samples,
        "num_warmup": num_warmup,
        "num_chains": num_chains,
        "num_steps": num_steps,
        "num_particles": num_particles,
    }
    original, mask = checks.with_mask(x, observed)
    if not isinstance(program, Program):
        _, options = methods.choose(method, ("nuts",), given)
        return _nuts(program, original, mask, options, columns, model_args, model_kwargs or {}, progress)
    name, options = methods.choose(method, program.imputers, given)
    methods.refuse_model_arguments(model_args, model_kwargs)
    array = program.check_data(original, missing=True, observed=mask)
    result.event_dims(array.shape[1:], columns)
    seen = ~is_missing(array)
    seen_tensor = tensor(program, seen)
    way = {"mcmc": _mcmc, "sir": _sir}[name]
    draws, latents, stats, said = way(program, tensor(program, array), seen_tensor, options, progress)
    return result.inference_data(
        original, seen, draws, latents, stats, method=name, engine="pyro", options=options, columns=columns, attrs=said
    )


class _Layout:
    """How the latents of a row lie in one vector, and how they are constrained."""

    def __init__(self, names: tuple[str, ...], shapes: tuple[tuple[int, ...], ...], transforms: tuple[Any, ...]):
        self.names, self.shapes, self.transforms = names, shapes, transforms

    def flatten(self, latents: Mapping[str, torch.Tensor]) -> torch.Tensor:
        parts = [t.inv(latents[name]) for name, t in zip(self.names, self.transforms, strict=True)]
        return torch.cat([part.reshape(*part.shape[:2], -1) for part in parts], dim=-1)

    def unflatten(self, vector: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The latents of (chains, n, d), and the log determinant (chains, n) that the change of variables brings."""
        latents, log_det, start = {}, vector.new_zeros(vector.shape[:2]), 0
        for name, shape, transform in zip(self.names, self.shapes, self.transforms, strict=True):
            size = int(np.prod(shape))
            free = vector[..., start : start + size].reshape(*vector.shape[:2], *shape)
            latents[name] = transform(free)
            jacobian = transform.log_abs_det_jacobian(free, latents[name])
            log_det = log_det + jacobian.reshape(*vector.shape[:2], -1).sum(-1)
            start += size
        return latents, log_det


def _layout(program: Any, x: torch.Tensor) -> _Layout:
    trace = poutine.trace(program.guide).get_trace(x[:1])
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    names, shapes, transforms = [], [], []
    for site in sites:
        if poutine.util.site_is_subsample(site):
            continue
        support = site["fn"].support
        methods.refuse_discrete(site["name"], support.is_discrete)
        transform = torch.distributions.biject_to(support)
        names.append(site["name"])
        shapes.append(tuple(transform.inverse_shape(site["value"].shape[1:])))
        transforms.append(transform)
    return _Layout(tuple(names), tuple(shapes), tuple(transforms))


class _Target:
    """log p(x_observed, latents) of (chains, n, d), on the unconstrained space."""

    def __init__(self, program: Any, layout: _Layout, x: torch.Tensor, observed: torch.Tensor):
        self.program, self.layout, self.x, self.observed = program, layout, x, observed

    def __call__(self, position: torch.Tensor) -> torch.Tensor:
        latents, log_det = self.layout.unflatten(position)
        return log_joint(self.program.model, latents, self.x, self.observed, len(position)) + log_det


class _Collect:
    """What to keep of a draw: the data drawn given the latents, and the latents."""

    def __init__(self, program: Any, layout: _Layout):
        self.program, self.layout = program, layout

    def __call__(self, position: torch.Tensor) -> dict[str, Any]:
        latents, _ = self.layout.unflatten(position)
        return {"x": decode(self.program.model, latents, position.shape[1], len(position)), **latents}


def _start(program: Any, layout: _Layout, x: torch.Tensor, observed: torch.Tensor, num_chains: int) -> torch.Tensor:
    """A start for each chain: one of some draws from the guide, chosen by its importance weight.

    Where the posterior has several modes a chain rarely crosses between them, so the starts must be spread over them.
    """
    dim = sum(int(np.prod(shape)) for shape in layout.shapes)
    position = torch.zeros(num_chains, len(x), dim, device=x.device)
    best = torch.full((num_chains, len(x)), -torch.inf, device=x.device)
    for _ in range(methods.STARTS):
        latents, weights = log_weights(program, x, observed, num_chains)
        vector = layout.flatten(latents)
        # the largest of weight times Gumbel noise is a draw by weight
        score = weights - torch.log(torch.empty_like(weights).exponential_())
        position = torch.where((score > best)[..., None], vector, position)
        best = torch.maximum(score, best)
    return position


def _mcmc(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    layout = _layout(program, x)
    with isolated():
        with torch.no_grad():
            start = _start(program, layout, x, observed, options["num_chains"])
        draws, report = hmc.run(
            _Target(
                program, layout, torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device)), observed
            ),
            start,
            num_warmup=options["num_warmup"],
            num_samples=options["num_samples"],
            num_steps=options["num_steps"],
            collect=_Collect(program, layout),
            progress=progress,
        )
    arrays = {name: value.transpose(0, 1).cpu().numpy() for name, value in draws.items()}
    stats, said = result.chain_stats(
        -report.potential_energy.transpose(0, 1).cpu().numpy(),
        acceptance_rate=report.accept_prob.cpu().numpy(),
        step_size=report.step_size.cpu().numpy(),
        diverging=report.divergences.cpu().numpy(),
    )
    return arrays.pop("x"), arrays, stats, said


def _sir(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    with torch.no_grad(), isolated():
        latents, weights = _propose(program, x, observed, options["num_particles"])
        judged = importance.smooth(weights.T.cpu().numpy())
        uniforms = torch.rand(len(x), options["num_samples"], device=x.device)
        index = torch.as_tensor(importance.resample(judged.weights, uniforms.cpu().numpy()), device=x.device)
        chosen = {name: value[index.T, torch.arange(len(x))] for name, value in latents.items()}
        draws = _decode(program, chosen, len(x))
    stats, said = result.weight_stats(judged.ess, judged.pareto_k)
    return draws.cpu().numpy()[None], {name: value.cpu().numpy()[None] for name, value in chosen.items()}, stats, said


def _propose(
    program: Any, x: torch.Tensor, observed: torch.Tensor, num_particles: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    chunk = 64
    found = [
        log_weights(program, x, observed, min(chunk, num_particles - start)) for start in range(0, num_particles, chunk)
    ]
    latents = {name: torch.cat([part[0][name] for part in found]) for name in found[0][0]}
    return latents, torch.cat([part[1] for part in found])


def _decode(program: Any, latents: Mapping[str, torch.Tensor], size: int) -> torch.Tensor:
    count, chunk = len(next(iter(latents.values()))), 64
    parts = []
    for start in range(0, count, chunk):
        some = {name: value[start : start + chunk] for name, value in latents.items()}
        parts.append(decode(program.model, some, size, min(chunk, count - start)))
    return torch.cat(parts)


def _nuts(
    model: Callable[..., Any],
    x: np.ndarray,
    observed: np.ndarray | None,
    options: Mapping[str, int],
    columns: Sequence[str] | None,
    model_args: Sequence[Any],
    model_kwargs: Mapping[str, Any],
    progress: bool | None,
) -> "arviz.InferenceData":
    checks.data("x", x, x.shape[1:], missing=True, observed=observed)
    result.event_dims(x.shape[1:], columns)
    masks = None if observed is None else {"x": observed}
    chains, lps, divergences = [], [], []
    for _ in range(options["num_chains"]):
        energies: list[float] = []
        kernel = NUTS(missing(model, data={"x": x}, observed=masks))
        mcmc = MCMC(
            kernel,
            num_samples=options["num_samples"],
            warmup_steps=options["num_warmup"],
            disable_progbar=not progress,
            hook_fn=lambda kernel, _, stage, __, to=energies: _note(kernel, stage, to),
        )
        mcmc.run(*model_args, **model_kwargs)
        chains.append({name: value.cpu().numpy() for name, value in mcmc.get_samples().items()})
        lps.append([-energy for energy in energies])
        divergences.append(np.isin(np.arange(options["num_samples"]), mcmc.diagnostics()["divergences"]["chain 0"]))
    sites = {name: np.stack([chain[name] for chain in chains]) for name in chains[0]}
    empty = np.zeros((options["num_chains"], options["num_samples"], 0), x.dtype)
    entries = sites.pop("x_missing", empty)
    seen = split("x", x, observed).observed
    per_draw = ("chain", "draw")
    stats = {
        "lp": (per_draw, np.array(lps)),
        "diverging": (per_draw, np.stack(divergences)),
    }
    return result.inference_data(
        x,
        seen,
        np.asarray(complete(x, entries, observed)),
        sites,
        stats,
        method="nuts",
        engine="pyro",
        options=options,
        columns=columns,
        by_row=False,
    )


def _note(kernel: NUTS, stage: str, energies: list[float]) -> None:
    # MCMC keeps the draws only; the kernel holds the potential energy of the last one
    if not stage.lower().startswith("warm"):
        last: Any = kernel._potential_energy_last
        energies.append(float(last))
