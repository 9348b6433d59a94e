"""Fits of FlowJAX's and zuko's flows as `fit` does ours: the same budget, schedule, clipping and stopping."""

from typing import Any

import numpy as np

from benchmarks import peers

RATE, CLIP, CHUNK, PATIENCE = 1e-3, 5.0, 100, 10


def rows_of(rng: np.random.Generator, n: int, batch: int, steps: int) -> list[np.ndarray]:
    """The rows of each step: whole passes in random order, each step's rows different ones."""
    size, found = min(batch, n), []
    while len(found) < steps:
        order = rng.permutation(n)
        found += [order[i : i + size] for i in range(0, n - size + 1, size)]
    return found[:steps]


class Best:
    """The parameters of the lowest loss of the validation rows, and whether it has been long without a lower one."""

    def __init__(self) -> None:
        self.loss, self.params, self.waited = np.inf, None, 0

    def stop(self, loss: float, params: Any) -> bool:
        """Take note of one more; is it time to stop?"""
        if loss < self.loss:
            self.loss, self.params, self.waited = loss, params, 0
        else:
            self.waited += 1
        return self.waited >= PATIENCE


def flowjax(flow: str, parts: tuple[Any, Any, Any], batch: int, steps: int, seed: int) -> tuple[np.ndarray, int]:
    """log p of the test rows under a trained flow of FlowJAX, and the number of steps it took.

    Args:
        flow: "NSF" or "MAF".
        parts: training, validation and test rows.
        batch: rows a step.
        steps: at most.
        seed: of parameters and order.
    """
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax
    import paramax

    train, validation, test = parts
    made = peers.flowjax(flow, train.shape[1], jax.random.key(seed))
    params, static = eqx.partition(
        made, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
    )
    adam = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(optax.cosine_decay_schedule(RATE, steps)))

    def log_prob(params: Any, x: Any) -> Any:
        return paramax.unwrap(eqx.combine(params, static)).log_prob(x)

    @jax.jit
    def chunk(params: Any, state: Any, batches: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            params, state = carry
            gradient = jax.grad(lambda params: -log_prob(params, x).mean())(params)
            change, state = adam.update(gradient, state)
            return (optax.apply_updates(params, change), state), None

        return jax.lax.scan(step, (params, state), batches)[0]

    density = jax.jit(log_prob)
    state, best, done = adam.init(params), Best(), 0
    order = rows_of(np.random.default_rng(seed), len(train), batch, steps)
    for start in range(0, steps, CHUNK):
        params, state = chunk(params, state, jnp.asarray(train[np.stack(order[start : start + CHUNK])]))
        done = min(start + CHUNK, steps)
        if best.stop(-float(density(params, validation).mean()), params):
            break
    return np.asarray(density(best.params, test), np.float64), done


def zuko(flow: str, parts: tuple[Any, Any, Any], batch: int, steps: int, seed: int) -> tuple[np.ndarray, int]:
    """log p of the test rows under a trained flow of zuko, and the number of steps it took.

    Args:
        flow: "NSF" or "MAF".
        parts: training, validation and test rows.
        batch: rows a step.
        steps: at most.
        seed: of parameters and order.
    """
    import torch

    torch.manual_seed(seed)
    train, validation, test = (torch.as_tensor(part) for part in parts)
    module = peers.zuko(flow, train.shape[1])
    adam = torch.optim.Adam(module.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    best, done = Best(), 0
    for rows in rows_of(np.random.default_rng(seed), len(train), batch, steps):
        adam.zero_grad()
        (-module().log_prob(train[rows]).mean()).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        adam.step()
        schedule.step()
        done += 1
        if done % CHUNK == 0:
            with torch.no_grad():
                loss = -float(module().log_prob(validation).mean())
            if best.stop(loss, {name: value.clone() for name, value in module.state_dict().items()}):
                break
    module.load_state_dict(best.params)
    with torch.no_grad():
        return module().log_prob(test).double().numpy(), done


FITS = {"FlowJAX": flowjax, "zuko": zuko}
"""By the name of the library."""
