"""Score models as programs in Pyro."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyro
import torch

from deepgen import checks
from deepgen.inference.score_matching.pyro import DenoisingScoreMatching
from deepgen.models.score import recipe, sdes
from deepgen.models.score.pyro import networks
from deepgen.models.score.pyro.distribution import ScoreBased
from deepgen.models.score.pyro.given import Given
from deepgen.program import Densities, LikelihoodKind
from deepgen.program.pyro import declare, tensor


class ScoreModel(torch.nn.Module):
    r"""Data drawn back from noise along a learned score, at every level of noise.

    .. math:: x_t = \alpha(t) x + \sigma(t) \epsilon, \quad s(x_t, t) \approx \nabla \log p_t(x_t), \quad
        x \sim \mathrm{ScoreBased}(s)

    ``model`` has the one site ``"x"``, whose law is `ScoreBased`; ``guide`` is empty. `fit` minimises denoising score
    matching over all levels, `log_prob` is that of the probability flow, an estimate (with the standard error of its
    random probes where there are more than 16 entries), and `impute` draws what is missing down a ladder of noise, and
    corrects it under a density where one asks for that.

    Song & Ermon 2019, Generative modeling by estimating gradients of the data distribution; Song, Sohl-Dickstein,
    Kingma, Kumar, Ermon & Poole 2021, Score-based generative modeling through stochastic differential equations.

    Args:
        network: (x, ρ) to ρ s(x, ρ): x (n, *event_shape) data plus noise of standard deviations ρ (n,). With a context
            it takes a third argument (n, context_dim + 1): zeros where it is hidden, a one at its end where it is not.
        event_shape: of a datum.
        sde: the diffusion, ``VE``, ``VP`` or ``SubVP``, or the name of one.
        context_dim: of a context; 0 for none. The verbs take it as ``y``.
        drop: the share of rows whose context is hidden in training.
        guidance: of draws, see `ScoreBased`.
        method: of drawing, see `ScoreBased`.
        num_steps: of drawing, see `ScoreBased`.
        num_probes: of the density, see `ScoreBased`.
        tolerance: of the probability flow's solver, see `ScoreBased`.

    Raises:
        ValueError: an argument that no score model has.
    """

    family: ClassVar[str] = "score"
    likelihood: ClassVar[LikelihoodKind] = "estimate"
    imputers: ClassVar[tuple[str, ...]] = ("predictor-corrector", "annealed-langevin", "annealed-mala")
    samplers: ClassVar[tuple[str, ...]] = recipe.METHODS
    densities: ClassVar[Densities] = Densities("estimates", None)
    probes: ClassVar[int] = recipe.ESTIMATES

    def __init__(
        self,
        network: Any,
        event_shape: Sequence[int],
        sde: sdes.Diffusion | str = "vp",
        *,
        context_dim: int = 0,
        drop: float = 0.1,
        guidance: float = 0.0,
        method: str | None = None,
        num_steps: int | None = None,
        num_probes: int | None = None,
        tolerance: float = 1e-5,
    ):
        super().__init__()
        self.event_shape, self.sde = recipe.check_shape(event_shape), sdes.check(sde)
        recipe.check_guidance(guidance, drop, context_dim)
        recipe.check_sampling(method, num_steps)
        recipe.probes(num_probes, self.event_shape)
        checks.positive("tolerance", tolerance)
        self.network, self.context_dim, self.drop, self.guidance = network, context_dim, drop, guidance
        self.method, self.num_steps, self.num_probes, self.tolerance = method, num_steps, num_probes, tolerance

    @classmethod
    def mlp(
        cls,
        event_shape: Sequence[int],
        *,
        sde: sdes.Diffusion | str | None = None,
        levels: int | str | None = None,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        features: int = 16,
        context_dim: int = 0,
        drop: float = 0.1,
        data: Any | None = None,
    ) -> "ScoreModel":
        """A score model of vectors.

        Args:
            event_shape: the shape of one datum, which is flattened.
            sde: the diffusion or its name (``"ve"``, ``"vp"``, ``"subvp"``); None: variance preserving.
            levels: train a variance-exploding diffusion on so many discrete levels of noise, or ``"auto"`` as many as
                overlap well (Song & Ermon 2020), at least ten; None for continuous time.
            hidden: the widths of the network's hidden layers, of which equal neighbours are residual.
            activation: the network's activation.
            features: Fourier features of the level of noise, even.
            context_dim: of a context that the score is conditional on; 0 for none.
            drop: the share of rows whose context is hidden in training.
            data: (n, *event_shape), NaN allowed: the network is scaled by them, and the noise of ``"ve"`` reaches from
                a hundredth of their standard deviation to their largest distance. None for data of unit variance.

        Returns:
            The program, untrained.

        Raises:
            ValueError: an argument that no score model has, or data that do not fit.
        """
        found = recipe.ends(event_shape, sde, levels, data)
        network = networks.ScoreMLP(
            found.event_shape,
            hidden,
            activation=activation,
            features=features,
            scale=found.scale,
            context_dim=context_dim,
        )
        return cls(network, found.event_shape, found.sde, context_dim=context_dim, drop=drop)

    @classmethod
    def conv(
        cls,
        event_shape: Sequence[int],
        *,
        sde: sdes.Diffusion | str | None = None,
        levels: int | str | None = None,
        channels: Sequence[int] = (32, 64),
        activation: str = "silu",
        features: int = 16,
        context_dim: int = 0,
        drop: float = 0.1,
        data: Any | None = None,
    ) -> "ScoreModel":
        """A score model of images.

        Args:
            event_shape: (channels, height, width) of one image, of any size.
            sde: as of `mlp`.
            levels: as of `mlp`.
            channels: of the network's levels of resolution, each half of the one before.
            activation: as of `mlp`.
            features: as of `mlp`.
            context_dim: as of `mlp`.
            drop: as of `mlp`.
            data: as of `mlp`.

        Returns:
            The program, untrained.

        Raises:
            ValueError: as `mlp`, or a shape that is no image's.
        """
        found = recipe.ends(event_shape, sde, levels, data)
        network = networks.ScoreUNet(
            found.event_shape,
            channels,
            activation=activation,
            features=features,
            scale=found.scale,
            context_dim=context_dim,
        )
        return cls(network, found.event_shape, found.sde, context_dim=context_dim, drop=drop)

    def with_options(self, **options: Any) -> "ScoreModel":
        """The same scores, otherwise drawn from or judged.

        Args:
            options: ``guidance``, ``drop``, ``method``, ``num_steps``, ``num_probes``, ``tolerance``: see `ScoreBased`.

        Returns:
            Another program with this one's network.

        Raises:
            ValueError: an option that there is not, or a value that it refuses.
        """
        return ScoreModel(self.network, self.event_shape, self.sde, **recipe.options(self, options))

    def guided(self, log_likelihood: Callable[..., Any], weight: float = 1.0) -> "ScoreModel":
        r"""The program given an observation of noised data: classifier guidance.

        .. math:: s(x, \rho) + w \nabla_x \log p(y \mid x, \rho)

        Dhariwal & Nichol 2021, Diffusion models beat GANs on image synthesis.

        Args:
            log_likelihood: (x (n, *event_shape), ρ (n,)) to log p(y | x, ρ) (n,), x being data plus noise of standard
                deviations ρ.
            weight: w.

        Returns:
            A program whose score is the sum; it is drawn from, and neither fitted nor saved.
        """
        network = networks.Guided(self.network, log_likelihood, weight)
        return ScoreModel(network, self.event_shape, self.sde, **recipe.options(self, {}))

    def with_density(self, log_prob: Callable[..., Any]) -> "ScoreModel":
        r"""The program beside a density of the data that is known up to a constant, which corrects its completions.

        ``impute(..., method="annealed-mala")`` then draws from p(x_missing | x_observed) of that density, the scores
        leading there: an energy-based program's ``distribution().log_prob``, or a posterior's of your own.

        Args:
            log_prob: x (n, *event_shape) to (n,) nats, up to a constant.

        Returns:
            A program with the same scores; it is drawn from, and neither fitted nor saved.
        """
        network = networks.Judged(self.network, log_prob)
        return ScoreModel(network, self.event_shape, self.sde, **recipe.options(self, {}))

    def distribution(self, context: Any = None, *, gradient: str = "flow") -> Any:
        """The law of a datum, to be a site of any model.

        Args:
            context: (n, context_dim), whose rows are its batch; None where there is none, or where it is unknown.
            gradient: of its ``log_prob`` by the value, see `ScoreBased`: ``"flow"``, ``"score"`` or ``"score alone"``.

        Returns:
            The law.

        Raises:
            ValueError: a context of another size, or another gradient.
        """
        return self._law(self.network, context, gradient)

    def model(self, x: Any = None, context: Any = None, *, size: int = 1) -> Any:
        """p(x), or p(x | context), in the plate ``"data"``.

        Args:
            x: (n, *event_shape), or None to draw.
            context: (n, context_dim) of a conditional model, None where it is unknown; the verbs take it as ``y``.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        law = self._law(declare("network", self.network), context)
        with pyro.plate("data", size if x is None else len(x)):
            return pyro.sample("x", law, obs=x)

    def guide(self, x: Any = None, context: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents.

        Args:
            x: as `model`.
            context: as `model`.
            size: as `model`.
        """

    def objective(self) -> Any:
        """What `fit` minimises by default: denoising score matching over all levels of noise."""
        recipe.check_own(self.network, "fit")
        return DenoisingScoreMatching()

    def estimate(self, x: Any, num_probes: int) -> torch.Tensor:
        """Independent estimates of log p(x), see `ScoreBased.estimate`.

        Args:
            x: (n, *event_shape).
            num_probes: k.

        Returns:
            (k, n) nats; (n,) where nothing is random.
        """
        return self.distribution().estimate(x, num_probes)

    def complete(self, x: Any, observed: Any, *, method: str, num_steps: int | None = None) -> torch.Tensor:
        """Draws of what is missing, see `ScoreBased.complete`.

        Args:
            x: as there.
            observed: as there.
            method: as there.
            num_steps: as there.

        Returns:
            (n, *event_shape).
        """
        return self.distribution().complete(x, observed, method=method, num_steps=num_steps)

    @property
    def judge(self) -> str:
        """By what density `log_density` is, see `ScoreBased`."""
        return recipe.judge(self.network, recipe.probes(self.num_probes, self.event_shape))

    def log_density(self, x: Any) -> torch.Tensor:
        """log p up to a constant, see `ScoreBased.log_density`.

        Args:
            x: (n, *event_shape).

        Returns:
            (n,) nats.
        """
        return self.distribution().log_density(x)

    def given(self, context: Any) -> "Given":
        """The program given a context.

        Args:
            context: (n, context_dim); any number of rows is taken to repeat these n.

        Returns:
            What has the program's methods as functions of x alone.
        """
        return Given(self, tensor(self, np.asarray(context)))

    def check_context(self, context: Any, rows: int) -> np.ndarray:
        """A context for each of the rows, as the program takes it.

        Args:
            context: (rows, context_dim), or (context_dim,) for all.
            rows: how many.

        Returns:
            (rows, context_dim) floats.

        Raises:
            ValueError: another shape, another number of rows, not finite, or a program without context.
        """
        return recipe.context_rows(context, rows, self.context_dim)

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it.

        Args:
            x: (n, *event_shape) numbers.
            missing: whether missing entries are allowed.
            observed: booleans of x's shape, or None where NaN says what is missing.

        Returns:
            x as a NumPy array of floats.

        Raises:
            ValueError: wrong dtype or shape, empty, not finite, or missing where it may not be.
        """
        return recipe.check_x(x, self.event_shape, missing=missing, observed=observed)

    def diagnose(self, x: Any) -> list[Warning]:
        """Nothing: the denoising loss says what there is to hear."""
        return []

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return recipe.spec(self, networks.NETWORKS)

    def _law(self, network: Any, context: Any, gradient: str = "flow") -> Any:
        options = recipe.options(self, {})
        return ScoreBased(network, self.sde, self.event_shape, context=context, gradient=gradient, **options)


def build(config: Mapping[str, Any]) -> ScoreModel:
    """A program of the described shape, with initial weights.

    Args:
        config: what `ScoreModel.spec` gave.

    Returns:
        The program.
    """
    network = networks.build_network(config["network"])
    return ScoreModel(network, config["event_shape"], sdes.of_spec(config["sde"]), **recipe.options_of(config))
