"""The papers behind a run."""

_FLOW = [
    "Rezende and Mohamed (2015). Variational inference with normalizing flows. ICML.",
    "Papamakarios, Nalisnick, Rezende, Mohamed and Lakshminarayanan (2021). Normalizing flows for probabilistic "
    "modeling and inference. JMLR 22.",
    "White (2016). Sampling generative networks. arXiv:1609.04468 (the paths).",
]
_CHAIN = "Bengio and Bengio (2000). Modeling high-dimensional discrete data with multi-layer neural networks. NeurIPS."
_SCORE = [
    "Hyvärinen (2005). Estimation of non-normalized statistical models by score matching. JMLR 6.",
    "Vincent (2011). A connection between score matching and denoising autoencoders. Neural Computation 23.",
    "Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole (2021). Score-based generative modeling through stochastic "
    "differential equations. ICLR.",
    "Karras, Aittala, Aila and Laine (2022). Elucidating the design space of diffusion-based generative models. "
    "NeurIPS.",
]
_ANNEALED = "Song and Ermon (2019). Generative modeling by estimating gradients of the data distribution. NeurIPS."
_RECIPES = {
    "vae": [
        "Kingma and Welling (2014). Auto-encoding variational Bayes. ICLR.",
        "Rezende, Mohamed and Wierstra (2014). Stochastic backpropagation and approximate inference in deep generative "
        "models. ICML.",
        "Burda, Grosse and Salakhutdinov (2016). Importance weighted autoencoders. ICLR (the bound; active units).",
    ],
    "made": [
        _CHAIN,
        "Germain, Gregor, Murray and Larochelle (2015). MADE: masked autoencoder for distribution estimation. ICML.",
    ],
    "pixelcnn": [
        _CHAIN,
        "Van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu (2016). Conditional image generation "
        "with PixelCNN decoders. NeurIPS.",
    ],
    "wavenet": [_CHAIN, "Van den Oord et al. (2016). WaveNet: a generative model for raw audio. arXiv:1609.03499."],
    "transformer": [_CHAIN, "Vaswani et al. (2017). Attention is all you need. NeurIPS."],
    "nice": [
        *_FLOW,
        "Dinh, Krueger and Bengio (2015). NICE: non-linear independent components estimation. ICLR workshop.",
    ],
    "realnvp": [*_FLOW, "Dinh, Sohl-Dickstein and Bengio (2017). Density estimation using Real NVP. ICLR."],
    "maf": [
        *_FLOW,
        "Papamakarios, Pavlakou and Murray (2017). Masked autoregressive flow for density estimation. NeurIPS.",
    ],
    "cnf": [
        *_FLOW,
        "Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud (2019). FFJORD: free-form continuous dynamics for "
        "scalable reversible generative models. ICLR.",
    ],
    "glow": [
        *_FLOW,
        "Kingma and Dhariwal (2018). Glow: generative flow with invertible 1x1 convolutions. NeurIPS.",
    ],
    "nsf": [*_FLOW, "Durkan, Bekasov, Murray and Papamakarios (2019). Neural spline flows. NeurIPS."],
}
_RECIPES |= {"score": _SCORE, "score-conv": _SCORE}
_ENERGY = [
    "LeCun, Chopra, Hadsell, Ranzato and Huang (2006). A tutorial on energy-based learning.",
    "Tieleman (2008). Training restricted Boltzmann machines using approximations to the likelihood gradient. ICML.",
    "Salakhutdinov and Murray (2008). On the quantitative analysis of deep belief networks. ICML (the constant).",
]
_RECIPES |= {
    "ebm": [
        *_ENERGY,
        "Du and Mordatch (2019). Implicit generation and modeling with energy-based models. NeurIPS.",
    ],
    "rbm": [*_ENERGY, "Hinton (2002). Training products of experts by minimizing contrastive divergence."],
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
    "importance": [_PSIS],
    "hmc": ["Neal (2011). MCMC using Hamiltonian dynamics. In: Handbook of Markov Chain Monte Carlo."],
    "cells": ["Neal (2011). MCMC using Hamiltonian dynamics. In: Handbook of Markov Chain Monte Carlo."],
    "pl-mcmc": [
        "Cannella, Soltani and Tarokh (2021). Projected latent Markov chain Monte Carlo: conditional sampling of "
        "normalizing flows. ICLR."
    ],
    "annealed-langevin": [_ANNEALED],
    "annealed-mala": [
        _ANNEALED,
        "Roberts and Tweedie (1996). Exponential convergence of Langevin distributions and their discrete "
        "approximations. Bernoulli 2.",
    ],
    "predictor-corrector": [_SCORE[2]],
    "clamped": ["Neal (2011). MCMC using Hamiltonian dynamics. In: Handbook of Markov Chain Monte Carlo."],
    "smc": [
        "Naesseth, Lindsten and Schön (2019). Elements of sequential Monte Carlo. Foundations and Trends in ML 12."
    ],
}
_EVALUATION = [
    "Gneiting and Raftery (2007). Strictly proper scoring rules, prediction, and estimation. JASA 102 (CRPS, energy "
    "score).",
    "Gelman, Meng and Stern (1996). Posterior predictive assessment of model fitness. Statistica Sinica 6.",
]


def references(recipe: str, method: str | None) -> list[str]:
    """What to cite for a recipe, a method of imputation, and the evaluation.

    Args:
        recipe: that the program was made by.
        method: of imputation; None where nothing was completed.

    Returns:
        A reference an entry.
    """
    return [*_RECIPES.get(recipe, []), *_METHODS.get(method or "", []), *_EVALUATION]
