"""Spline couplings, affine couplings and masked autoregressive flows beside FlowJAX, zuko, nflows and Pyro's own.

43 dimensions, 5 transforms, networks of 2 x 128, 8 bins, Adam on 512 rows a step. Every library runs in the same loop:
a step compiled once where it is JAX, eager where it is torch. The peers are optional: ``pip install deepgen[bench]``.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from benchmarks.speed.timing import Row, median, seconds

SIZE, BATCH, TRANSFORMS, HIDDEN, BINS, BOUND = 43, 512, 5, 128, 8, 5.0
STEPS, ROWS, REPEATS = 20, 2048, 5
GOALS = {
    "NumPyro": {
        "NSF": {"training": 1.5, "density": 1.3, "sampling": 1.5},
        "RealNVP": {"training": 1.15, "density": 1.15, "sampling": 1.15},
        "MAF": {"training": 1.0, "density": 1.0, "sampling": 3.0},
    },
    "Pyro": {
        "NSF": dict.fromkeys(("training", "density", "sampling"), 1.25),
        "RealNVP": dict.fromkeys(("training", "density", "sampling"), 1.15),
        "MAF": dict.fromkeys(("training", "density", "sampling"), 1.0),
    },
}


class Contender(NamedTuple):
    """A flow of a library.

    Attributes:
        params: how many it has.
        training: `STEPS` steps of Adam.
        density: of `ROWS` rows.
        sampling: of `ROWS` rows.
    """

    params: int
    training: Callable[[], Any]
    density: Callable[[], Any]
    sampling: Callable[[], Any]


def data() -> np.ndarray:
    """Correlated normals, bent."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, SIZE)) @ (rng.normal(size=(SIZE, SIZE)) / SIZE**0.5)
    return (x + 0.3 * np.tanh(2 * x[:, ::-1])).astype(np.float32)


def jax_contender(flow: Any, log_prob: Callable[..., Any], sample: Callable[..., Any]) -> Contender:
    """A flow of any library in JAX, a pytree.

    Args:
        flow: the flow.
        log_prob: (flow, x) to the log densities.
        sample: (flow, key) to `ROWS` draws.
    """
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax
    import paramax

    x = jnp.asarray(data())
    adam = optax.adam(1e-3)
    params, static = eqx.partition(
        flow, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
    )

    @jax.jit
    def step(params: Any, state: Any, batch: jax.Array) -> Any:
        loss = lambda params: -log_prob(paramax.unwrap(eqx.combine(params, static)), batch).mean()  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(params)
        change, state = adam.update(gradient, state)
        return optax.apply_updates(params, change), state, value

    density = jax.jit(lambda params: log_prob(paramax.unwrap(eqx.combine(params, static)), x))
    draw = jax.jit(lambda params, key: sample(paramax.unwrap(eqx.combine(params, static)), key))

    def training() -> None:
        current, state = params, adam.init(params)
        for i in range(STEPS):
            current, state, value = step(current, state, x[BATCH * (i % 4) : BATCH * (i % 4 + 1)])
        jax.block_until_ready((current, value))

    return Contender(
        sum(leaf.size for leaf in jax.tree.leaves(params)),
        training,
        lambda: jax.block_until_ready(density(params)),
        lambda: jax.block_until_ready(draw(params, jax.random.key(1))),
    )


def torch_contender(module: Any, log_prob: Callable[..., Any], sample: Callable[[], Any]) -> Contender:
    """A flow of any library in torch.

    Args:
        module: what has the parameters.
        log_prob: x to the log densities.
        sample: nothing to `ROWS` draws.
    """
    import torch

    x = torch.as_tensor(data())

    def training() -> None:
        adam = torch.optim.Adam(module.parameters(), lr=1e-3)
        for i in range(STEPS):
            adam.zero_grad()
            loss = -log_prob(x[BATCH * (i % 4) : BATCH * (i % 4 + 1)]).mean()
            loss.backward()
            adam.step()

    count = sum(param.numel() for param in module.parameters() if param.requires_grad)
    return Contender(count, training, torch.no_grad()(lambda: log_prob(x)), torch.no_grad()(sample))


def numpyro_flows(name: str) -> dict[str, Contender]:
    """deepgen's NumPyro engine and FlowJAX."""
    import jax
    import jax.numpy as jnp
    from flowjax.bijections import Affine, RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow, masked_autoregressive_flow

    from deepgen.models.flow.numpyro import Flow

    key = jax.random.key(0)
    flow = _ours(name, lambda make, **kwargs: make(key=key, **kwargs), Flow)
    own = jax_contender(
        flow,
        lambda flow, x: flow.distribution().log_prob(x),
        lambda flow, key: flow.distribution().sample(key, (ROWS,)),
    )
    spline = RationalQuadraticSpline(knots=BINS - 1, interval=BOUND)  # the inner ones
    make = masked_autoregressive_flow if name == "MAF" else coupling_flow
    peer = make(
        key,
        base_dist=Normal(jnp.zeros(SIZE), jnp.ones(SIZE)),
        transformer=spline if name == "NSF" else Affine(),
        flow_layers=TRANSFORMS,
        nn_width=HIDDEN,
        nn_depth=2,
    )
    other = jax_contender(peer, lambda flow, x: flow.log_prob(x), lambda flow, key: flow.sample(key, (ROWS,)))
    return {"NumPyro": own, "FlowJAX": other}


