"""Networks of a score model in Pyro: from noised data and the level of noise to the scaled score."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.models.score import embedding, recipe, sdes
from deepgen.nn import arguments
from deepgen.nn.torch_convolution import Conv
from deepgen.nn.torch_layers import MLP, Activation, activation_function

__all__ = ["NETWORKS", "GaussianScore", "Guided", "ScoreMLP", "ScoreUNet", "build_network"]


class ScoreMLP(torch.nn.Module):
    r"""The scaled score of vectors, by a residual perceptron that sees the level of noise as Fourier features.

    .. math:: \rho s(x, \rho) = -\frac{\rho}{\varsigma^2 + \rho^2} x + \frac{\varsigma}{\sqrt{\varsigma^2 + \rho^2}}
        F\!\left(\frac{x}{\sqrt{\varsigma^2 + \rho^2}}, \phi(\log \rho)\right)

    Song & Ermon 2020, Improved techniques for training score-based generative models; Karras, Aittala, Aila & Laine
    2022, Elucidating the design space of diffusion-based generative models.

    Args:
        event_shape: of a datum, which is flattened.
        hidden: the widths of the hidden layers, of which equal neighbours are residual.
        activation: its name, or a function.
        features: how many Fourier features of log ρ, even.
        scale: ς, the standard deviation of the data.
        context_dim: of a context; the network then takes one of that size and one more, which says that it is shown.

    Raises:
        ValueError: sizes that are not whole numbers in their range, an unknown activation, a scale that is none.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        hidden: Sequence[int] = (128, 128, 128),
        *,
        activation: Activation = "silu",
        features: int = 16,
        scale: float = 1.0,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        self.event_shape, self.features, self.scale, self.context_dim = recipe.check_network(
            event_shape, features, scale, context_dim
        )
        size = math.prod(self.event_shape)
        inputs = size + self.features + recipe.context_size(self.context_dim)
        self.mlp = MLP(inputs, size, hidden, activation=activation, residual=True)

    def forward(
        self, x: Float[Tensor, "n ..."], rho: Float[Tensor, " n"], context: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, "n ..."]:
        """ρ s(x, ρ) of each row.

        Args:
            x: (n, *event_shape), data plus noise.
            rho: (n,) the noise's standard deviations.
            context: (n, context_dim + 1), or None without one.
        """
        level = sdes.rows(rho, x)
        flat = embedding.scaled_input(x, level, self.scale).reshape(len(x), -1)
        seen = [flat, embedding.fourier(rho, self.features), *([] if context is None else [context])]
        output = self.mlp(torch.cat(seen, dim=1)).reshape(x.shape)
        return embedding.scaled_score(x, level, self.scale, output)

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them."""
        return arguments.spec(
            "ScoreMLP",
            {
                "event_shape": self.event_shape,
                "hidden": self.mlp.hidden,
                "activation": self.mlp.activation,
                "features": self.features,
                "scale": self.scale,
                "context_dim": self.context_dim,
            },
        )


class ScoreUNet(torch.nn.Module):
    r"""The scaled score of images, by residual convolutions at falling and rising resolutions with connections between.

    Each level of resolution has one residual block on the way down and one on the way up; the level of noise (and the
    context) is added to each block's channels through a perceptron. Input and output are as in `ScoreMLP`.

    Ronneberger, Fischer & Brox 2015, U-Net; Ho, Jain & Abbeel 2020, Denoising diffusion probabilistic models.

    Args:
        event_shape: (channels, height, width) of an image, of any size.
        channels: of each level, the resolution halved from one to the next.
        activation: its name, or a function.
        features: how many Fourier features of log ρ, even.
        scale: ς, the standard deviation of the data.
        context_dim: as of `ScoreMLP`.

    Raises:
        ValueError: as `ScoreMLP`, or a shape that is no image's.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        *,
        activation: Activation = "silu",
        features: int = 16,
        scale: float = 1.0,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        colours = arguments.image_shape("event_shape", event_shape)[0]
        arguments.activation(activation)
        self.event_shape, self.features, self.scale, self.context_dim = recipe.check_network(
            event_shape, features, scale, context_dim
        )
        self.channels, self.activation = arguments.channels(channels), activation
        width = self.channels[-1]
        inputs = self.features + recipe.context_size(self.context_dim)
        self.embed = MLP(inputs, width, (width,), activation=activation)
        self.first = Conv(2, colours, self.channels[0], 3, padding="same")
        self.down = torch.nn.ModuleList([Block(c, c, width, activation) for c in self.channels])
        self.halve = torch.nn.ModuleList(
            Conv(2, low, high, 3, stride=2, padding="same")
            for low, high in zip(self.channels[:-1], self.channels[1:], strict=True)
        )
        self.up = torch.nn.ModuleList(
            Block(low + high, low, width, activation)
            for low, high in reversed(list(zip(self.channels[:-1], self.channels[1:], strict=True)))
        )
        self.last = Conv(2, self.channels[0], colours, 3, padding="same")

    def forward(
        self, x: Float[Tensor, "n c h w"], rho: Float[Tensor, " n"], context: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n c h w"]:
        """ρ s(x, ρ) of each row, see `ScoreMLP`.

        Args:
            x: (n, channels, height, width), data plus noise.
            rho: (n,) the noise's standard deviations.
            context: (n, context_dim + 1), or None without one.
        """
        act, level = activation_function(self.activation), sdes.rows(rho, x)
        told = embedding.fourier(rho, self.features)
        told = act(self.embed(told if context is None else torch.cat([told, context], dim=1)))
        h = self.first(embedding.scaled_input(x, level, self.scale))
        kept = []
        for number, block in enumerate(self.down):
            h = block(h, told)
            if number < len(self.halve):
                kept.append(h)
                h = self.halve[number](h)
        for block in self.up:
            beside = kept.pop()
            h = h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, : beside.shape[2], : beside.shape[3]]
            h = block(torch.cat([h, beside], dim=1), told)
        return embedding.scaled_score(x, level, self.scale, self.last(act(h)))

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them."""
        return arguments.spec(
            "ScoreUNet",
            {
                "event_shape": self.event_shape,
                "channels": self.channels,
                "activation": self.activation,
                "features": self.features,
                "scale": self.scale,
                "context_dim": self.context_dim,
            },
        )


class Block(torch.nn.Module):
    """Two convolutions beside a connection, the level of noise added between them.

    Args:
        inputs: channels that come.
        outputs: channels that go.
        width: of what is told.
        activation: its name, or a function.
    """

    def __init__(self, inputs: int, outputs: int, width: int, activation: Activation) -> None:
        super().__init__()
        self.one = Conv(2, inputs, outputs, 3, padding="same")
        self.two = Conv(2, outputs, outputs, 3, padding="same")
        self.tell = MLP(width, outputs, (), activation=activation)
        self.beside = None if inputs == outputs else Conv(2, inputs, outputs, 1)
        self.activation = activation

    def forward(self, h: Float[Tensor, "n c y x"], told: Float[Tensor, "n w"]) -> Float[Tensor, "n d y x"]:
        """The block's output.

        Args:
            h: (n, channels, height, width).
            told: (n, width).
        """
        act = activation_function(self.activation)
        inner = act(self.one(act(h)) + self.tell(told)[:, :, None, None])
        direct = h if self.beside is None else self.beside(h)
        return direct + self.two(inner)


class GaussianScore(torch.nn.Module):
    r"""The scaled score of a normal law, exact at every level of noise: the linear score.

    .. math:: \rho s(x, \rho) = -\rho (L L^\top + \rho^2 I)^{-1} (x - \mu)

    Score matching finds the mean and the covariance :math:`L L^\top` of the data; whoever has them can set them.

    Args:
        event_shape: of a datum, which is flattened; for few entries.

    Raises:
        ValueError: a shape that is none.
    """

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.event_shape, self.context_dim = recipe.check_shape(event_shape), 0
        size = math.prod(self.event_shape)
        self.loc = torch.nn.Parameter(torch.zeros(size))
        self.factor = torch.nn.Parameter(torch.eye(size))

    def forward(
        self, x: Float[Tensor, "n ..."], rho: Float[Tensor, " n"], context: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, "n ..."]:
        """ρ s(x, ρ) of each row.

        Args:
            x: (n, *event_shape), data plus noise.
            rho: (n,) the noise's standard deviations.
            context: none.
        """
        return (-rho[:, None] * self._white(x, rho)).reshape(x.shape)

    def log_density(
        self, x: Float[Tensor, "n ..."], rho: Float[Tensor, " n"], context: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, " n"]:
        r"""log N(x; μ, L L^T + ρ² I) of each row, without its constant.

        Args:
            x: (n, *event_shape), data plus noise.
            rho: (n,) the noise's standard deviations.
            context: none.
        """
        return -0.5 * ((x.reshape(len(x), -1) - self.loc) * self._white(x, rho)).sum(-1)

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them."""
        return {"network": "GaussianScore", "event_shape": list(self.event_shape)}

    def _white(self, x: Tensor, rho: Tensor) -> Tensor:
        covariance = self.factor @ self.factor.T
        noisy = covariance + (rho * rho)[:, None, None] * torch.eye(len(covariance), dtype=x.dtype, device=x.device)
        return torch.linalg.solve(noisy, (x.reshape(len(x), -1) - self.loc)[..., None])[..., 0]


