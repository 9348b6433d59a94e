"""What the first argument of a command may be: a family's constructor, with what it takes of the data and options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deepgen import checks
from deepgen.cli.refusals import known

Grey = Literal["fractions", "levels", "dequantised", "binary"]
_ORDERED = ("order",)
_NOISED = ("denoising", "density")
_INVERTIBLE = ("normality", "interpolation")


@dataclass(frozen=True)
class Recipe:
    """A way to make a program of a data set.

    Attributes:
        title: what it is, in a few words.
        family: of the program, in the capability table.
        program: its class on the faces.
        constructor: the class method that makes it; None: the network's name is that.
        takes: the options of the command line that it uses, beside those that every recipe uses.
        laws: the observation law for data of each support, if ``takes`` has none; empty where the program has no such
            law.
        grey: how grey levels become data: ``"fractions"`` of white, integer ``"levels"`` where they are few,
            ``"dequantised"``, spread evenly over their interval of [0, 1], or ``"binary"``, cut at a half.
        images: whether it needs images; else they are flattened.
        holes: whether it can be fitted to rows of which entries are missing.
        drawn: whether `deepgen impute` fits it to rows whose blanks are drawn from the normal that EM fits to them.
        starts: whether the constructor starts at the data's marginals.
        logit: whether the constructor takes the logit of data in [0, 1].
        watched: whether the loss of held-out rows says when to stop.
        defaults: of the constructor.
        wide: the same, of ``deepgen run`` and ``deepgen fit``.
        steps: at most so many, by default.
        rows: at most so many held-out rows are completed, by default.
        particles: by default.
        views: the pictures of its own that a report shows.
        objective: what `fit` minimises, in words; None for the likelihood or its bound.
        imputers: the ways to impute that its programs offer in either engine, the first by default.
    """

    title: str
    family: str
    program: str
    constructor: str | None
    takes: tuple[str, ...] = ()
    laws: Mapping[str, str] = field(default_factory=dict)
    grey: Grey = "fractions"
    images: bool = False
    holes: bool = False
    drawn: bool = False
    starts: bool = False
    logit: bool = False
    watched: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    wide: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 3000
    rows: int = 400
    particles: int = 1000
    views: tuple[str, ...] = ()
    objective: str | None = None
    imputers: tuple[str, ...] = ()


_LAWS = {"boolean": "bernoulli", "levels": "categorical"}


def _autoregressive(title: str, constructor: str, **more: Any) -> Recipe:
    laws = {**_LAWS, "real": "gaussian_mixture", "unit_interval": "gaussian_mixture"}
    return Recipe(
        title,
        "autoregressive",
        "AutoregressiveModel",
        constructor,
        laws=laws,
        grey="levels",
        views=_ORDERED,
        imputers=("auto", "exact", "smc", "enumerate"),
        **more,
    )


def _flow(title: str, constructor: str, **more: Any) -> Recipe:
    options: dict[str, Any] = {
        "defaults": {"hidden": (64, 64)},
        "wide": {"hidden": (128, 128)},
        "steps": 1500,
        "views": _INVERTIBLE,
        **more,
    }
    return Recipe(
        title,
        "flow",
        "Flow",
        constructor,
        takes=("hidden",),
        grey="dequantised",
        drawn=True,
        starts=True,
        rows=100,
        logit=True,
        imputers=("auto", "hmc", "pl-mcmc", "importance"),
        **options,
    )


def _score(title: str, constructor: str, **more: Any) -> Recipe:
    return Recipe(
        title,
        "score",
        "ScoreModel",
        constructor,
        grey="dequantised",
        starts=True,
        views=_NOISED,
        objective="denoising score matching",
        imputers=("predictor-corrector", "annealed-langevin", "annealed-mala"),
        **more,
    )


def _energy(title: str, constructor: str | None, **more: Any) -> Recipe:
    return Recipe(
        title,
        "ebm",
        "EnergyBasedModel",
        constructor,
        starts=True,
        watched=False,
        rows=20,
        particles=200,
        views=("energies",),
        imputers=("clamped",),
        **more,
    )


RECIPES: dict[str, Recipe] = {
    "vae": Recipe(
        "variational autoencoder",
        "vae",
        "VAE",
        None,
        takes=("network", "latent_dim", "hidden", "likelihood"),
        laws={"boolean": "bernoulli", "real": "gaussian_predicted", "unit_interval": "gaussian_predicted"},
        holes=True,
        starts=True,
        defaults={"latent_dim": 8, "hidden": (128, 128)},
        wide={"latent_dim": 16, "hidden": (256, 256)},
        views=("reconstructions", "units"),
        imputers=("mcmc", "sir", "gibbs", "pseudo-gibbs", "adaptive-gibbs", "lair", "auto"),
    ),
    "made": _autoregressive(
        "masked autoregressive perceptron",
        "made",
        takes=("hidden", "likelihood"),
        starts=True,
        defaults={"hidden": (128,)},
        wide={"hidden": (256, 256)},
        rows=20,
        particles=1000,
    ),
    "pixelcnn": _autoregressive(
        "gated PixelCNN, for images",
        "pixelcnn",
        takes=("likelihood",),
        images=True,
        defaults={"channels": 24, "num_layers": 4, "first_kernel_size": 5, "place_dim": 8},
        steps=700,
        rows=12,
        particles=100,
    ),
    "wavenet": _autoregressive(
        "dilated causal convolutions, over the entries in their order",
        "wavenet",
        takes=("likelihood",),
        defaults={"channels": 24, "skip_channels": 48, "dilations": (1, 2, 4, 8, 16, 32)},
        steps=1000,
        rows=16,
        particles=100,
    ),
    "transformer": _autoregressive(
        "causal transformer, over the entries in their order",
        "transformer",
        takes=("likelihood",),
        defaults={"width": 48, "num_heads": 4, "num_layers": 2},
        steps=1000,
        rows=16,
        particles=100,
    ),
    "nice": _flow("flow of additive couplings", "nice"),
    "realnvp": _flow("flow of affine couplings", "realnvp"),
    "maf": _flow("masked autoregressive flow", "maf"),
    "nsf": _flow("neural spline flow", "nsf"),
    "cnf": _flow(
        "continuous flow, along the field of a network",
        "cnf",
        defaults={"hidden": (32, 32), "num_probes": 1},
        wide={"hidden": (64, 64)},
        steps=500,
    ),
    "glow": _flow(
        "Glow, a flow of images at several scales",
        "glow",
        images=True,
        defaults={"hidden": (32, 32)},
        wide={"hidden": (64, 64), "num_steps": 6},
        views=(*_INVERTIBLE, "scales"),
    ),
    "score": _score(
        "score-based model",
        "mlp",
        takes=("hidden",),
        defaults={"hidden": (128, 128, 128)},
        wide={"hidden": (256, 256, 256)},
        rows=20,
        particles=4,
    ),
    "score-conv": _score(
        "score-based model of convolutions, for images",
        "conv",
        images=True,
        defaults={"channels": (24, 48)},
        steps=1000,
        rows=6,
        particles=2,
    ),
    "ebm": _energy(
        "energy-based model on a normal base",
        None,
        takes=("network", "hidden"),
        grey="dequantised",
        defaults={"hidden": (128, 128)},
        wide={"hidden": (128, 128)},
        steps=400,
    ),
    "rbm": _energy(
        "restricted Boltzmann machine, of zeros and ones",
        "rbm",
        grey="binary",
        defaults={"hidden_dim": 100},
        steps=3000,
    ),
}
"""Every recipe by its name on the command line."""


def takers(option: str) -> str:
    """The recipes that use an option, for its help."""
    return ", ".join(name for name, made in RECIPES.items() if option in made.takes)


def ways_to_impute() -> str:
    """The methods of all recipes, for the help: those of the same methods together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, made in RECIPES.items():
        groups.setdefault(made.imputers, []).append(name)
    return "; ".join(f"{', '.join(names)}: {', '.join(methods)}" for methods, names in groups.items())


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Args:
        name: one of ``RECIPES``.

    Returns:
        The recipe.

    Raises:
        ValueError: another name, with the closest one that is known.
    """
    known("family", name, RECIPES)
    return RECIPES[name]


def refuse_unused(name: str, given: Mapping[str, Any]) -> None:
    """Refuse options that a recipe does not use.

    Args:
        name: of the recipe.
        given: options and their values, None where they were not given.

    Raises:
        ValueError: naming the options, and those that the recipe uses.
    """
    takes = recipe(name).takes
    unused = ["--" + option.replace("_", "-") for option, value in given.items() if value and option not in takes]
    if unused:
        uses = ["--" + option.replace("_", "-") for option in takes]
        raise checks.problem(
            "options",
            got=f"{unused} with {name}",
            expected=f"none of them: beside the options of all families it uses {uses or 'no other'}",
            fix="Leave them out.",
        )
