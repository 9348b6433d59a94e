"""How flows are made in Pyro: NICE, RealNVP, masked and inverse autoregressive flows, splines, continuous flows."""

from collections.abc import Callable, Sequence
from typing import Any

from deepgen.models.flow import affine, recipe, shapes
from deepgen.models.flow.pyro import linear
from deepgen.models.flow.pyro.autoregressive import AffineAutoregressive, SplineAutoregressive
from deepgen.models.flow.pyro.continuous import CNF
from deepgen.models.flow.pyro.couplings import AdditiveCoupling, AffineCoupling, SplineCoupling


def nice(
    cls: Any,
    event_shape: Sequence[int],
    *,
    num_transforms: int = 4,
    hidden: Sequence[int] = (128, 128),
    activation: str = "gelu",
    base: str = "logistic",
    mixing: str = "permutation",
    context_dim: int = 0,
    logit: float | None = None,
    data: Any | None = None,
) -> Any:
    """A flow of additive couplings, then one scale for each entry.

    Dinh, Krueger & Bengio 2015, NICE: non-linear independent components estimation.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        num_transforms: how many couplings, whose moved halves take turns.
        hidden: the widths of each network's hidden layers.
        activation: of the networks.
        base: the law of the base's entries, ``"normal"`` or ``"logistic"``.
        mixing: what stands between pairs of couplings: a fixed ``"permutation"``, ``"lu"`` for one and a learned linear
            map, or ``"none"``.
        context_dim: of a context that the density is conditional on; 0 for none.
        logit: for data in [0, 1], the alpha of a logit of them; None for data of any real numbers.
        data: (n, *event_shape), NaN allowed, a large first batch; the flow then starts with its means and variances.

    Returns:
        The program, untrained: the base moved and scaled to the data.

    Raises:
        ValueError: an argument that no flow has, or data that do not fit.
    """

    make = _couplings(AdditiveCoupling, hidden, activation, context_dim)
    return _flow(
        cls,
        event_shape,
        make,
        num_transforms,
        2,
        base=base,
        mixing=mixing,
        logit=logit,
        data=data,
        scaled=True,
    )


def realnvp(
    cls: Any,
    event_shape: Sequence[int],
    *,
    num_transforms: int = 6,
    hidden: Sequence[int] = (128, 128),
    activation: str = "gelu",
    max_log_scale: float = affine.NETWORK_LOG_SCALE,
    base: str = "normal",
    mixing: str = "permutation",
    context_dim: int = 0,
    logit: float | None = None,
    data: Any | None = None,
) -> Any:
    """A flow of affine couplings.

    Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        num_transforms: how many couplings, whose moved halves take turns.
        hidden: the widths of each network's hidden layers.
        activation: of the networks.
        max_log_scale: the log-scales that the networks give are kept within plus and minus this.
        base: the law of the base's entries, ``"normal"`` or ``"logistic"``.
        mixing: what stands between pairs of couplings: a fixed ``"permutation"``, ``"lu"`` for one and a learned linear
            map, or ``"none"``.
        context_dim: of a context that the density is conditional on; 0 for none.
        logit: for data in [0, 1], the alpha of a logit of them; None for data of any real numbers.
        data: (n, *event_shape), NaN allowed, a large first batch; the flow then starts with its means and variances.

    Returns:
        The program, untrained: the base moved and scaled to the data.

    Raises:
        ValueError: an argument that no flow has, or data that do not fit.
    """

    make = _couplings(AffineCoupling, hidden, activation, context_dim, max_log_scale=max_log_scale)
    return _flow(cls, event_shape, make, num_transforms, 2, base=base, mixing=mixing, logit=logit, data=data)