class Guided(torch.nn.Module):
    r"""Another network's scores beside the gradient of a log-likelihood, :math:`\rho s + w \rho \nabla \ell(x, \rho)`.

    Args:
        network: of scaled scores.
        log_likelihood: (x, ρ) to (n,).
        weight: w.
    """

    made_by: ClassVar[str] = "guided"

    def __init__(self, network: Any, log_likelihood: Any, weight: float) -> None:
        super().__init__()
        self.network, self.log_likelihood, self.weight = network, log_likelihood, weight

    def forward(
        self, x: Float[Tensor, "n ..."], rho: Float[Tensor, " n"], context: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, "n ..."]:
        """ρ times the sum of the scores.

        Args:
            x: (n, *event_shape), data plus noise.
            rho: (n,) the noise's standard deviations.
            context: as of the network.
        """
        own = self.network(x, rho) if context is None else self.network(x, rho, context)
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_()
            pull = torch.autograd.grad(self.log_likelihood(at, rho).sum(), at, create_graph=x.requires_grad)[0]
        return own + self.weight * sdes.rows(rho, x) * pull


class Judged(torch.nn.Module):
    """Another network's scores beside a density of the data that is known up to a constant.

    Args:
        network: of scaled scores.
        log_prob: x to (n,) nats.
    """

    made_by: ClassVar[str] = "with_density"

    def __init__(self, network: Any, log_prob: Any) -> None:
        super().__init__()
        self.network, self.log_prob = network, log_prob

    def forward(
        self, x: Float[Tensor, "n ..."], rho: Float[Tensor, " n"], context: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, "n ..."]:
        """The network's.

        Args:
            x: (n, *event_shape), data plus noise.
            rho: (n,) the noise's standard deviations.
            context: as of the network.
        """
        return self.network(x, rho) if context is None else self.network(x, rho, context)

    def log_density(
        self, x: Float[Tensor, "n ..."], rho: Float[Tensor, " n"], context: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, " n"]:
        """That of the data, whatever the noise.

        Args:
            x: (n, *event_shape).
            rho: (n,).
            context: as of the network.
        """
        value = self.log_prob(x)
        recipe.check_density(tuple(value.shape), len(x))
        return value


NETWORKS: dict[str, Any] = {"ScoreMLP": ScoreMLP, "ScoreUNet": ScoreUNet, "GaussianScore": GaussianScore}


def build_network(spec: Mapping[str, Any]) -> Any:
    """A network again from what its ``spec()`` returned, with new parameters.

    Args:
        spec: the network's name and its arguments.

    Returns:
        The network.

    Raises:
        ValueError: an unknown network.
    """
    network, kwargs = arguments.of_spec(spec, NETWORKS)
    return network(**kwargs)
