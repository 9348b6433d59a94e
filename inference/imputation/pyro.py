"""Posterior draws of missing variables in Pyro."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro.infer import MCMC, NUTS

from deepgen import checks
from deepgen.handlers.entries import split
from deepgen.handlers.pyro import complete, missing
from deepgen.inference.imputation import automatic, methods, result
from deepgen.inference.imputation.cells import pyro as cells
from deepgen.inference.imputation.clamped import pyro as clamped
from deepgen.inference.imputation.corrected import pyro as corrected
from deepgen.inference.imputation.descent import pyro as descent
from deepgen.inference.imputation.enumeration import pyro as enumeration
from deepgen.inference.imputation.gibbs import pyro as gibbs
from deepgen.inference.imputation.gibbs.metropolis import RULES
from deepgen.inference.imputation.hamiltonian import pyro as hamiltonian
from deepgen.inference.imputation.lair import pyro as lair
from deepgen.inference.imputation.mcmc import pyro as mcmc
from deepgen.inference.imputation.neighbours import pyro as neighbours
from deepgen.inference.imputation.projected import pyro as projected
from deepgen.inference.imputation.resampling import pyro as resampling
from deepgen.inference.imputation.sequential import pyro as sequential
from deepgen.likelihoods.laws import is_missing
from deepgen.program import Program, given, takes_labels
from deepgen.program.invertible import Invertible
from deepgen.program.pyro import tensor
from deepgen.program.sequence import Sequential

if TYPE_CHECKING:
    import arviz


def impute(
    program: Program | Callable[..., Any],
    x: Any,
    *,
    y: Any = None,
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

    Methods for a program:

    - ``"mcmc"``: Hamiltonian Monte Carlo on :math:`p(z) \prod_{i\ \mathrm{observed}} p(x_i \mid z)` of each row, then
      :math:`x_\mathrm{missing} \sim p(x \mid z)`.
    - ``"sir"``: draws of z from the guide, resampled with Pareto-smoothed importance weights (Vehtari et al. 2024);
      exact as ``num_particles`` grows, and told by the Pareto k how far to trust it. The weights of an `MNAR` count
      the law of the mask: its draws are of p(x_missing, latents | x_observed, mask), and this is its one method.
    - ``"gibbs"``: Metropolis-within-Gibbs (Mattei & Frellsen 2018); z is proposed by the guide of the completed row.
    - ``"pseudo-gibbs"``: the same without the correction (Rezende, Mohamed & Wierstra 2014). Its law is an
      approximation that no number of iterations improves.
    - ``"adaptive-gibbs"``: adaptive collapsed Metropolis-within-Gibbs (Simkus & Gutmann 2023), which proposes from the
      guide of earlier imputations and from the prior; needs no gradient, and crosses between modes.
    - ``"lair"``: latent-adaptive importance resampling (Simkus & Gutmann 2023); exact as ``num_particles`` grows.
    - ``"auto"``: ``"sir"`` where the guide's weights are fit for use in nearly all rows, else ``"mcmc"`` (with a
      discrete latent ``"adaptive-gibbs"``) started from these weighted draws. The attrs ``chosen``, ``why`` say it.

    Methods for a program that decides a datum step by step, all with ``log_evidence``, log p(x_observed), in the stats.
    The members of an `Ensemble` weigh in by theirs:

    - ``"exact"``: the program's own draws, where the missing entries come last in its order; refused elsewhere.
    - ``"smc"``: sequential Monte Carlo in the program's order, the observed entries as evidence; exact as
      ``num_particles`` grows. Each chain is a cloud of its own; ``ess`` counts effective ancestors.
    - ``"enumerate"``: all completions weighed exactly, where at most 4096 a row.
    - ``"auto"``: the first of ``"exact"``, ``"enumerate"``, ``"smc"`` that can be taken for all rows.

    Methods for a program whose data are the image of a base under an invertible map, such as a flow, all on
    p(x_missing | x_observed) itself:

    - ``"hmc"``: Hamiltonian Monte Carlo on the missing entries. It does not cross between modes; its chains start at
      weighted completions, so that they are spread over them.
    - ``"pl-mcmc"``: projected latent Markov chain Monte Carlo (Cannella, Soltani & Tarokh 2021); needs no gradient, and
      crosses between modes of few entries.
    - ``"importance"``: completions from the conditional normal of the program's draws and from the nearest of them,
      resampled by weight; exact as ``num_particles`` grows, and told by the Pareto k how far to trust it.
    - ``"auto"``: ``"importance"`` where the weights are fit for use in nearly all rows, else ``"hmc"`` started from the
      weighted completions.

    Of a `Dequantized` program, ``"cells"``: Hamiltonian Monte Carlo on the missing numbers and on where in their cells
    the observed ones lie, together; what is missing is then rounded. The latents ``"dequantized"`` are these numbers.

    Methods for an `OrderAgnostic` program:

    - ``"observed-first"``: exact draws of the missing entries in random orders, the observed ones decided first. Their
      law is the mixture over these orders, as the attr ``law_of`` says.

    Methods for a program that knows the scores of noised data (`ScoreModel`), the observed entries noised likewise:

    - ``"predictor-corrector"``: to each level of noise by the reverse diffusion, corrected there by a Langevin step
      (Song et al. 2021). An approximation: unknown entries are drawn given known ones that are noised anew.
    - ``"annealed-langevin"``: Langevin steps on each level (Song & Ermon 2019). An approximation, likewise.
    - ``"annealed-mala"``: chains that begin at ends of these, and go on by Metropolis-adjusted Langevin steps on the
      missing entries, the observed ones clamped. The attr ``judge`` says by what density: ``"energy"``, the network's
      own or that of ``program.with_density``, else ``"probability flow"``, which takes a solve for each step.

    Of an energy-based program, ``"clamped"``: chains of its own kernel over the missing entries (Hamiltonian, flips or
    block Gibbs), the observed ones clamped.

    For a plain Pyro model: ``"nuts"``, its latents and missing entries sampled together through `missing`. They are
    judged together: ``sample_stats["r_hat"]`` has the largest R-hat of the log joint, of each latent and of what is
    missing.

    Args:
        program: a program, or a plain model with a site ``"x"`` of the data's shape, called without x.
        x: (n, *event_shape), NaN where missing (a negative integer in integer data, the mask of a masked array).
        y: (n,) labels of the rows, or one for all, -1 where unknown, of a program with classes; None: all unknown. Of
            a conditional program (n, context_dim) its context.
        observed: booleans of x's shape, where NaN cannot say it.
        method: one of the above, of a program its first of ``imputers`` if None.
        num_samples: draws of each chain.
        num_warmup: iterations of each chain before them.
        num_chains: chains of each row, or of the plain model; imputations that a row carries (lair).
        num_steps: the mean number of leapfrog steps of an iteration (mcmc, hmc, cells, clamped), of proposals
            (pl-mcmc), or of flips or sweeps (clamped); levels of noise (predictor-corrector and the annealed ones).
        num_particles: proposals of each row (sir, lair, importance, auto), particles of each chain (smc, auto), shared
            out among the members of an ensemble.
        columns: the names of a table's columns, for the result's coordinates; None takes those of a DataFrame.
        model_args: arguments of a plain model.
        model_kwargs: keyword arguments of a plain model.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        Groups ``posterior``: ``x`` (chain, draw, row, ...), completed, the observed entries bit for bit, and the
        latents; ``sample_stats``; ``observed_data``; ``constant_data``. The attrs say the method and its draws' law,
        and where chains were not judged (``not_judged``), as one alone is not.

    Raises:
        TypeError: no program where there should be one.
        ValueError: data that the program does not take, a method that it does not offer, an option that the method does
            not use.

    Warns:
        UserWarning: where the weights or chains of some rows are not to be trusted.
    """
    if not isinstance(program, Program) and not callable(program):
        raise checks.wrong_type(
            "program",
            program,
            expected="a program, or a plain model",
            fix="Pass the program itself, or the model of a pair (model, guide).",
        )
    chosen = {
        "num_samples": num_samples,
        "num_warmup": num_warmup,
        "num_chains": num_chains,
        "num_steps": num_steps,
        "num_particles": num_particles,
    }
    columns = checks.columns_of(x, columns)
    original, mask = checks.with_mask(x, observed)
    if not isinstance(program, Program):
        if y is not None:
            takes_labels(program)
        _, options = methods.choose(method, ("nuts",), chosen)
        return _nuts(program, original, mask, options, columns, model_args, model_kwargs or {}, progress)
    name, options = methods.choose(method, program.imputers, chosen)
    methods.refuse_model_arguments(model_args, model_kwargs)
    array = program.check_data(original, missing=True, observed=mask)
    result.event_dims(array.shape[1:], columns)
    seen = ~is_missing(array)
    draws = _WAYS[name](given(program, y, len(array)), tensor(program, array), tensor(program, seen), options, progress)
    return result.inference_data(
        original,
        seen,
        draws.x,
        draws.latents,
        draws.stats,
        method=name,
        engine="pyro",
        options=options,
        columns=columns,
        attrs={"method_title": methods.described(name, program.imputers).title, **draws.attrs},
    )


