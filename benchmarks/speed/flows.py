"""Spline couplings, affine couplings and masked autoregressive flows beside FlowJAX, zuko, nflows and Pyro's own.

43 dimensions, 5 transforms, networks of 2 x 128, 8 bins, Adam on 512 rows a step. Every library runs in the same loop:
a step compiled once where it is JAX, eager where it is torch. The peers are optional: ``pip install deepgen[bench]``.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from benchmarks import peers
from benchmarks.peers import BINS, BOUND, HIDDEN, TRANSFORMS
from benchmarks.speed.timing import Row, median, seconds

SIZE, BATCH = 43, 512
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

    from deepgen.models.flow.numpyro import Flow

    key = jax.random.key(0)
    flow = _ours(name, lambda make, **kwargs: make(key=key, **kwargs), Flow)
    own = jax_contender(
        flow,
        lambda flow, x: flow.distribution().log_prob(x),
        lambda flow, key: flow.distribution().sample(key, (ROWS,)),
    )
    peer = peers.flowjax(name, SIZE, key)
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
    flow = peers.zuko(name, SIZE)
    return torch_contender(flow, lambda x: flow().log_prob(x), lambda: flow().sample((ROWS,)))


def _nflows(name: str) -> Contender:
    flow = peers.nflows(name, SIZE)
    return torch_contender(flow, flow.log_prob, lambda: flow.sample(ROWS))


def _pyros_own(name: str) -> Contender:
    import torch

    modules, law = peers.pyros_own(name, SIZE)

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        # its transforms know again what they were last given, and clearing leaves out those that are inverted
        law.clear_cache()
        return law.log_prob(x.view_as(x))

    return torch_contender(modules, log_prob, lambda: law.sample(torch.Size([ROWS])))


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
