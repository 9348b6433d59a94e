"""A program with latent weights in NumPyro."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer import init_to_value
from numpyro.infer.autoguide import AutoNormal

from deepgen.inference.bayesian import weights as rules
from deepgen.inference.svi.numpyro.observed import ObservedModel
from deepgen.nn.equinox import load_state_dict, state_dict
from deepgen.program import ModelsMissingness


def bayesian(
    program: Any,
    *,
    prior: Callable[[str, tuple[int, ...]], Any] | None = None,
    networks: Sequence[str] = ("decoder",),
    autoguide: Callable[..., Any] | None = None,
    num_rows: int | None = None,
    missing: bool = False,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    r"""A program with latent weights: a model and a guide, for SVI or MCMC.

    .. math:: w \sim p(w), \quad p(w) \prod_n p(z_n)\, p(x_n \mid z_n, w), \quad
        q(w) \prod_n q(z_n \mid x_n)

    Each weight of the networks is a latent site by its name, such as ``"decoder.layers.0.weight"``, outside of the
    plate of the rows. What else the program learns, as its encoder and the scale of its law, stays a parameter. SVI
    takes both (a `fit` of the pair likewise), NUTS the model. `IWAE` needs ``joint=True``, since all rows share the
    weights.

    Args:
        program: the program.
        prior: from a site's name and its shape to the law of that weight, of the weight's shape or of a single number;
            None for N(0, 1 / fan in), and N(0, 1) of biases.
        networks: the fields whose networks have latent weights.
        autoguide: from a model of the weights alone to their guide, such as a class of the engine's ``autoguide``;
            None for ``AutoNormal``. It is called with ``init_loc_fn``, and starts at the program's own weights.
        num_rows: of the whole data set, where model and guide are called with minibatches: the rows' densities are
            scaled up to it. None where they are called with all rows.
        missing: whether rows may have holes, which then are integrated out (the law of x has to be elementwise); a
            program that models what is missing needs no telling.

    Returns:
        ``model(x=None, *, size=1)`` and ``guide(x=None, *, size=1)``, whose ``weights`` is the guide of the weights.

    Raises:
        ValueError: a field that the program does not have, one without weights, a prior of another shape, or a
            ``num_rows`` below 1.

    References:
        Blundell et al. 2015, "Weight uncertainty in neural networks"; Neal 1996.
    """
    rules.check_rows(num_rows)
    paths = rules.paths(program, networks)
    values: dict[str, Any] = {}
    for name, path in paths.items():
        own = _weights(attrgetter(path)(program))
        rules.check_weights(name, own)
        values |= {f"{name}.{inner}": value for inner, value in own.items()}
    shapes = {site: value.shape for site, value in values.items()}
    priors = {site: _law(site, shape, prior) for site, shape in shapes.items()}

    def draw() -> dict[str, Any]:
        return {site: numpyro.sample(site, law) for site, law in priors.items()}

    guide_of = AutoNormal if autoguide is None else autoguide
    weights = guide_of(draw, init_loc_fn=init_to_value(values=values))
    with handlers.block(), handlers.seed(rng_seed=0):
        # automatic guides keep what they make on their first call, which must not be under a trace
        weights()
    given = _Given(program, paths, num_rows, missing)
    return Model(given, draw), Guide(given, weights)


class Model:
    """p(weights, latents, x); see `bayesian`."""

    def __init__(self, given: "_Given", draw: Callable[[], dict[str, Any]]) -> None:
        self._given, self._draw = given, draw

    def __call__(self, x: Any = None, *, size: int = 1) -> Any:
        """Run the program's model with drawn weights.

        Args:
            x: (n, *event_shape), or None to draw.
            size: the number of rows where x is None.

        Returns:
            What the program's model returns.
        """
        return self._given.run("model", self._draw(), x, size)


class Guide:
    """q(weights) q(latents | x); see `bayesian`.

    Attributes:
        weights: the guide of the weights.
    """

    def __init__(self, given: "_Given", weights: Any) -> None:
        self._given, self.weights = given, weights

    def __call__(self, x: Any = None, *, size: int = 1) -> Any:
        """Run the program's guide beside that of the weights.

        Args:
            x: (n, *event_shape), or None.
            size: the number of rows where x is None.

        Returns:
            What the program's guide returns.
        """
        return self._given.run("guide", self.weights(), x, size)


class _Given:
    """Runs a program with given weights."""

    def __init__(self, program: Any, paths: dict[str, str], num_rows: int | None, missing: bool) -> None:
        self.program, self.paths, self.num_rows = program, paths, num_rows
        self.observing = missing and not isinstance(program, ModelsMissingness)

    def run(self, part: str, weights: dict[str, Any], x: Any, size: int) -> Any:
        program = self.program
        for name, path in self.paths.items():
            where = attrgetter(path)
            own = {inner: weights[f"{name}.{inner}"] for inner in _weights(where(program))}
            network = load_state_dict(where(program), {**state_dict(where(program)), **own})
            program = eqx.tree_at(where, program, network)
        function = getattr(program, part)
        with self._hidden(), self._scaled(x):
            if x is None:
                return function(size=size)
            return ObservedModel(function)(x) if part == "model" and self.observing else function(x)

    def _hidden(self) -> AbstractContextManager[Any]:
        # what the program declares as parameters are the drawn weights
        names = {f"{name}$params" for name in self.paths}
        return handlers.block(hide_fn=lambda site: site["type"] == "param" and site["name"] in names)

    def _scaled(self, x: Any) -> AbstractContextManager[Any]:
        return nullcontext() if x is None or self.num_rows is None else handlers.scale(scale=self.num_rows / len(x))


def _weights(network: Any) -> dict[str, jax.Array]:
    arrays = state_dict(network)
    return {name: value for name, value in arrays.items() if jnp.issubdtype(value.dtype, jnp.floating)}


def _law(site: str, shape: tuple[int, ...], prior: Callable[[str, tuple[int, ...]], Any] | None) -> Any:
    law = dist.Normal(0.0, rules.prior_scale(shape)) if prior is None else prior(site, shape)
    if law.shape() == ():
        law = law.expand(shape)
    rules.check_prior(site, law.shape(), shape)
    return law.to_event(len(law.batch_shape))
