"""Automatic guides by flows in NumPyro."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.infer.autoguide import AutoContinuous
from numpyro.infer.initialization import init_to_uniform

from deepgen.models.flow import affine, guide
from deepgen.models.flow.numpyro.linear import ActNorm
from deepgen.models.flow.numpyro.program import Flow
from deepgen.program.numpyro import declare


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
        init_loc_fn: where the guide starts, a strategy of NumPyro's; None for ``init_to_uniform``.
        init_scale: the standard deviation of each unconstrained latent at first.
        options: of a named flow, such as ``{"num_transforms": 4, "hidden": (32, 32)}``, which are the defaults; and
            ``"max_log_scale": 2.0`` of the affine ones, whose loss a rare draw would else carry away.
        key: for the weights of a named flow.

    Attributes:
        flow: the flow, once the model has been run; trained, ``with_params(guide.flow, params, name="auto_flow")``.

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
        key: jax.Array,
    ):
        guide.check_arguments(flow, init_scale, options)
        self._wanted, self._init_scale, self._options, self._key = flow, init_scale, options, key
        super().__init__(model, prefix=prefix, init_loc_fn=init_to_uniform if init_loc_fn is None else init_loc_fn)

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        size, wanted = self.latent_dim, self._wanted
        start = ActNorm(size)
        raw = jnp.full(size, affine.raw_log_scale(np.log(self._init_scale)), start.shift.dtype)
        found = [jnp.asarray(self._init_latent, start.shift.dtype), raw]
        start = eqx.tree_at(lambda t: [t.shift, t.raw_log_scale], start, found)
        if isinstance(wanted, str):
            guide.check_size(wanted, size, (size,), 0)
            options = {**guide.defaults(wanted), **(self._options or {})}
            transforms = getattr(Flow, wanted)((size,), **options, key=self._key).transforms
        else:
            transforms = tuple(wanted)
            chosen = Flow(size, transforms)
            guide.check_size(wanted, size, chosen.event_shape, chosen.context_dim)
        self.flow = Flow(size, (*transforms, start))

    def _get_posterior(self) -> dist.Distribution:
        return declare(f"{self.prefix}_flow", self.flow).distribution()

    def get_base_dist(self) -> dist.Distribution:
        """The law of z, a standard normal."""
        return self.flow.distribution().base_dist
