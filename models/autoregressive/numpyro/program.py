"""The autoregressive program in NumPyro."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro

from deepgen.inference.svi.numpyro import ELBO
from deepgen.likelihoods import laws
from deepgen.likelihoods import numpyro as likelihoods
from deepgen.models.autoregressive import made, sequence
from deepgen.models.autoregressive.made import Member
from deepgen.models.autoregressive.numpyro import constructors, networks
from deepgen.models.autoregressive.numpyro.distribution import Autoregressive
from deepgen.models.autoregressive.numpyro.dropout import RandomDropout
from deepgen.models.autoregressive.numpyro.ensemble import Ensemble, RandomMember, planned
from deepgen.models.autoregressive.numpyro.given import Given
from deepgen.nn import equinox as nn
from deepgen.program import Densities, LikelihoodKind, files
from deepgen.program import context as repeats
from deepgen.program.numpyro import declare
from deepgen.program.sequence.numpyro import Mixture
from deepgen.program.sequence.numpyro import Sequence as Factors


class AutoregressiveModel(eqx.Module):
    r"""A datum whose entries are decided one after the other: the chain rule with one network for all conditionals.

    .. math:: x \sim \prod_t p(x_{o(t)} \mid x_{o(1)}, \ldots, x_{o(t-1)})

    Its likelihood is exact, it has no latents, and its guide is empty. With several ``members``, orders and masks of
    the hidden units that share the weights, it is their mixture of equal weights.

    Germain, Gregor, Murray & Larochelle 2015, MADE: masked autoencoder for distribution estimation.

    Args:
        network: what `Autoregressive` takes.
        observation: the law of a datum, from ``deepgen.likelihoods``, the same for each entry.
        members: pairs (order, seed of the hidden units' degrees) of a masked perceptron; none for its own alone.

    Raises:
        ValueError: a network and a law that do not fit together.
    """

    family: ClassVar[str] = "autoregressive"
    likelihood: ClassVar[LikelihoodKind] = "exact"
    imputers: ClassVar[tuple[str, ...]] = ("auto", "exact", "smc", "enumerate")
    densities: ClassVar[Densities] = Densities(holes="steps")
    sites: ClassVar[tuple[str, ...]] = ()

    network: Any
    observation: Any
    members: tuple[Member, ...] = eqx.field(static=True)

    def __init__(self, network: Any, observation: Any, members: Sequence[Member] = ()):
        sequence.check(network, observation)
        self.network, self.observation = network, observation
        self.members = made.checked(network, members)

    @classmethod
    def made(
        cls,
        event_shape: Sequence[int],
        likelihood: Any = "bernoulli",
        *,
        hidden: Sequence[int] = (500,),
        order: Any = None,
        num_members: int = 1,
        activation: str = "relu",
        direct: bool = True,
        num_classes: int | None = None,
        context_dim: int = 0,
        seed: int = 0,
        data: Any | None = None,
        key: jax.Array,
    ) -> "AutoregressiveModel":
        """MADE: a perceptron masked by degrees.

        Args:
            event_shape: the shape of one datum.
            likelihood: an observation law or its name, see `deepgen.likelihoods`; not one that differs from entry to
                entry.
            hidden: the widths of the hidden layers.
            order: of the entries: None for row-major, ``"random"``, or (D,) indices into the flattened datum.
            num_members: how many masks (and, where ``order`` is ``"random"``, orders) share the weights. `fit` takes
                them in turn, one a step; probabilities are averaged over all.
            activation: the network's activation.
            direct: whether there are connections from the inputs to the outputs.
            num_classes: of a categorical law; of a discretised logistic one the number of values, None for 256.
            context_dim: the length of a context that the law is conditional on, such as a one-hot class, 0 for none;
                the verbs take it as ``y``, one a row.
            seed: of random orders and masks.
            data: (n, *event_shape); the outputs then start at its marginals. None for random biases.
            key: for the initial weights.

        Returns:
            The program, untrained.

        Raises:
            ValueError: an unknown likelihood or order, sizes that are not positive, or data that do not fit.
        """
        law = likelihoods.observation(likelihood, tuple(event_shape), num_classes)
        data = None if data is None else laws.check_data(law, data, missing=True)
        first, members = made.orders(law, order, num_members, seed)
        own = made.arguments(law) | {"context_size": context_dim}
        network = nn.MaskedMLP(
            law.event_shape, hidden=hidden, order=first, activation=activation, direct=direct, **own, key=key
        )
        if data is not None:
            network = nn.output_bias(network, jnp.asarray(law.start(data).reshape(-1), jnp.result_type(float)))
        return cls(network, law, members)

    pixelcnn = classmethod(constructors.pixelcnn)
    wavenet = classmethod(constructors.wavenet)
    transformer = classmethod(constructors.transformer)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.observation.event_shape

    @property
    def context_dim(self) -> int:
        """The length of the context; 0 where there is none."""
        return sequence.context_dim(self.network)

    def distribution(self, context: Any = None) -> Any:
        """The law of a datum, to be a site of any model: `Autoregressive` or, with members, their `Ensemble`.

        Args:
            context: (n, context_dim), or (n, context_dim, ...) where it differs from place to place; None where the
                program takes none.

        Raises:
            ValueError: a context that is missing or not wanted.
        """
        return _law(self.network, self.observation, self.members, context)

    def model(self, x: Any = None, context: Any = None, *, size: int = 1) -> Any:
        """p(x), or p(x | context), in the plate ``"data"``.

        Args:
            x: (n, *event_shape), or None to draw.
            context: (n, context_dim), or (n, context_dim, ...) where it differs from place to place, of a conditional
                program; the verbs take it as ``y``.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        network, observation = declare("network", self.network), declare("observation", self.observation)
        with numpyro.plate("data", size if x is None else len(x)):
            return numpyro.sample("x", _law(network, observation, self.members, context), obs=x)

    def sequential(self, context: Any = None) -> Factors | Mixture:
        """The factors of p(x), each given the entries before it, or the mixture of those of the members.

        Args:
            context: of each row, as in `model`.
        """
        parts = tuple(Factors(own, self.observation, context) for own in planned(self.network, self.members))
        return Mixture(parts) if self.members else parts[0]

    def guide(self, x: Any = None, context: Any = None, *, size: int = 1) -> None:
        """Nothing, as there are no latents.

        Args:
            x: (n, *event_shape), or None.
            context: as `model`.
            size: the number of rows where x is None.
        """

    def sample_given(self, rng_key: jax.Array, x: Any, observed: Any = None) -> jax.Array:
        """Draws whose known entries are clamped, see `Autoregressive.sample_given`.

        They have the law given what is known only where in each row the missing entries come last in the order.

        Args:
            rng_key: a random key.
            x: (n, *event_shape), NaN (negative integers) where missing.
            observed: booleans of x's shape; None where x itself says what is missing.

        Returns:
            (n, *event_shape), observed entries as they came.

        Raises:
            ValueError: as there.
        """
        return self.distribution().sample_given(rng_key, x, observed)

    def given(self, context: Any) -> Given:
        """The program as a function of x alone, given the context of its rows.

        Args:
            context: (n, context_dim, ...); any number of rows is taken to repeat these n.

        Returns:
            What has ``model``, ``guide``, ``sequential`` and ``sample_given``.
        """
        return Given(self, jnp.asarray(context))

    def check_context(self, context: Any, rows: int) -> np.ndarray:
        """A context for each of the rows, as the program takes it.

        Args:
            context: (rows, context_dim), or (rows, context_dim, ...) where it differs from place to place; of one row
                for all.
            rows: how many.

        Returns:
            (rows, context_dim, ...) floats.

        Raises:
            ValueError: another shape, another number of rows, not finite, or a program without context.
        """
        return repeats.rows(context, rows, sequence.context_shapes(self.network))

    def objective(self) -> Any:
        """What `fit` minimises by default: the negative log-likelihood.

        It is of one member a step where there are some, and with units dropped where the network has a rate of that.
        """
        if self.members:
            return RandomMember()
        return RandomDropout() if sequence.drops(self.network) else ELBO()

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

    def diagnose(self, x: Any) -> list[Warning]:
        """Nothing: an exact likelihood has no posterior that could collapse."""
        return []

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "observation": self.observation.spec(),
            "network": files.describe(self.network, networks.NETWORKS),
            "members": [[made.listed(order), seed] for order, seed in self.members],
        }


def build(config: Mapping[str, Any], *, key: jax.Array) -> AutoregressiveModel:
    """A program of the described shape, with initial weights from ``key``.

    Args:
        config: what `AutoregressiveModel.spec` gave.
        key: for the weights.

    Returns:
        The program.
    """
    members = [(order, seed) for order, seed in config.get("members", ())]
    return AutoregressiveModel(
        networks.build(config["network"], key=key), likelihoods.build(config["observation"]), members
    )


def _law(network: Any, observation: Any, members: Sequence[Member], context: Any) -> Any:
    sequence.check_context(network, None if context is None else jnp.shape(context))
    if members:
        return Ensemble(network, observation, members, context)
    return Autoregressive(network, observation, context)
