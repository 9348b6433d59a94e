"""The papers behind a run."""

_FAMILIES = {
    "vae": [
        "Kingma and Welling (2014). Auto-encoding variational Bayes. ICLR.",
        "Rezende, Mohamed and Wierstra (2014). Stochastic backpropagation and approximate inference in deep generative "
        "models. ICML.",
        "Burda, Grosse and Salakhutdinov (2016). Importance weighted autoencoders. ICLR (the bound; active units).",
    ],
    "flow": [
        "Rezende and Mohamed (2015). Variational inference with normalizing flows. ICML.",
        "Papamakarios, Nalisnick, Rezende, Mohamed and Lakshminarayanan (2021). Normalizing flows for probabilistic "
        "modeling and inference. JMLR 22.",
    ],
}
_PSIS = "Vehtari, Simpson, Gelman, Yao and Gabry (2024). Pareto smoothed importance sampling. JMLR 25."
_SIMKUS = (
    "Simkus and Gutmann (2023). Conditional sampling of variational autoencoders via iterated approximate ancestral "
    "sampling. TMLR."
)
_METHODS = {
    "mcmc": [
        "Neal (2011). MCMC using Hamiltonian dynamics. In: Handbook of Markov Chain Monte Carlo.",
        "Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021). Rank-normalization, folding, and localization: an "
        "improved R-hat. Bayesian Analysis 16.",
    ],
    "sir": [_PSIS],
    "gibbs": [
        "Mattei and Frellsen (2018). Leveraging the exact likelihood of deep latent variable models. NeurIPS.",
    ],
    "pseudo-gibbs": [
        "Rezende, Mohamed and Wierstra (2014). Stochastic backpropagation and approximate inference in deep generative "
        "models. ICML (the Markov chain over the missing entries).",
    ],
    "adaptive-gibbs": [_SIMKUS],
    "lair": [_SIMKUS, _PSIS],
    "auto": [_PSIS],
}
_EVALUATION = [
    "Gneiting and Raftery (2007). Strictly proper scoring rules, prediction, and estimation. JASA 102 (CRPS, energy "
    "score).",
    "Gelman, Meng and Stern (1996). Posterior predictive assessment of model fitness. Statistica Sinica 6.",
]


def references(family: str, method: str) -> list[str]:
    """What to cite for a family, a method of imputation, and the evaluation.

    Args:
        family: of the program.
        method: of imputation.

    Returns:
        A reference an entry.
    """
    return [*_FAMILIES.get(family, []), *_METHODS.get(method, []), *_EVALUATION]