def maf(
    cls: Any,
    event_shape: Sequence[int],
    *,
    num_transforms: int = 5,
    hidden: Sequence[int] = (128, 128),
    activation: str = "gelu",
    max_log_scale: float = affine.NETWORK_LOG_SCALE,
    base: str = "normal",
    mixing: str = "none",
    context_dim: int = 0,
    logit: float | None = None,
    data: Any | None = None,
) -> Any:
    """A masked autoregressive flow: densities in one pass, draws entry by entry.

    Papamakarios, Pavlakou & Murray 2017, Masked autoregressive flow for density estimation.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        num_transforms: how many transforms, whose orders take turns.
        hidden: the widths of each network's hidden layers.
        activation: of the networks.
        max_log_scale: the log-scales that the networks give are kept within plus and minus this.
        base: the law of the base's entries, ``"normal"`` or ``"logistic"``.
        mixing: what stands between the transforms: a fixed ``"permutation"``, ``"lu"`` for one and a learned linear
            map, or ``"none"``.
        context_dim: of a context that the density is conditional on; 0 for none.
        logit: for data in [0, 1], the alpha of a logit of them; None for data of any real numbers.
        data: (n, *event_shape), NaN allowed, a large first batch; the flow then starts with its means and variances.

    Returns:
        The program, untrained: the base moved and scaled to the data.

    Raises:
        ValueError: an argument that no flow has, or data that do not fit.
    """

    make = _autoregressive("inverse", hidden, activation, context_dim, max_log_scale)
    return _flow(cls, event_shape, make, num_transforms, 1, base=base, mixing=mixing, logit=logit, data=data)


def iaf(
    cls: Any,
    event_shape: Sequence[int],
    *,
    num_transforms: int = 5,
    hidden: Sequence[int] = (128, 128),
    activation: str = "gelu",
    max_log_scale: float = affine.NETWORK_LOG_SCALE,
    base: str = "normal",
    mixing: str = "none",
    context_dim: int = 0,
    logit: float | None = None,
    data: Any | None = None,
) -> Any:
    """An inverse autoregressive flow: draws in one pass, densities of given values entry by entry.

    Kingma et al. 2016, Improving variational inference with inverse autoregressive flow.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        num_transforms: how many transforms, whose orders take turns.
        hidden: the widths of each network's hidden layers.
        activation: of the networks.
        max_log_scale: the log-scales that the networks give are kept within plus and minus this.
        base: the law of the base's entries, ``"normal"`` or ``"logistic"``.
        mixing: what stands between the transforms: a fixed ``"permutation"``, ``"lu"`` for one and a learned linear
            map, or ``"none"``.
        context_dim: of a context that the density is conditional on; 0 for none.
        logit: for data in [0, 1], the alpha of a logit of them; None for data of any real numbers.
        data: (n, *event_shape), NaN allowed, a large first batch; the flow then starts with its means and variances.

    Returns:
        The program, untrained: the base moved and scaled to the data.

    Raises:
        ValueError: an argument that no flow has, or data that do not fit.
    """

    make = _autoregressive("forward", hidden, activation, context_dim, max_log_scale)
    return _flow(cls, event_shape, make, num_transforms, 1, base=base, mixing=mixing, logit=logit, data=data)


def nsf(
    cls: Any,
    event_shape: Sequence[int],
    *,
    num_transforms: int = 5,
    hidden: Sequence[int] = (128, 128),
    activation: str = "gelu",
    autoregressive: bool = False,
    num_bins: int = 8,
    bound: float = 5.0,
    base: str = "normal",
    mixing: str = "permutation",
    context_dim: int = 0,
    logit: float | None = None,
    data: Any | None = None,
) -> Any:
    """A neural spline flow, of couplings or autoregressive.

    Durkan, Bekasov, Murray & Papamakarios 2019, Neural spline flows.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        num_transforms: how many couplings, whose moved halves take turns.
        hidden: the widths of each network's hidden layers.
        activation: of the networks.
        autoregressive: whether every entry is moved given those before it, rather than a half given the other half.
        num_bins: of each spline.
        bound: beyond (-bound, bound), of data with unit variance, the splines are the identity.
        base: the law of the base's entries, ``"normal"`` or ``"logistic"``.
        mixing: what stands between pairs of couplings: a fixed ``"permutation"``, ``"lu"`` for one and a learned linear
            map, or ``"none"``.
        context_dim: of a context that the density is conditional on; 0 for none.
        logit: for data in [0, 1], the alpha of a logit of them; None for data of any real numbers.
        data: (n, *event_shape), NaN allowed, a large first batch; the flow then starts with its means and variances.

    Returns:
        The program, untrained: the base moved and scaled to the data.

    Raises:
        ValueError: an argument that no flow has, or data that do not fit.
    """

    def make(size: int, number: int) -> Any:
        options: dict[str, Any] = {
            "num_bins": num_bins,
            "bound": bound,
            "hidden": hidden,
            "activation": activation,
            "context_dim": context_dim,
        }
        if autoregressive:
            order = recipe.reversed_order(size, number)
            return SplineAutoregressive.mlp(size, order=order, **options)
        return SplineCoupling.mlp(recipe.mask(size, number), **options)

    pairs = 1 if autoregressive else 2
    return _flow(cls, event_shape, make, num_transforms, pairs, base=base, mixing=mixing, logit=logit, data=data)