def pyro_flows(name: str) -> dict[str, Contender]:
    """deepgen's Pyro engine, zuko, nflows and Pyro's own transforms."""
    import torch

    from deepgen.models.flow.pyro import Flow

    torch.manual_seed(0)
    flow = _ours(name, lambda make, **kwargs: make(**kwargs), Flow)
    own = torch_contender(
        flow, lambda x: flow.distribution().log_prob(x), lambda: flow.distribution().sample(torch.Size([ROWS]))
    )
    return {"Pyro": own, "zuko": _zuko(name), "nflows": _nflows(name), "Pyro's own": _pyros_own(name)}


def _ours(name: str, call: Callable[..., Any], kind: Any) -> Any:
    options = {"num_transforms": TRANSFORMS, "hidden": (HIDDEN, HIDDEN), "activation": "relu", "mixing": "permutation"}
    own: dict[str, Any] = {"NSF": {"num_bins": BINS, "bound": BOUND}}
    make = {"NSF": kind.nsf, "RealNVP": kind.realnvp, "MAF": kind.maf}[name]
    return call(make, event_shape=(SIZE,), **options, **own.get(name, {}))


def _zuko(name: str) -> Contender:
    import torch
    import zuko

    hidden = {"hidden_features": (HIDDEN, HIDDEN)}
    if name == "MAF":
        flow: Any = zuko.flows.MAF(SIZE, transforms=TRANSFORMS, **hidden)
    else:
        laws: dict[str, dict[str, Any]] = {
            "NSF": {
                "univariate": lambda *shape: zuko.transforms.MonotonicRQSTransform(*shape, bound=BOUND),
                "shapes": [(BINS,), (BINS,), (BINS - 1,)],
            },
            "RealNVP": {},
        }
        masks = [torch.arange(SIZE) % 2 == i % 2 for i in range(TRANSFORMS)]
        flow = zuko.flows.Flow(
            [zuko.flows.GeneralCouplingTransform(SIZE, mask=mask, **laws[name], **hidden) for mask in masks],
            zuko.flows.UnconditionalDistribution(
                zuko.distributions.DiagNormal, torch.zeros(SIZE), torch.ones(SIZE), buffer=True
            ),
        )
    return torch_contender(flow, lambda x: flow().log_prob(x), lambda: flow().sample((ROWS,)))


def _nflows(name: str) -> Contender:
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
        mask = (torch.arange(SIZE) % 2 == i % 2).int()
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
                transforms.MaskedAffineAutoregressiveTransform(SIZE, HIDDEN, num_blocks=1, use_residual_blocks=False)
            )
            made.append(transforms.ReversePermutation(SIZE))
    flow = flows.Flow(transforms.CompositeTransform(made), distributions.StandardNormal([SIZE]))
    return torch_contender(flow, lambda x: flow.log_prob(x), lambda: flow.sample(ROWS))


def _pyros_own(name: str) -> Contender:
    import pyro.distributions as dist
    import torch
    from pyro.distributions import transforms
    from pyro.nn import DenseNN

    made: list[Any] = []
    modules = []
    for _ in range(TRANSFORMS):
        if name == "NSF":
            kept, moved = SIZE // 2, SIZE - SIZE // 2
            network = DenseNN(kept, [HIDDEN, HIDDEN], [moved * BINS, moved * BINS, moved * (BINS - 1)])
            part: Any = transforms.SplineCoupling(
                SIZE, kept, network, count_bins=BINS, bound=BOUND, order="quadratic", identity=True
            )
        elif name == "RealNVP":
            part = transforms.affine_coupling(SIZE, [HIDDEN, HIDDEN])
        else:
            part = transforms.affine_autoregressive(SIZE, [HIDDEN, HIDDEN])
        modules.append(part)
        made += [part.inv if name == "MAF" else part, transforms.permute(SIZE, torch.arange(SIZE).flip(0))]
    base = dist.Normal(torch.zeros(SIZE), torch.ones(SIZE)).to_event(1)
    law = dist.TransformedDistribution(base, made[:-1])

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        law.clear_cache()
        return law.log_prob(x)

    return torch_contender(torch.nn.ModuleList(modules), log_prob, lambda: law.sample(torch.Size([ROWS])))


def measure() -> list[Row]:
    """Steps and thousands of rows a second of each library, and how many times as fast deepgen's engines are."""
    missing = [name for name in ("zuko", "nflows", "flowjax", "paramax") if find_spec(name) is None]
    if missing:
        print(f"flows: left out, as {', '.join(missing)} is missing: pip install 'deepgen[bench]'", file=sys.stderr)
        return []
    found = []
    for name in ("NSF", "RealNVP", "MAF"):
        for own, flows in (("NumPyro", numpyro_flows(name)), ("Pyro", pyro_flows(name))):
            for task, amount, unit in (
                ("training", STEPS, "steps/s"),
                ("density", ROWS / 1000, "thousand rows/s"),
                ("sampling", ROWS / 1000, "thousand rows/s"),
            ):
                taken = seconds({peer: getattr(each, task) for peer, each in flows.items()}, repeats=REPEATS)
                rates = {peer: median([amount / one for one in each]) for peer, each in taken.items()}
                fastest = max((peer for peer in rates if peer != own), key=lambda peer: rates[peer][0])
                for peer, rate in rates.items():
                    label = f"{name}, {task}: {peer}, {flows[peer].params:,} parameters"
                    ratio = (rates[own][0] / rates[fastest][0], fastest, GOALS[own][name][task])
                    found.append(Row(label, *rate, unit, *ratio) if peer == own else Row(label, *rate, unit))
    return found


if __name__ == "__main__":
    from benchmarks.speed.timing import table

    print(table(measure()))
