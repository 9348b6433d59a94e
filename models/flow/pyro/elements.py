"""The laws by which couplings and autoregressive transforms move one number, in Pyro."""

from typing import Any

import torch

from deepgen.models.flow import affine, spline, spline_gradient


class _RationalQuadratic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, parameters: torch.Tensor, bound: float, inverse: bool) -> Any:
        place = spline.find(x.clamp(-bound, bound), parameters, bound, inverse=inverse)
        ctx.save_for_backward(x, parameters, *place)
        ctx.settings = bound, inverse
        return spline.carry(x, place, bound, inverse=inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        bound, inverse = ctx.settings
        (x, parameters, *rest), (value, log_slope) = ctx.saved_tensors, gradients
        # what is itself to be differentiated has to see how the bin depends on the parameters
        place = None if torch.is_grad_enabled() else spline.Bin(*rest)
        found = spline_gradient.cotangent(x, parameters, value, log_slope, bound, inverse=inverse, place=place)
        return (*found, None, None)


def rational_quadratic(
    x: torch.Tensor, parameters: torch.Tensor, bound: float, inverse: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """`deepgen.models.flow.spline.spline` with its derivatives in closed form.

    Args:
        x: values.
        parameters: (3K - 1, *shape).
        bound: where the tails begin.
        inverse: whether the spline is inverted.

    Returns:
        Values and log-slopes.
    """
    return _RationalQuadratic.apply(x, parameters, bound, inverse)


def additive(x: torch.Tensor, parameters: torch.Tensor, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """`deepgen.models.flow.affine.shift`."""
    return affine.shift(x, parameters, inverse=inverse)


def scaled(
    x: torch.Tensor, parameters: torch.Tensor, inverse: bool, bound: float = affine.LOG_SCALE
) -> tuple[torch.Tensor, torch.Tensor]:
    """`deepgen.models.flow.affine.affine`."""
    # gradients of a pair are stacked, those of two indices are added up as two arrays of zeros with one half set
    return affine.affine(x, parameters.unbind(0), inverse=inverse, bound=bound)
