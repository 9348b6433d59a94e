"""A program with latent weights in Pyro."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal, init_to_value

from deepgen.inference.bayesian import weights as rules
from deepgen.inference.svi.pyro.observed import ObservedModel
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
    weights, and any objective of several particles ``vectorize_particles=False``: networks do not broadcast over
    draws of their weights.

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
    priors = {site: _law(site, value, prior) for site, value in values.items()}

    def draw() -> dict[str, Any]:
        return {site: pyro.sample(site, law) for site, law in priors.items()}

    guide_of = AutoNormal if autoguide is None else autoguide
    weights = guide_of(draw, init_loc_fn=init_to_value(values=values))
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
            network = attrgetter(path)(program)
            own = {inner: weights[f"{name}.{inner}"] for inner in _weights(network)}
            program = _replaced(program, path.split("."), _WithWeights(network, own))
        function = getattr(program, part)
        with self._scaled(x):
            if x is None:
                return function(size=size)
            return ObservedModel(function)(x) if part == "model" and self.observing else function(x)

    def _scaled(self, x: Any) -> AbstractContextManager[Any]:
        return nullcontext() if x is None or self.num_rows is None else poutine.scale(scale=self.num_rows / len(x))


class _WithWeights(torch.nn.Module):
    """A network with given weights, and no parameters of its own."""

    def __init__(self, network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        # a tuple: not registered
        self._network, self._given = (network,), weights

    def forward(self, *args: Any) -> Any:
        return torch.func.functional_call(self._network[0], self._given, args)


def _replaced(module: Any, path: Sequence[str], new: torch.nn.Module) -> Any:
    """The module with another one at the path, itself left as it is."""
    first, *rest = path
    clone = copy.copy(module)
    inner = _replaced(getattr(module, first), rest, new) if rest else new
    clone.__dict__["_modules"] = {**module._modules, first: inner}
    return clone


def _weights(network: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in network.named_parameters()}


def _law(site: str, value: torch.Tensor, prior: Callable[[str, tuple[int, ...]], Any] | None) -> Any:
    shape = tuple(value.shape)
    if prior is None:
        law: Any = dist.Normal(torch.zeros_like(value), rules.prior_scale(shape))
    else:
        law = prior(site, shape)
    if law.shape() == ():
        law = law.expand(shape)
    rules.check_prior(site, law.shape(), shape)
    return law.to_event(len(law.batch_shape))