def cnf(
    cls: Any,
    event_shape: Sequence[int],
    *,
    num_transforms: int = 1,
    num_probes: int | None = None,
    hidden: Sequence[int] = (64, 64),
    activation: str = "gelu",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    base: str = "normal",
    context_dim: int = 0,
    logit: float | None = None,
    data: Any | None = None,
) -> Any:
    """A continuous flow: a field carries the base to the data.

    Grathwohl, Chen, Bettencourt, Sutskever & Duvenaud 2019, FFJORD.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        num_transforms: how many fields, one after the other.
        num_probes: how many probes a training step estimates the divergence with, and of more than 32 entries
            `log_prob` too, see `CNF`; None for the exact divergence.
        hidden: the widths of each network's hidden layers.
        activation: of the networks, a smooth one.
        rtol: relative tolerance of the solves.
        atol: absolute tolerance.
        base: the law of the base's entries, ``"normal"`` or ``"logistic"``.
        context_dim: of a context that the density is conditional on; 0 for none.
        logit: for data in [0, 1], the alpha of a logit of them; None for data of any real numbers.
        data: (n, *event_shape), NaN allowed, a large first batch; the flow then starts with its means and variances.

    Returns:
        The program, untrained: the base moved and scaled to the data.

    Raises:
        ValueError: an argument that no flow has, or data that do not fit.
    """

    def make(size: int, number: int) -> Any:
        options: dict[str, Any] = {"num_probes": num_probes, "rtol": rtol, "atol": atol, "context_dim": context_dim}
        return CNF.mlp(size, hidden=hidden, activation=activation, **options)

    return _flow(cls, event_shape, make, num_transforms, 1, base=base, mixing="none", logit=logit, data=data)


def _couplings(
    kind: Any, hidden: Sequence[int], activation: str, context_dim: int, **own: Any
) -> Callable[[int, int], Any]:
    """From a flow's size and a coupling's number to the coupling, whose moved halves take turns."""

    def make(size: int, number: int) -> Any:
        mask = recipe.mask(size, number)
        return kind.mlp(mask, hidden=hidden, activation=activation, context_dim=context_dim, **own)

    return make


def _autoregressive(
    parallel: str, hidden: Sequence[int], activation: str, context_dim: int, max_log_scale: float
) -> Callable[[int, int], Any]:
    """From a flow's size and a transform's number to the transform, whose orders take turns."""

    def make(size: int, number: int) -> Any:
        return AffineAutoregressive.mlp(
            size,
            parallel=parallel,
            max_log_scale=max_log_scale,
            order=recipe.reversed_order(size, number),
            hidden=hidden,
            activation=activation,
            context_dim=context_dim,
        )

    return make


def _flow(
    cls: Any,
    event_shape: Sequence[int],
    make: Callable[[int, int], Any],
    num_transforms: int,
    every: int,
    *,
    base: str,
    mixing: str,
    logit: float | None,
    data: Any,
    scaled: bool = False,
) -> Any:
    """The transforms that ``make`` gives, mixed after ``every`` so many, then what leads to the data."""
    found = recipe.ends(event_shape, num_transforms=num_transforms, mixing=mixing, base=base, logit=logit, data=data)
    transforms: list[Any] = []
    for i in range(num_transforms):
        transforms.append(make(found.size, i))
        if (i + 1) % every == 0 and i + 1 < num_transforms and mixing != "none":
            transforms.append(linear.Permute(shapes.shuffled(found.size, i)))
            if mixing == "lu":
                transforms.append(linear.LULinear(found.size))
    if scaled or found.data is not None:
        transforms.append(linear.ActNorm(found.size, data=found.data))
    if logit is not None:
        transforms.append(linear.Logit(logit))
    if len(found.event_shape) > 1:
        transforms.append(linear.Unflatten(found.event_shape))
    return cls(found.size, transforms, base=base)
