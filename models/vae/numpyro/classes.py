"""The class-conditional and semi-supervised variational autoencoder in NumPyro."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib.module import eqx_module

from deepgen.inference.svi.numpyro.enumeration import EnumELBO
from deepgen.likelihoods import laws
from deepgen.likelihoods import numpyro as likelihoods
from deepgen.models.vae import activity, classes
from deepgen.models.vae import posterior as reading
from deepgen.models.vae.hierarchy import Level
from deepgen.models.vae.numpyro import parts
from deepgen.nn import equinox as nn
from deepgen.program import LikelihoodKind, files
from deepgen.program.numpyro import declare


class ClassPrior(eqx.Module):
    """p(y): uniform, or learned from uniform on.

    Args:
        num_classes: K.
        learned: whether it is a parameter.
    """

    logits: jax.Array | None
    num_classes: int = eqx.field(static=True)

    def __init__(self, num_classes: int, learned: bool):
        self.num_classes, self.logits = num_classes, jnp.zeros(num_classes) if learned else None

    def log_probs(self) -> jax.Array:
        """(K,) the classes' log probabilities."""
        return jax.nn.log_softmax(jnp.zeros(self.num_classes) if self.logits is None else self.logits)


class ClassVAE(eqx.Module):
    r"""A variational autoencoder of data with classes, of which some, all or none are known (the paper's M2).

    .. math:: y \sim \mathrm{Categorical}(\pi), \quad z \sim N(0, I), \quad x \sim p(x \mid \mathrm{decoder}(z, y)),
        \qquad q(y \mid x)\, q(z \mid x, y)

    with q(y | x) from classifier(x) and a diagonal normal q(z | x, y) from encoder(x, y). A known label stands at the
    site ``"y"`` itself, and its log pi_y at the observed site ``"y_observed"``; an unknown one is a latent, marked to
    be summed out by `EnumELBO`, which `fit` takes; ``TraceGraph_ELBO`` draws it. Networks see missing x at its mean.

    Kingma, Mohamed, Rezende & Welling 2014, Semi-supervised learning with deep generative models.

    Args:
        classifier: (..., F) features of a datum, flattened, to K logits.
        encoder: (..., F + K) the same and the class's code to 2 latent_dim numbers.
        decoder: (..., latent_dim + K) latents and the class's code to as many numbers as the observation law wants.
        observation: the law of a datum, from ``deepgen.likelihoods``.
        latent_dim: how many latents.
        num_classes: K.
        learn_classes: whether pi is learned; else it is uniform.
        data: (n, *event_shape), from which the mean of the features is taken; None for zeros.

    Raises:
        ValueError: a ``latent_dim`` that is not positive, fewer than two classes, or data that do not fit the law.
    """

    family: ClassVar[str] = "vae"
    likelihood: ClassVar[LikelihoodKind] = "bound"
    imputers: ClassVar[tuple[str, ...]] = classes.IMPUTERS
    classifiers: ClassVar[tuple[str, ...]] = classes.CLASSIFIERS
    sites: ClassVar[tuple[str, ...]] = ("z",)

    classifier: Any
    encoder: Any
    decoder: Any
    observation: Any
    classes: ClassPrior
    fill: jax.Array
    latent_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)

    def __init__(
        self,
        classifier: Any,
        encoder: Any,
        decoder: Any,
        observation: Any,
        latent_dim: int,
        num_classes: int,
        *,
        learn_classes: bool = True,
        data: Any | None = None,
    ):
        classes.check_sizes(num_classes, latent_dim)
        self.classifier, self.encoder, self.decoder, self.observation = classifier, encoder, decoder, observation
        self.classes = ClassPrior(num_classes, learn_classes)
        self.latent_dim, self.num_classes = latent_dim, num_classes
        fill = np.zeros(observation.feature_shape) if data is None else observation.feature_mean(data)
        self.fill = jnp.asarray(fill, dtype=jnp.result_type(float))

    @classmethod
    def mlp(
        cls,
        event_shape: Sequence[int],
        latent_dim: int,
        num_classes: int,
        likelihood: Any = "bernoulli",
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "gelu",
        learn_classes: bool = True,
        num_categories: int | None = None,
        data: Any | None = None,
        key: jax.Array,
    ) -> "ClassVAE":
        """A program of three multilayer perceptrons.

        Args:
            event_shape: the shape of one datum.
            latent_dim: how many latents.
            num_classes: K, of y.
            likelihood: an observation law or its name, see `deepgen.likelihoods`.
            hidden: the widths of the hidden layers of classifier and encoder; the decoder has them in reverse.
            activation: the networks' activation.
            learn_classes: whether p(y) is learned; else it is uniform.
            num_categories: of the elements of x, where their law is categorical.
            data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.
            key: for the initial weights.

        Returns:
            The program, untrained.

        Raises:
            ValueError: as `ClassVAE`, an unknown likelihood, or data that do not fit.
        """
        law = likelihoods.observation(likelihood, tuple(event_shape), num_categories)
        data = None if data is None else laws.check_data(law, data, missing=True)
        classes.check_sizes(num_classes, latent_dim)
        size = math.prod(law.feature_shape)
        keys = jax.random.split(key, 3)
        classifier = nn.MLP(size, num_classes, tuple(hidden), activation=activation, key=keys[0])
        encoder = nn.MLP(size + num_classes, 2 * latent_dim, tuple(hidden), activation=activation, key=keys[1])
        widths = tuple(reversed(hidden))
        decoder = nn.MLP(latent_dim + num_classes, law.num_outputs, widths, activation=activation, key=keys[2])
        if data is not None:
            decoder = nn.output_bias(decoder, jnp.asarray(law.start(data).reshape(-1), jnp.result_type(float)))
        return cls(classifier, encoder, decoder, law, latent_dim, num_classes, learn_classes=learn_classes, data=data)

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
        decoder = eqx_module("decoder", self.decoder)
        observation = declare("observation", self.observation)
        log_probs = declare("classes", self.classes).log_probs()
        rows = size if x is None else len(x)
        with numpyro.plate("data", rows):
            logits = jnp.broadcast_to(log_probs, (rows, self.num_classes))
            if y is not None:
                law = dist.Categorical(logits=logits).mask(y >= 0)
                numpyro.sample("y_observed", law, obs=jnp.maximum(y, 0))
                logits = classes.pinned(logits, y)
            drawn = numpyro.sample("y", dist.Categorical(logits=logits))
            batch = jnp.broadcast_shapes(drawn.shape, (rows,))
            z = numpyro.sample("z", dist.Normal(jnp.zeros((*batch, self.latent_dim)), 1.0).to_event(1))
            code = classes.beside(z, classes.one_hot(drawn, self.num_classes, z))
            return numpyro.sample("x", observation(parts.outputs(observation, decoder, code)), obs=x)

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
        classifier, encoder = eqx_module("classifier", self.classifier), eqx_module("encoder", self.encoder)
        if alpha and y is None:
            raise classes.refuse_alpha()
        rows = size if x is None else len(x)
        features = None if x is None else self._features(x)
        if features is None:
            logits = jnp.broadcast_to(declare("classes", self.classes).log_probs(), (rows, self.num_classes))
        else:
            logits = classifier(features)
        with numpyro.plate("data", rows):
            if y is not None:
                if alpha:
                    known = dist.Categorical(logits=logits).log_prob(jnp.maximum(y, 0))
                    numpyro.factor("classification", jnp.where(y >= 0, -alpha * known, 0.0))
                logits = classes.pinned(logits, y)
            drawn = numpyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            if features is None:
                return numpyro.sample("z", dist.Normal(jnp.zeros((rows, self.latent_dim)), 1.0).to_event(1))
            return numpyro.sample("z", self._posterior(encoder, features, drawn))

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

    def given(self, y: Any) -> "Given":
        """The program given what is known of the labels.

        Args:
            y: (n,) integers, -1 where unknown.

        Returns:
            What has ``model`` and ``guide`` of x alone, for rows that repeat these n.
        """
        return Given(self, jnp.asarray(y))

    def objective(self) -> EnumELBO:
        """What `fit` minimises by default: the bound with the class summed out."""
        return EnumELBO()

    def diagnose(self, x: Any) -> list[Warning]:
        """A warning where the posterior of the latents given ``x`` and its class has collapsed, else nothing."""
        if len(x) < 2:
            return []
        return activity.diagnose(activity.of_levels(parts.levels(self, jnp.asarray(self.check_data(x, missing=True)))))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "program": "class_conditional",
            "latent_dim": self.latent_dim,
            "num_classes": self.num_classes,
            "learn_classes": self.classes.logits is not None,
            "observation": self.observation.spec(),
            "classifier": files.describe(self.classifier, nn.NETWORKS),
            "encoder": files.describe(self.encoder, nn.NETWORKS),
            "decoder": files.describe(self.decoder, nn.NETWORKS),
        }

    def class_probs(self, x: jax.Array) -> jax.Array:
        """The classifier's q(y | x).

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.

        Returns:
            (n, num_classes).
        """
        return jax.nn.softmax(self.classifier(self._features(x)))

    def labels(self, x: jax.Array, y: jax.Array | None = None) -> jax.Array:
        """The label of each row: the known one, else the classifier's most probable.

        Args:
            x: (n, *event_shape), missing entries allowed.
            y: (n,) integers, -1 where unknown; None where all are unknown.

        Returns:
            (n,).
        """
        guess = jnp.argmax(self.classifier(self._features(x)), -1).astype(jnp.int32)
        return guess if y is None else jnp.where(y >= 0, y, guess)

    def posterior_of(self, x: jax.Array, y: jax.Array | None = None) -> dist.Distribution:
        """q(z | x, y) at the `labels` of the rows.

        Args:
            x: (n, *event_shape), missing entries allowed.
            y: (n,) integers, -1 where unknown; None where all are unknown.

        Returns:
            The distribution, of batch shape (n,) and event shape (latent_dim,).
        """
        return self._posterior(self.encoder, self._features(x), self.labels(x, y))

    def encode(self, x: jax.Array, y: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """The means and standard deviations of `posterior_of`, two arrays (n, latent_dim)."""
        posterior = self.posterior_of(x, y)
        return posterior.mean, jnp.sqrt(posterior.variance)

    def levels(self, x: jax.Array, y: jax.Array | None = None) -> tuple[Level, ...]:
        """The posterior of its one level at the `labels` of the rows, beside a standard normal.

        Args:
            x: (n, *event_shape), missing entries allowed.
            y: (n,) integers, -1 where unknown; None where all are unknown.

        Returns:
            The level.
        """
        loc, scale = self.encode(x, y)
        return (Level(loc, scale, loc, scale),)

    def decode(self, z: jax.Array, y: jax.Array) -> jax.Array:
        """E[x | z, y] (the most probable category of a categorical law).

        Args:
            z: (..., latent_dim).
            y: (...) integers that broadcast against z's batch, 0 … num_classes - 1.

        Returns:
            (..., *event_shape).
        """
        code = classes.beside(z, classes.one_hot(y, self.num_classes, z))
        return self.observation.mean(parts.outputs(self.observation, self.decoder, code))

    def _features(self, x: Any) -> jax.Array:
        return parts.features(self.observation, self.fill, x)[0].reshape(len(x), -1)

    def _posterior(self, encoder: Any, features: jax.Array, y: jax.Array) -> dist.Distribution:
        raw = encoder(classes.beside(features, classes.one_hot(y, self.num_classes, features)))
        loc, raw_scale = jnp.split(raw, 2, axis=-1)
        return dist.Normal(loc, reading.scale(raw_scale)).to_event(1)


class Given(eqx.Module):
    """A program given what is known of its labels: p(z, x | y) where they are known, p(y, z, x) where they are not.

    Args:
        program: the program.
        y: (n,) integers, -1 where unknown; any number of rows is taken to repeat these n.
    """

    program: ClassVAE
    y: jax.Array

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model given the labels."""
        rows = size if x is None else len(x)
        return handlers.block(self.program.model, hide=["y_observed"])(x, classes.tile(self.y, rows), size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's guide given the labels."""
        return self.program.guide(x, classes.tile(self.y, size if x is None else len(x)), size=size)


def build(config: Mapping[str, Any], *, key: jax.Array) -> ClassVAE:
    """A program of the described shape, with initial weights from ``key``.

    Args:
        config: what `ClassVAE.spec` gave.
        key: for the weights.

    Returns:
        The program.
    """
    keys = jax.random.split(key, 3)
    classifier, encoder = nn.build(config["classifier"], key=keys[0]), nn.build(config["encoder"], key=keys[1])
    decoder = nn.build(config["decoder"], key=keys[2])
    law, sizes = likelihoods.build(config["observation"]), (config["latent_dim"], config["num_classes"])
    return ClassVAE(classifier, encoder, decoder, law, *sizes, learn_classes=config["learn_classes"])
