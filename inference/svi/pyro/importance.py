"""Importance-weighted objectives as objectives of Pyro's own SVI: `IWAE` and `DReG`."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pyro
import torch
from pyro import distributions as dist
from pyro import infer, poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from deepgen import checks
from deepgen.inference.svi import importance_bound as bound
from deepgen.inference.svi.pyro.traces import check_differentiable, checked, draw_traces, log_density

_PARTICLES = "num_particles_vectorized"

Traces = tuple[poutine.Trace, poutine.Trace]


class _Weighed(NamedTuple):
    """Draws of every row in the rows' layout, (k, *rows): log w = ``value`` - ``drawn``, and the rows' scale.

    Attributes:
        value: log p, and whatever of log q belongs to functions of other draws.
        drawn: log q of what the guide has drawn.
        scale: of the rows.
    """

    value: torch.Tensor
    drawn: torch.Tensor
    scale: Any


class _ImportanceWeighted(infer.ELBO):
    def __init__(self, num_particles: int, *, joint: bool = False, vectorize_particles: bool = True) -> None:
        bound.check_settings(num_particles, joint, vectorize_particles)
        self.joint = joint
        self._nesting: tuple[int, int, int] | None = None
        super().__init__(num_particles=num_particles, vectorize_particles=vectorize_particles)

    def __repr__(self) -> str:
        name, k, joint, vectorized = self._settings()
        return f"{name.__name__}(num_particles={k}, joint={joint}, vectorize_particles={vectorized})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ImportanceWeighted) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self._settings())

    def _settings(self) -> tuple[Any, ...]:
        return type(self), self.num_particles, self.joint, self.vectorize_particles

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number."""
        with torch.no_grad():
            return float(_loss(self._weigh(list(self._draw(model, guide, args, kwargs)))))

    @abstractmethod
    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters'."""

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Traces:
        return checked(*draw_traces(model, guide, args, kwargs), self.max_plate_nesting)

    def _draw(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        around_guide: AbstractContextManager[Any] | None = None,
    ) -> Iterator[Traces]:
        """The traces of all particles in one plate, or of one after another."""
        if self.vectorize_particles and self.num_particles > 1:
            nesting = 1 + self._plates(model, guide, args, kwargs)
            plate = pyro.plate(_PARTICLES, self.num_particles, dim=-nesting)
            try:
                traces = checked(*draw_traces(plate(model), plate(guide), args, kwargs, around_guide), nesting)
            except Exception as error:
                error.add_note(
                    f"This was in the plate of {self.num_particles} particles (dim {-nesting}), which model and guide "
                    "have to broadcast over. Where they do not, pass vectorize_particles=False."
                )
                raise
            yield traces
            return
        rows: poutine.Trace | None = None
        for _ in range(self.num_particles):
            if rows is not None and rows.nodes:
                # A row has K weights only where all draws are of the same subsampled rows.
                same_model, same_guide = (poutine.replay(fn, trace=rows) for fn in (model, guide))
                traces = draw_traces(same_model, same_guide, args, kwargs, around_guide)
            else:
                traces = draw_traces(model, guide, args, kwargs, around_guide)
            if rows is None:
                rows = _subsamples(traces)
            yield checked(*traces, self.max_plate_nesting)

    def _plates(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int:
        """How many batch dimensions model and guide have, found out once by a draw that leaves no trace."""
        owners = (id(getattr(model, "__self__", model)), id(getattr(guide, "__self__", guide)))
        if self._nesting is None or self._nesting[:2] != owners:
            devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
            with torch.random.fork_rng(devices=devices), torch.no_grad(), poutine.block():
                traces = checked(*draw_traces(model, guide, args, kwargs), math.inf)
                _weigh(*traces, self.joint)
            sites = [site for trace in traces for site in _samples(trace).values()]
            frames = [-frame.dim for site in sites for frame in site["cond_indep_stack"] if frame.dim is not None]
            batches = [len(site["fn"].batch_shape) for site in sites]
            self._nesting = (*owners, max([*frames, *batches], default=0))
        return self._nesting[2]

    def _weigh(self, particles: list[Traces]) -> _Weighed:
        found = [_weigh(*traces, self.joint) for traces in particles]
        if len(found) == 1 and found[0].value.ndim and self.vectorize_particles and self.num_particles > 1:
            return found[0]
        value, drawn = (torch.stack([part[i] for part in found]) for i in (0, 1))
        return _Weighed(value, drawn, found[0].scale)


class IWAE(_ImportanceWeighted):
    r"""The negative importance-weighted bound of each row, summed over the rows.

    .. math:: \mathrm{loss} = -\sum_n s_n \log \frac1K \sum_{k=1}^K w_{nk}, \quad
        w_{nk} = \frac{p(x_n, z_{nk})}{q(z_{nk} \mid x_n)}, \quad z_{nk} \sim q(z \mid x_n)

    Its expectation lies between the ELBO (K = 1, by Monte Carlo) and log p(x), and rises with K. The rows are those of
    the plates that every site of model and guide stands in; a row's log densities are summed over all its other
    dimensions before its K weights are averaged. s_n is the row's scale, of subsampled plates and scale handlers: it
    multiplies the row's bound, and has to be the same for all sites of a row. Masked elements have log density zero.
    Auxiliary sites of the guide count as part of log q; latents that only the model has are drawn from the model and
    cancel. Latents without a reparameterised sampler are refused.

    Args:
        num_particles: K, how many draws of the latents each row has.
        joint: one weight for all rows together, which a latent that all rows share makes necessary: a bound of
            log p(x_1, ..., x_N) that is right, but looser the more rows there are. Without it a site outside of the
            rows' plate is refused.
        vectorize_particles: draw all particles at once, in a plate to the left of all others, which model and guide
            have to broadcast over (deepgen's programs do), instead of one after another.

    Raises:
        ValueError: ``num_particles`` below 1.
        TypeError: a ``num_particles`` that is no integer, or an option that is no boolean.

    References:
        Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders".
    """

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters'."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return float(loss.detach())

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The loss, as a tensor to be differentiated."""
        return _loss(self._weigh(list(self._draw(model, guide, args, kwargs))))


class DReG(_ImportanceWeighted):
    r"""`IWAE` with the doubly reparameterised gradient of the guide's parameters.

    .. math:: \nabla_\phi = \sum_k \tilde w_k^2 \, \frac{\partial \log w_k}{\partial z_k} \frac{d z_k}{d \phi}, \quad
        \nabla_\theta = \sum_k \tilde w_k \, \frac{\partial \log p(x, z_k)}{\partial \theta}, \quad
        \tilde w_k = \frac{w_k}{\sum_j w_j}

    The value is that of `IWAE`, and so is the gradient's expectation. The gradient of the guide's parameters has less
    variance, all the more the larger K is and the closer the guide comes to the posterior. z_k are all latents of a
    draw together: log w_k is differentiated by each of them with the others and the parameters held, and dz_k/dphi
    follows the whole path, through latents that other latents depend on. Latents that are a function of others (a
    ``Delta``, as automatic guides have them) are differentiated as functions. A parameter that model and guide share
    has the sum of both gradients. The model is evaluated once, forward and backward.

    Args:
        num_particles: K, how many draws of the latents each row has.
        joint: one weight for all rows together, as in `IWAE`.
        vectorize_particles: draw all particles at once, in a plate to the left of all others, which model and guide
            have to broadcast over (deepgen's programs do), instead of one after another.

    Raises:
        ValueError: ``num_particles`` below 1.
        TypeError: a ``num_particles`` that is no integer, or an option that is no boolean.

    References:
        Tucker, Lawson, Gu and Maddison 2019, "Doubly reparameterized gradient estimators for Monte Carlo objectives".
    """

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters'."""
        if isinstance(poutine.unwrap(guide), Messenger):
            raise checks.problem(
                "the guide of DReG",
                got=f"{type(poutine.unwrap(guide)).__name__}, which runs the model itself",
                expected="a guide that is a function of its own",
                fix="Use IWAE, which takes such guides, or an AutoGuide that is no messenger.",
            )
        cuts = _Cuts()
        weighed = self._weigh(list(self._draw(model, guide, args, kwargs, cuts)))
        log_weights = (weighed.value - weighed.drawn).detach()
        loss = _loss(weighed._replace(value=log_weights, drawn=torch.zeros_like(log_weights)))
        weights = bound.normalised_weights(log_weights)
        share = weights * weighed.scale
        by_density: Any = [None] * len(cuts.draws)
        if cuts.draws and weighed.drawn.requires_grad:
            # The draws alone: what the density's own parameters would get is what this estimator leaves out.
            values = [draw.value for draw in cuts.draws]
            by_density = torch.autograd.grad(
                (share * weighed.drawn).sum(), values, retain_graph=True, allow_unused=True
            )
        cuts.received.clear()
        if weighed.value.requires_grad:
            (-share * weighed.value).sum().backward(retain_graph=bool(cuts.draws))
        cuts.open = True
        roots, gradients = [], []
        for i, draw in enumerate(cuts.draws):
            parts = [part for part in (cuts.received.get(i), by_density[i]) if part is not None]
            if parts:
                vectorized = self.vectorize_particles and self.num_particles > 1
                k = slice(None) if vectorized else slice(draw.particle, draw.particle + 1)
                onto = bound.onto_draws(weights[k], draw.source.ndim + (not vectorized), draw.event_dim)
                roots.append(draw.source)
                gradients.append(sum(parts) * (onto if vectorized else onto[0]))
        if roots:
            torch.autograd.backward(roots, gradients, retain_graph=self.retain_graph)
        return float(loss)


class _Draw(NamedTuple):
    """A draw of the guide: as its sampler made it, and cut off from that as everything after it sees it."""

    source: torch.Tensor
    value: torch.Tensor
    event_dim: int
    particle: int


class _Cuts(Messenger):
    """Cuts each draw of a guide off from the path it came by: what the draw receives is noted and goes no further.

    Attributes:
        draws: in the order in which they were made.
        received: by position among them, the gradient that came back.
        open: whether gradients pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[_Draw] = []
        self.received: dict[int, torch.Tensor] = {}
        self.open = False
        self._particle = -1

    def __enter__(self) -> "_Cuts":
        self._particle += 1
        super().__enter__()
        return self

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg) or _is_delta(msg["fn"]) or not msg["value"].requires_grad:
            return
        source = msg["value"]
        msg["value"] = _Cut.apply(source, self, len(self.draws))
        self.draws.append(_Draw(source, msg["value"], msg["fn"].event_dim, self._particle))


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: torch.Tensor, cuts: _Cuts, index: int) -> torch.Tensor:
        ctx.cuts, ctx.index = cuts, index
        return source.view_as(source)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        if ctx.cuts.open:
            return gradients[0], None, None
        ctx.cuts.received[ctx.index] = gradients[0]
        return None, None, None


def _loss(weighed: _Weighed) -> torch.Tensor:
    return -(weighed.scale * bound.log_mean_exp(weighed.value - weighed.drawn)).sum()


def _weigh(model_trace: poutine.Trace, guide_trace: poutine.Trace, joint: bool) -> _Weighed:
    """The log weights of one draw (of all, where the particles have a plate), summed down to the rows."""
    p, q = _samples(model_trace), _samples(guide_trace)
    check_differentiable(p, q)
    counted = {f"{name} of the model": site for name, site in p.items()}
    counted |= {f"{name} of the guide": site for name, site in q.items()}
    densities = {
        label: log_density(site)
        for label, site in counted.items()
        # latents that only the model has are drawn from it: their density is in p and in q
        if label.endswith("guide") or site["is_observed"] or site["name"] in q
    }
    frames = {
        label: {
            frame.name: bound.Plate(frame.name, frame.dim, int(frame.size))
            for frame in site["cond_indep_stack"]
            if frame.dim is not None
        }
        for label, site in counted.items()
    }
    particles = next((found[_PARTICLES] for found in frames.values() if _PARTICLES in found), None)
    k = 1 if particles is None else particles.size
    plates = {label: [plate for name, plate in found.items() if name != _PARTICLES] for label, found in frames.items()}
    sizes = {label: math.prod(site["fn"].batch_shape) // k for label, site in counted.items()}
    sizes |= {label: density.numel() // k for label, density in densities.items()}
    for label, site in counted.items():
        # a plate that is a loop: its rows are sites of their own
        sizes[label] *= math.prod(int(frame.size) for frame in site["cond_indep_stack"] if frame.dim is None)
    rows = bound.row_plates(plates, sizes, joint=joint)
    scale = _one_scale({label: counted[label]["scale"] for label in densities}, rows)
    layout = rows if particles is None else {**rows, particles.dim: k}
    terms = {label: bound.sum_to_rows(density, layout) for label, density in densities.items()}
    value = drawn = torch.zeros_like(next(iter(terms.values()), torch.zeros(())))
    for label, term in terms.items():
        if not label.endswith("guide"):
            value = value + term
        elif counted[label]["is_observed"] or _is_delta(counted[label]["fn"]):
            value = value - term
        else:
            drawn = drawn + term
    return _Weighed(value, drawn, scale)


def _samples(trace: poutine.Trace) -> dict[str, Any]:
    return {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}


def _one_scale(scales: Mapping[str, Any], rows: Mapping[int, int]) -> Any:
    """The scale that all sites have."""
    first, scale = next(iter(scales.items()), ("", 1.0))
    for label, other in scales.items():
        if other is not scale and not _equal(scale, other):
            raise bound.different_scales(first, label)
    bound.check_scale(first, tuple(scale.shape) if isinstance(scale, torch.Tensor) else (), rows)
    return scale


def _equal(a: Any, b: Any) -> bool:
    a, b = (torch.as_tensor(value) for value in (a, b))
    return a.shape == b.shape and bool((a == b).all())


def _is_delta(fn: Any) -> bool:
    while isinstance(fn, torch.distributions.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        fn = fn.base_dist
    return isinstance(fn, dist.Delta)


def _subsamples(traces: Traces) -> poutine.Trace:
    """The sites of subsampled indices."""
    kept = poutine.Trace()
    for trace in traces:
        for name, site in trace.nodes.items():
            if site_is_subsample(site) and name not in kept:
                kept.add_node(name, **site)
    return kept
