"""Flows of other libraries with deepgen's sizes: 5 transforms, networks of 2 x 128, 8 bins on [-5, 5].

Optional: ``pip install deepgen[bench]`` brings zuko, nflows, FlowJAX and paramax.
"""

from itertools import pairwise
from typing import Any

TRANSFORMS, HIDDEN, BINS, BOUND = 5, 128, 8, 5.0


def flowjax(name: str, size: int, key: Any) -> Any:
    """A flow of FlowJAX.

    Args:
        name: "NSF", "RealNVP" or "MAF".
        size: dimensions.
        key: for its first parameters.

    Returns:
        The distribution, a pytree.
    """
    import jax.numpy as jnp
    from flowjax.bijections import Affine, RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow, masked_autoregressive_flow

    spline = RationalQuadraticSpline(knots=BINS - 1, interval=BOUND)  # the inner ones
    make = masked_autoregressive_flow if name == "MAF" else coupling_flow
    return make(
        key,
        base_dist=Normal(jnp.zeros(size), jnp.ones(size)),
        transformer=spline if name == "NSF" else Affine(),
        flow_layers=TRANSFORMS,
        nn_width=HIDDEN,
        nn_depth=2,
    )


def zuko(name: str, size: int) -> Any:
    """A flow of zuko.

    Args:
        name: "NSF", "RealNVP" or "MAF".
        size: dimensions.

    Returns:
        The module; a call of it gives the distribution.
    """
    import torch
    import zuko

    hidden = {"hidden_features": (HIDDEN, HIDDEN)}
    if name == "MAF":
        return zuko.flows.MAF(size, transforms=TRANSFORMS, **hidden)
    laws: dict[str, dict[str, Any]] = {
        "NSF": {
            "univariate": lambda *shape: zuko.transforms.MonotonicRQSTransform(*shape, bound=BOUND),
            "shapes": [(BINS,), (BINS,), (BINS - 1,)],
        },
        "RealNVP": {},
    }
    masks = [torch.arange(size) % 2 == i % 2 for i in range(TRANSFORMS)]
    return zuko.flows.Flow(
        [zuko.flows.GeneralCouplingTransform(size, mask=mask, **laws[name], **hidden) for mask in masks],
        zuko.flows.UnconditionalDistribution(
            zuko.distributions.DiagNormal, torch.zeros(size), torch.ones(size), buffer=True
        ),
    )


def nflows(name: str, size: int) -> Any:
    """A flow of nflows.

    Args:
        name: "NSF", "RealNVP" or "MAF".
        size: dimensions.

    Returns:
        The module, with ``log_prob`` and ``sample``.
    """
    import torch
    from nflows import distributions, flows, transforms

    def network(inputs: int, outputs: int) -> Any:
        class Conditioner(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                sizes = (inputs, HIDDEN, HIDDEN)
                parts = [p for a, b in pairwise(sizes) for p in (torch.nn.Linear(a, b), torch.nn.ReLU())]
                self.layers = torch.nn.Sequential(*parts, torch.nn.Linear(HIDDEN, outputs))
                self.hidden_features = 1  # nflows divides a spline's widths by its square root

            def forward(self, x: torch.Tensor, context: Any = None) -> torch.Tensor:
                return self.layers(x)

        return Conditioner()

    made = []
    for i in range(TRANSFORMS):
        mask = (torch.arange(size) % 2 == i % 2).int()
        if name == "NSF":
            made.append(
                transforms.PiecewiseRationalQuadraticCouplingTransform(
                    mask, network, num_bins=BINS, tails="linear", tail_bound=BOUND
                )
            )
        elif name == "RealNVP":
            made.append(transforms.AffineCouplingTransform(mask, network))
        else:
            made.append(
                transforms.MaskedAffineAutoregressiveTransform(size, HIDDEN, num_blocks=1, use_residual_blocks=False)
            )
            made.append(transforms.ReversePermutation(size))
    return flows.Flow(transforms.CompositeTransform(made), distributions.StandardNormal([size]))


def pyros_own(name: str, size: int) -> tuple[Any, Any]:
    """A flow of Pyro's own transforms.

    Args:
        name: "NSF", "RealNVP" or "MAF".
        size: dimensions.

    Returns:
        The modules that hold its parameters, and the distribution.
    """
    import pyro.distributions as dist
    import torch
    from pyro.distributions import transforms
    from pyro.nn import DenseNN

    made: list[Any] = []
    modules = []
    for _ in range(TRANSFORMS):
        if name == "NSF":
            kept, moved = size // 2, size - size // 2
            network = DenseNN(kept, [HIDDEN, HIDDEN], [moved * BINS, moved * BINS, moved * (BINS - 1)])
            part: Any = transforms.SplineCoupling(
                size, kept, network, count_bins=BINS, bound=BOUND, order="quadratic", identity=True
            )
        elif name == "RealNVP":
            part = transforms.affine_coupling(size, [HIDDEN, HIDDEN])
        else:
            part = transforms.affine_autoregressive(size, [HIDDEN, HIDDEN])
        modules.append(part)
        made += [part.inv if name == "MAF" else part, transforms.permute(size, torch.arange(size).flip(0))]
    base = dist.Normal(torch.zeros(size), torch.ones(size)).to_event(1)
    return torch.nn.ModuleList(modules), dist.TransformedDistribution(base, made[:-1])
