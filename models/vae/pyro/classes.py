"""The class-conditional and semi-supervised variational autoencoder in Pyro."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from deepgen.inference.svi.pyro.enumeration import EnumELBO
from deepgen.likelihoods import laws
from deepgen.likelihoods import pyro as likelihoods
from deepgen.models.vae import activity, classes
from deepgen.models.vae.hierarchy import Level
from deepgen.models.vae.pyro import class_constructors, parts, posteriors, priors
from deepgen.models.vae.pyro.labels import ClassPrior, Given
from deepgen.nn import torch as nn
from deepgen.program import LikelihoodKind, files
from deepgen.program.pyro import declare, tensor


class ClassVAE(torch.nn.Module):
    r"""A variational autoencoder of data with classes, of which some, all or none are known (the paper's M2).

    .. math:: y \sim \mathrm{Categorical}(\pi), \quad z \sim p(z), \quad x \sim p(x \mid \mathrm{decoder}(z, y)),
        \qquad q(y \mid x)\, q(z \mid x, y)

    with q(y | x) from classifier(x), q(z | x, y) from encoder(x, y), a normal, diagonal or full, or with a flow after
    it, and p(z), whatever the class, a standard normal, a mixture of normals, a VampPrior or a flow. A known label
    stands at the site ``"y"`` itself, and its log pi_y at the observed site ``"y_observed"``; an unknown one is a
    latent, marked to be summed out by `EnumELBO`, which `fit` takes, or Pyro's ``TraceEnum_ELBO``. Where x is missing
    the networks are shown the data's mean.

    The class is shown to encoder and decoder as its code, K zeros and ones: behind the features and the latents where
    these are vectors, and behind the channels of an image as K planes, each the same number everywhere. Pseudo-inputs
    of a VampPrior have a code of their own, learned with them.

    Kingma, Mohamed, Rezende & Welling 2014, Semi-supervised learning with deep generative models.

    Args:
        classifier: (..., *input_shape) features of a datum to K logits.
        encoder: the same, with K more of them along their first axis, the class's code, to as many numbers as the
            posterior wants, (..., 2 * latent_dim) if diagonal.
        decoder: (..., latent_dim + K) latents and the class's code to as many numbers as the observation law wants.
        observation: the law of a datum, from ``deepgen.likelihoods``.
        latent_dim: how many latents.
        num_classes: K.
        input_shape: the shape in which classifier and encoder take a datum's features; None for one axis, flattened.
        posterior: what the encoder's numbers mean, from `posteriors`, or a flow, which carries a diagonal normal
            on; None for `posteriors.Diagonal`.
        prior: of the latents, from `priors`, or a flow; None for `priors.Standard`.
        learn_classes: whether pi is learned; else it is uniform.
        data: (n, *event_shape), from which the mean of the features is taken; None for zeros.

    Raises:
        ValueError: a ``latent_dim`` that is not positive, fewer than two classes, a conjugate posterior, which knows
            nothing of the class, or data that do not fit the law.
    """

    family: ClassVar[str] = "vae"
    likelihood: ClassVar[LikelihoodKind] = "bound"
    imputers: ClassVar[tuple[str, ...]] = classes.IMPUTERS
    classifiers: ClassVar[tuple[str, ...]] = classes.CLASSIFIERS
    sites: ClassVar[tuple[str, ...]] = ("z",)

    fill: torch.Tensor

    def __init__(
        self,
        classifier: Any,
        encoder: Any,
        decoder: Any,
        observation: Any,
        latent_dim: int,
        num_classes: int,
        *,
        input_shape: Sequence[int] | None = None,
        posterior: Any | None = None,
        prior: Any | None = None,
        learn_classes: bool = True,
        data: Any | None = None,
    ):
        super().__init__()
        classes.check_sizes(num_classes, latent_dim)
        self.classifier, self.encoder, self.decoder, self.observation = classifier, encoder, decoder, observation
        self.classes = ClassPrior(num_classes, learn_classes)
        self.posterior = posteriors.chosen(posterior, latent_dim)
        self.prior = priors.chosen(prior, latent_dim)
        classes.check_posterior(isinstance(self.posterior, posteriors.Conjugate))
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.input_shape = tuple(input_shape or (math.prod(observation.feature_shape),))
        fill = np.zeros(observation.feature_shape) if data is None else observation.feature_mean(data)
        self.register_buffer("fill", torch.as_tensor(fill, dtype=torch.get_default_dtype()))

    mlp = classmethod(class_constructors.mlp)
    conv = classmethod(class_constructors.conv)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.observation.event_shape

    def model(self, x: Any = None, y: Any = None, *, size: int = 1) -> Any:
        """p(y, z, x) in the plate ``"data"``.

        Args:
            x: (n, *event_shape), or None to draw.
            y: (n,) integers, -1 where unknown; None where all are unknown.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        decoder = declare("decoder", self.decoder)
        observation = declare("observation", self.observation)
        law_of_classes: Any = declare("classes", self.classes)
        log_probs = law_of_classes.log_probs(self.fill)
        rows = size if x is None else len(x)
        prior = self._prior(rows)
        with pyro.plate("data", rows):
            logits = log_probs.expand(rows, self.num_classes)
            if y is not None:
                law = dist.Categorical(logits=logits).mask(y >= 0)
                pyro.sample("y_observed", law, obs=y.clamp(min=0))
                logits = classes.pinned(logits, y)
            drawn = pyro.sample("y", dist.Categorical(logits=logits))
            batch = torch.broadcast_shapes(drawn.shape, (rows,))
            z = pyro.sample("z", prior.expand(batch))
            code = classes.beside(z, classes.one_hot(drawn, self.num_classes, z))
            return pyro.sample("x", observation(parts.outputs(observation, decoder, code)), obs=x)

    def guide(self, x: Any = None, y: Any = None, *, size: int = 1, alpha: float = 0.0) -> Any:
        """q(y | x) q(z | x, y), in the plate ``"data"``; without x, the prior of ``size`` rows.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            y: (n,) integers, -1 where unknown; None where all are unknown.
            size: the number of rows where x is None.
            alpha: adds the factor ``"classification"``, minus ``alpha`` log q(y | x) of the rows whose label is known,
                by which a bound is trained to classify them: ``SVI(model, partial(guide, alpha=1.0), ...)``.

        Returns:
            z.

        Raises:
            ValueError: ``alpha`` without labels.
        """
        classifier = declare("classifier", self.classifier)
        given = declare("encoder", self.encoder), declare("posterior", self.posterior)
        if alpha and y is None:
            raise classes.refuse_alpha()
        rows = size if x is None else len(x)
        shown = None if x is None else self._shown(x)
        prior: Any = None
        if shown is None:
            prior, law_of_classes = self._prior(rows), declare("classes", self.classes)
            logits = law_of_classes.log_probs(self.fill).expand(rows, self.num_classes)
        else:
            logits = self._logits(classifier, shown[0])
        with pyro.plate("data", rows):
            if y is not None:
                if alpha:
                    known = dist.Categorical(logits=logits).log_prob(y.clamp(min=0))
                    term = torch.where(y >= 0, -alpha * known, torch.zeros_like(known))
                    pyro.factor("classification", term, has_rsample=True)
                logits = classes.pinned(logits, y)
            drawn = pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            return pyro.sample("z", prior if shown is None else self._posterior(*given, *shown, drawn))

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it.

        Args:
            x: (n, *event_shape) numbers.
            missing: whether missing entries are allowed.
            observed: booleans of x's shape, or None where NaN (a negative integer) says what is missing.

        Returns:
            x as a NumPy array of the law's kind.

        Raises:
            ValueError: wrong dtype, shape or support, empty, not finite, missing where it may not be, or a row of which
                nothing is observed.
        """
        return laws.check_data(self.observation, x, missing=missing, observed=observed)

    def check_labels(self, y: Any, rows: int) -> np.ndarray:
        """``y`` as this program takes it.

        Args:
            y: (rows,) integers, -1 where unknown, or one for all rows.
            rows: how many rows there are.

        Returns:
            (rows,) integers.

        Raises:
            ValueError: no integers, another number of them, or one that is no class.
        """
        return classes.check_labels(y, rows, self.num_classes)

    def given(self, y: Any) -> Given:
        """The program given what is known of the labels.

        Args:
            y: (n,) integers, -1 where unknown.

        Returns:
            What has ``model`` and ``guide`` of x alone, for rows that repeat these n.
        """
        return Given(self, torch.as_tensor(y, device=self.fill.device))

    def objective(self) -> EnumELBO:
        """What `fit` minimises by default: the bound with the class summed out."""
        return EnumELBO()

    def diagnose(self, x: Any) -> list[Warning]:
        """A warning where the posterior of the latents given ``x`` and its class has collapsed, else nothing."""
        if len(x) < 2:
            return []
        return activity.diagnose(activity.of_levels(parts.levels(self, tensor(self, self.check_data(x, missing=True)))))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "program": "class_conditional",
            "latent_dim": self.latent_dim,
            "num_classes": self.num_classes,
            "learn_classes": self.classes.logits is not None,
            "input_shape": list(self.input_shape),
            "posterior": self.posterior.spec(),
            "prior": self.prior.spec(),
            "observation": self.observation.spec(),
            "classifier": files.describe(self.classifier, nn.NETWORKS),
            "encoder": files.describe(self.encoder, nn.NETWORKS),
            "decoder": files.describe(self.decoder, nn.NETWORKS),
        }

    def class_probs(self, x: torch.Tensor) -> torch.Tensor:
        """The classifier's q(y | x).

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.

        Returns:
            (n, num_classes).
        """
        return torch.softmax(self._logits(self.classifier, self._shown(x)[0]), -1)

    def labels(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """The label of each row: the known one, else the classifier's most probable.

        Args:
            x: (n, *event_shape), missing entries allowed.
            y: (n,) integers, -1 where unknown; None where all are unknown.

        Returns:
            (n,).
        """
        guess = torch.argmax(self._logits(self.classifier, self._shown(x)[0]), -1)
        return guess if y is None else torch.where(y >= 0, y.to(guess.dtype), guess)

    def posterior_of(self, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        """q(z | x, y) at the `labels` of the rows.

        Args:
            x: (n, *event_shape), missing entries allowed.
            y: (n,) integers, -1 where unknown; None where all are unknown.

        Returns:
            The distribution, of batch shape (n,) and event shape (latent_dim,).
        """
        return self._posterior(self.encoder, self.posterior, *self._shown(x), self.labels(x, y))

    def encode(self, x: torch.Tensor, y: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The means and standard deviations of `posterior_of`, two tensors (n, latent_dim)."""
        law = self.posterior_of(x, y)
        return law.mean, torch.sqrt(law.variance)

    def levels(self, x: torch.Tensor, y: torch.Tensor | None = None) -> tuple[Level, ...]:
        """The posterior of its one level at the `labels` of the rows, beside a standard normal.

        Args:
            x: (n, *event_shape), missing entries allowed.
            y: (n,) integers, -1 where unknown; None where all are unknown.

        Returns:
            The level.
        """
        loc, scale = self.encode(x, y)
        return (Level(loc, scale, loc, scale),)

    def decode(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """E[x | z, y] (the most probable category of a categorical law).

        Args:
            z: (..., latent_dim).
            y: (...) integers that broadcast against z's batch, 0 … num_classes - 1.

        Returns:
            (..., *event_shape).
        """
        code = classes.beside(z, classes.one_hot(y, self.num_classes, z))
        return self.observation.mean(parts.outputs(self.observation, self.decoder, code))

    def _shown(self, x: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The features and which of them are observed, (n, F) each."""
        features, observed = parts.features(self.observation, self.fill, x)
        return features.reshape(len(x), -1), observed.reshape(len(x), -1)

    def _logits(self, classifier: Any, features: torch.Tensor) -> torch.Tensor:
        return classifier(features.reshape(len(features), *self.input_shape))

    def _posterior(
        self, encoder: Any, posterior: Any, features: torch.Tensor, observed: torch.Tensor, y: torch.Tensor
    ) -> Any:
        code = classes.one_hot(y, self.num_classes, features)
        return self._given(encoder, posterior, features, observed, code)

    def _given(
        self, encoder: Any, posterior: Any, features: torch.Tensor, observed: torch.Tensor, code: torch.Tensor
    ) -> Any:
        inputs = features.reshape(len(features), *self.input_shape)
        return posterior(encoder(classes.beside(inputs, code, len(self.input_shape))), features, observed)

    def _prior(self, rows: int) -> Any:
        def posterior(pseudo_inputs: torch.Tensor) -> Any:
            given = declare("encoder", self.encoder), declare("posterior", self.posterior)
            features, code = pseudo_inputs.split((pseudo_inputs.shape[-1] - self.num_classes, self.num_classes), -1)
            return self._given(*given, features, torch.ones_like(features, dtype=torch.bool), code)

        return declare("prior", self.prior)(posterior, self.fill.new_zeros(rows, self.latent_dim))


def build(config: Mapping[str, Any]) -> ClassVAE:
    """A program of the described shape, with initial weights.

    Args:
        config: what `ClassVAE.spec` gave.

    Returns:
        The program.
    """
    classifier, encoder = nn.build(config["classifier"]), nn.build(config["encoder"])
    decoder = nn.build(config["decoder"])
    chosen = {name: config[name] for name in ("learn_classes", "input_shape") if name in config}
    if "posterior" in config:
        chosen["posterior"] = posteriors.build(config["posterior"])
    if "prior" in config:
        chosen["prior"] = priors.build(config["prior"])
    law, sizes = likelihoods.build(config["observation"]), (config["latent_dim"], config["num_classes"])
    return ClassVAE(classifier, encoder, decoder, law, *sizes, **chosen)
