"""What `fit` promises in one engine only: compile counts and mutable sites in NumPyro, the user's world in Pyro."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as ndist
import optax
import pyro
import pytest
import torch
from fitting import FITTINGS, ROWS

from deepgen.inference.svi import numpyro as nsvi
from deepgen.inference.svi import pyro as psvi

NUMPYRO, PYRO = FITTINGS
TARGET = np.array([3.0], dtype=np.float32)


def square(a: Any, x: Any) -> Any:
    return (a - x.sum()) ** 2 / 2


class Compilations:
    """How many programs XLA has compiled since."""

    def __enter__(self) -> "Compilations":
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self.listen)
        return self

    def listen(self, event: str, duration: float, **_: Any) -> None:
        self.count += event == "/jax/core/compile/backend_compile_duration"

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self.listen)


def test_second_fit_compiles_nothing() -> None:
    program = NUMPYRO.vae()
    options: dict[str, Any] = {"batch_size": 50, "chunk": 10, "validation": ROWS[:20], "ema": 0.9}

    def objective() -> Any:
        return nsvi.ELBO(beta=nsvi.Linear(10), free_bits=0.1)

    with Compilations() as first:
        NUMPYRO.fit(program, ROWS, steps=20, objective=objective(), **options)
    assert first.count > 0
    with Compilations() as second:
        NUMPYRO.fit(
            jax.tree.map(lambda leaf: leaf, program), ROWS + 1, steps=33, seed=1, objective=objective(), **options
        )
    assert second.count == 0
    with Compilations() as other:
        NUMPYRO.fit(program, ROWS, steps=20, objective=nsvi.ELBO(beta=0.5), **options)
    assert other.count > 0


def test_mutable_sites_are_carried() -> None:
    def model(x: Any) -> None:
        count = numpyro.primitives.mutable("count", {"n": jnp.zeros(())})
        count["n"] = count["n"] + 1
        numpyro.factor("f", -((numpyro.param("a", 0.0) - x.sum()) ** 2) / 2)

    fit = NUMPYRO.fit((model, lambda x: None), TARGET, steps=7, optimizer=optax.sgd(0.1), chunk=3)
    # The first pass, which makes the site, counts too.
    assert float(fit.params["count"]["n"]) == 8


def test_legacy_keys_work() -> None:
    fit = nsvi.fit(jax.random.PRNGKey(0), NUMPYRO.climb(square), TARGET, steps=2, validation=TARGET)
    assert fit.steps == 2


def test_constrained_parameters() -> None:
    def model(x: Any) -> None:
        s = numpyro.param("s", 2.0, constraint=ndist.constraints.positive)
        numpyro.factor("f", -((s - 0.5) ** 2))

    fit = NUMPYRO.fit((model, lambda x: None), TARGET, steps=300, learning_rate=0.05)
    assert float(fit.params["s"]) == pytest.approx(0.5, abs=1e-2)


def test_pyro_leaves_the_users_world_alone() -> None:
    program = PYRO.vae()
    before = [param.detach().clone() for param in program.parameters()]
    pyro.get_param_store()["mine"] = torch.tensor(1.0)
    try:
        with pyro.validation_enabled(True):
            PYRO.fit(program, ROWS, steps=3)
            assert pyro.infer.util.is_validation_enabled()
            with pytest.raises(psvi.NonFiniteLoss):
                PYRO.fit(PYRO.climb(lambda a, x: torch.log(1 - a)), TARGET, steps=9, optimizer=PYRO.sgd(0.2))
            assert pyro.infer.util.is_validation_enabled()
        assert list(pyro.get_param_store().keys()) == ["mine"]
    finally:
        pyro.clear_param_store()
    for param, was in zip(program.parameters(), before, strict=True):
        assert torch.equal(param, was)


def test_pyro_validates_before_the_first_step() -> None:
    def model(x: Any) -> None:
        pyro.sample("x", pyro.distributions.Bernoulli(torch.tensor(0.5)).expand([1]).to_event(1), obs=x)

    with pyro.validation_enabled(True), pytest.raises(ValueError, match="support"):
        PYRO.fit((model, lambda x: None), TARGET, steps=1)


def test_pyro_scheduler_beside_the_optimizer() -> None:
    def make(params: list[torch.Tensor]) -> Any:
        optimizer = torch.optim.SGD(params, lr=0.1)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < 2))

    fit = PYRO.fit(PYRO.climb(square), TARGET, steps=5, optimizer=make)
    assert float(fit.params["a"]) == pytest.approx(3 * (1 - 0.9**2), rel=1e-5)


def test_pyro_refuses_parameters_that_come_late() -> None:
    calls: list[int] = []

    def model(x: Any) -> None:
        calls.append(0)
        if len(calls) > 3:
            pyro.param("late", torch.tensor(0.0))
        pyro.factor("f", -((pyro.param("a", torch.tensor(0.0)) - 1) ** 2))

    with pytest.raises(ValueError, match=r"param sites \['late'\] appeared after the first step"):
        PYRO.fit((model, lambda x: None), TARGET, steps=9)