def _auto(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    if isinstance(program, Sequential):
        chosen, said = automatic.without_latents(program.sequential(), observed.cpu().numpy())
        return _WITHOUT_LATENTS[chosen](program, x, observed, options, progress)._replace(attrs=said)
    if isinstance(program, Invertible):
        return _auto_invertible(program, x, observed, options, progress)
    count, chains = options["num_particles"], options["num_chains"]
    proposals = resampling.propose(program, x, observed, count)
    chosen, said = automatic.judge(proposals.judged, count, discrete=mcmc.has_discrete_latents(program, x))
    if chosen == "sir":
        draws = resampling.resample(program, proposals, options["num_samples"], chains)
        return draws._replace(attrs={**draws.attrs, **said})
    # the adaptive method takes two starts for each chain
    start = resampling.start_from(proposals, chains * (1 + (chosen == "adaptive-gibbs")))
    draws = _STARTED[chosen](program, x, observed, options, progress, start)
    return draws._replace(stats={**draws.stats, **automatic.stats(proposals.judged)}, attrs={**draws.attrs, **said})


def _auto_invertible(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    count, chains, samples = options["num_particles"], options["num_chains"], options["num_samples"]
    chart = program.chart()
    weighed = neighbours.weigh(chart, x, observed, count, chains * samples)
    chosen, said = automatic.judge(weighed.judged, count, whose="the completions'", ways=("importance", "hmc"))
    if chosen == "importance":
        draws = neighbours.resample(chart, weighed, samples, chains, x.device)
        return draws._replace(attrs={**draws.attrs, **said})
    draws = hamiltonian.clamped(program, x, observed, options, progress, weighed.chosen[:chains])
    stats = automatic.stats(weighed.judged, "completions")
    return draws._replace(stats={**draws.stats, **stats}, attrs={**draws.attrs, **said})


_STARTED: dict[str, Callable[..., result.Draws]] = {
    "mcmc": mcmc.mcmc,
    **{method: partial(gibbs.gibbs, method=method) for method in RULES},
}
_WAYS: dict[str, Callable[..., result.Draws]] = {**_STARTED, "sir": resampling.sir, "lair": lair.lair, "auto": _auto}
_WITHOUT_LATENTS: dict[str, Callable[..., result.Draws]] = {
    "exact": sequential.exact,
    "smc": sequential.smc,
    "enumerate": enumeration.enumerate_missing,
}
_WAYS |= {
    **_WITHOUT_LATENTS,
    "cells": cells.between_levels,
    "clamped": clamped.clamped,
    "annealed-mala": corrected.corrected,
    "observed-first": sequential.observed_first,
    "hmc": hamiltonian.clamped,
    "pl-mcmc": projected.projected,
    "importance": neighbours.importance_resampling,
}
_WAYS |= {name: partial(descent.descend, method=name) for name in ("predictor-corrector", "annealed-langevin")}


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
    chains, lps, accepted, divergences = [], [], [], []
    for _ in range(options["num_chains"]):
        energies: list[float] = []
        means: list[float] = []
        kernel = NUTS(missing(model, data={"x": x}, observed=masks))
        mcmc = MCMC(
            kernel,
            num_samples=options["num_samples"],
            warmup_steps=options["num_warmup"],
            disable_progbar=not progress,
            hook_fn=lambda kernel, _, stage, __, to=(energies, means): _note(kernel, stage, *to),
        )
        mcmc.run(*model_args, **model_kwargs)
        chains.append({name: value.cpu().numpy() for name, value in mcmc.get_samples().items()})
        lps.append([-energy for energy in energies])
        accepted.append(np.diff(np.arange(len(means) + 1) * np.array([0.0, *means])))
        divergences.append(np.isin(np.arange(options["num_samples"]), mcmc.diagnostics()["divergences"]["chain 0"]))
    sites = {name: np.stack([chain[name] for chain in chains]) for name in chains[0]}
    empty = np.zeros((options["num_chains"], options["num_samples"], 0), x.dtype)
    entries = sites.pop("x_missing", empty)
    seen = split("x", x, observed).observed
    stats, said, coords = result.joint_stats(
        np.array(lps), sites, entries, acceptance_rate=np.array(accepted), diverging=np.stack(divergences)
    )
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
        attrs=said,
        coords_of_stats=coords,
    )


def _note(kernel: NUTS, stage: str, energies: list[float], means: list[float]) -> None:
    # MCMC keeps the draws only; the kernel holds the potential energy of the last one, and the mean acceptance so far
    if not stage.lower().startswith("warm"):
        last: Any = kernel._potential_energy_last
        energies.append(float(last))
        means.append(float(kernel._mean_accept_prob))
