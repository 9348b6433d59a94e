"""Automatic guides by flows in Pyro."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pyro.infer.autoguide import AutoContinuous
from pyro.infer.autoguide.initialization import init_to_feasible

from deepgen.models.flow import affine, guide
from deepgen.models.flow.pyro.linear import ActNorm
from deepgen.models.flow.pyro.program import Flow
from deepgen.models.flow.pyro.transforms import FlowTransform, GuideFlow


class AutoFlow(AutoContinuous):
    r"""A guide for any model with continuous latents: a flow over all of them together, unconstrained.

    .. math:: z \sim p(z), \quad u = \mu + \sigma \odot f_T(\cdots f_1(z)), \quad \theta = c(u)

    with c from the real numbers to the latents' supports. The affine map at its end starts at a feasible point; with
    transforms that start as the identity, as all of this room do, the guide is at first a small diagonal normal, and
    it can always be one. It is an ``AutoContinuous``: it goes into ``SVI``, and then, trained, into ``NeuTraReparam``
    (Hoffman, Sountsov, Dillon, Langmore, Tran & Vasudevan 2019), which makes of it a preconditioner of NUTS.

    For training, maps with a fast way forward are best: ``"iaf"``, ``"realnvp"``, ``"nsf"``. Those of ``"maf"`` draw
    entry by entry.

    Rezende & Mohamed 2015, Variational inference with normalizing flows; Kucukelbir, Tran, Ranganath, Gelman & Blei
    2017, Automatic differentiation variational inference.

    Args:
        model: any model whose latents are continuous and do not change in number.
        flow: ``"realnvp"``, ``"nsf"``, ``"maf"`` or ``"iaf"``, or a list of transforms of as many entries as the
            latents have unconstrained.
        prefix: of the guide's own sites.
        init_loc_fn: where the guide starts, a strategy of Pyro's; None for ``init_to_feasible``.
        init_scale: the standard deviation of each unconstrained latent at first.
        options: of a named flow, such as ``{"num_transforms": 4, "hidden": (32, 32)}``, which are the defaults; and
            ``"max_log_scale": 2.0`` of the affine ones, whose loss a rare draw would else carry away.

    Attributes:
        flow: the flow, once the model has been run; SVI trains it where it is.

    Raises:
        ValueError: an unknown name, options beside transforms, a scale that is not positive; and, when the model is
            first run, transforms that do not fit its latents.
        TypeError: options that the named flow does not have.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        flow: Any = "realnvp",
        *,
        prefix: str = "auto",
        init_loc_fn: Callable[..., Any] | None = None,
        init_scale: float = 0.1,
        options: Mapping[str, Any] | None = None,
    ):
        guide.check_arguments(flow, init_scale, options)
        super().__init__(model, init_loc_fn=init_to_feasible if init_loc_fn is None else init_loc_fn)
        self._pyro_name = prefix
        self._wanted, self._init_scale, self._options = flow, init_scale, options

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        size, wanted, location = self.latent_dim, self._wanted, self._init_loc()
        start = ActNorm(size).to(location)
        with torch.no_grad():
            start.shift.copy_(location)
            start.raw_log_scale.fill_(float(affine.raw_log_scale(np.log(self._init_scale))))
        if isinstance(wanted, str):
            guide.check_size(wanted, size, (size,), 0)
            options = {**guide.defaults(wanted), **(self._options or {})}
            transforms = tuple(getattr(Flow, wanted)((size,), **options).transforms)
        else:
            transforms = tuple(wanted)
            chosen = Flow(size, transforms)
            guide.check_size(wanted, size, chosen.event_shape, chosen.context_dim)
        self.flow = Flow(size, (*transforms, start)).to(location)

    def get_base_dist(self) -> Any:
        """The law of z, a standard normal."""
        return self.flow.distribution().base_dist

    def get_transform(self, *args: Any, **kwargs: Any) -> FlowTransform:
        """The flow as one transform.

        Args:
            args: of the model; the flow does not depend on them.
            kwargs: of the model.

        Returns:
            From z to the unconstrained latents.
        """
        return _Composed(list(self.flow.transforms))

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """The law of the unconstrained latents.

        Args:
            args: of the model; the flow does not depend on them.
            kwargs: of the model.

        Returns:
            A distribution, which has its latest draw's density at hand.
        """
        return GuideFlow(self.get_base_dist(), list(self.flow.transforms))


class _Composed(FlowTransform):
    """Transforms one after the other, the log-Jacobian of the latest image at hand."""

    def __init__(self, transforms: Sequence[Any]):
        super().__init__()
        self.transforms, self.context_dim = transforms, 0
        self._latest: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        total = x.new_zeros(x.shape[:-1])
        for transform in self.transforms:
            y, log_det = _both(transform, x)
            total, x = total + log_det, y
        return x, total

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        total = y.new_zeros(y.shape[:-1])
        for transform in reversed(self.transforms):
            x, log_det = _both(transform, y, inverse=True)
            total, y = total + log_det, x
        return y, total

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        y, log_det = self.forward_and_log_det(x)
        self._latest = x, y, log_det
        return y

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self._latest is not None and self._latest[0] is x and self._latest[1] is y:
            return self._latest[2]
        return super().log_abs_det_jacobian(x, y)


def _both(transform: Any, value: torch.Tensor, inverse: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The image (or what is mapped to the value) and the log-Jacobian, of any transform of vectors."""
    if isinstance(transform, FlowTransform):
        return transform.inverse_and_log_det(value) if inverse else transform.forward_and_log_det(value)
    found = transform.inv(value) if inverse else transform(value)
    log_det = -transform.log_abs_det_jacobian(found, value) if inverse else transform.log_abs_det_jacobian(value, found)
    return found, log_det if transform.codomain.event_dim else log_det.sum(-1)
