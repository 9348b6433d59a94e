"""What generic tests need of an engine, under one name in both, so that no test asks which engine it was handed."""

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import torch
from numpyro import handlers
from pyro import poutine

import deepgen.numpyro
import deepgen.program.numpyro
import deepgen.program.pyro
import deepgen.pyro
from deepgen.nn.equinox import load_state_dict, state_dict

Arrays = Mapping[str, np.ndarray]


class Tape:
    """Standard normals that depend on their number in line and their shape alone: the same noise for both engines."""

    def __init__(self, seed: int) -> None:
        self.seed, self.count = seed, 0

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        self.count += 1
        return np.random.default_rng([self.seed, self.count]).standard_normal(shape).astype(np.float32)


def signs(shape: tuple[int, ...]) -> np.ndarray:
    """A fixed pattern of plus and minus ones: with its negative it integrates a quadratic function of one normal."""
    return np.random.default_rng([5, *shape]).choice([-1.0, 1.0], size=shape).astype(np.float32)


class NumPyro:
    """NumPyro, its randomness from seeds."""

    name = "numpyro"
    face = deepgen.numpyro

    def __repr__(self) -> str:
        return self.name

    def array(self, values: Any) -> jax.Array:
        return jnp.asarray(values)

    def call(self, verb: Callable[..., Any] | str, *args: Any, seed: int = 0, **kwargs: Any) -> Any:
        """A verb of the face, or any function: with a key in front, or as ``key=``, where it takes one."""
        function = getattr(self.face, verb) if isinstance(verb, str) else verb
        names = list(inspect.signature(function).parameters)
        if names[0] == "rng_key":
            args = (jax.random.key(seed), *args)
        elif "key" in names:
            kwargs["key"] = jax.random.key(seed)
        return function(*args, **kwargs)

    def build(self, family: str, config: Mapping[str, Any], seed: int = 0) -> Any:
        return self.call(importlib.import_module(f"deepgen.models.{family}.numpyro").build, config, seed=seed)

    def tensors(self, program: Any) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in state_dict(program).items()}

    def with_tensors(self, program: Any, tensors: Arrays) -> Any:
        return load_state_dict(program, tensors)

    def log_joint(self, program: Any, latents: Arrays, x: np.ndarray) -> np.ndarray:
        given = {name: jnp.asarray(value) for name, value in latents.items()}
        return np.asarray(deepgen.program.numpyro.log_joint(program.model, given, jnp.asarray(x)))

    def encode(self, program: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loc, scale = program.encode(jnp.asarray(x))
        return np.asarray(loc), np.asarray(scale)

    def draw_latents(self, program: Any, x: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        latents, _ = deepgen.program.numpyro.propose(jax.random.key(seed), program.guide, jnp.asarray(x))
        return {name: np.asarray(value) for name, value in latents.items()}

    def numbers(self, program: Any, latents: Arrays, x: Any, holes: Any, tape: int, objectives: Any) -> dict[str, Any]:
        """Densities at given latents, and losses and gradients on a noise tape: compiled together, once a shape."""
        arrays = jax.tree.map(jnp.asarray, (dict(latents), x, *holes))
        found = _jax_numbers(program, *arrays, tape, objectives)
        return {name: np.asarray(value) for name, value in found.items()}

    @contextlib.contextmanager
    def tape(self, seed: int) -> Iterator[Tape]:
        """Within, normals come from a tape. Never compile with them what is used without."""
        tape = Tape(seed)

        def normal(key: Any, shape: Any = (), dtype: Any = jnp.float32, **_: Any) -> jax.Array:
            return jnp.asarray(tape(tuple(shape)), dtype)

        with mock.patch.object(jax.random, "normal", normal):
            yield tape

    def on_tape(self, seed: int, verb: str, *args: Any) -> Any:
        """A verb of the face on a noise tape, not compiled."""
        with self.tape(seed), jax.disable_jit():
            return self.call(verb, *args)

    def bound(self, program: Any, objective: Any, args: Any, sign: float = 1.0) -> dict[str, Any]:
        """A loss and its gradients, the normals being `signs` times ``sign``."""
        args = tuple(jnp.asarray(value) for value in args)
        found = _jax_bound(program, objective, args, jnp.asarray(sign, jnp.float32))
        return {name: np.asarray(value) for name, value in found.items()}

    def predictive(self, program: Any, num_samples: int, size: int, given: Arrays, seed: int = 0) -> dict[str, Any]:
        """The engine's own Predictive of the program's model, some sites conditioned."""
        model = handlers.condition(program.model, data={name: jnp.asarray(v) for name, v in given.items()})
        drawn = numpyro.infer.Predictive(model, num_samples=num_samples)(jax.random.key(seed), size=size)
        return {name: np.asarray(value) for name, value in drawn.items()}

    def nuts(self, program: Any, x: np.ndarray, num_warmup: int, num_samples: int, seed: int = 0) -> dict[str, Any]:
        """The engine's own NUTS over the latents given complete rows."""
        kernel = numpyro.infer.NUTS(program.model)
        mcmc = numpyro.infer.MCMC(kernel, num_warmup=num_warmup, num_samples=num_samples, progress_bar=False)
        mcmc.run(jax.random.key(seed), jnp.asarray(x))
        return {name: np.asarray(value) for name, value in mcmc.get_samples().items() if "$" not in name}

    def svi(self, program: Any, x: np.ndarray, steps: int, learning_rate: float) -> np.ndarray:
        """The losses of the engine's own SVI with its own Adam and ``Trace_ELBO``."""
        optimizer = numpyro.optim.Adam(learning_rate)
        svi = numpyro.infer.SVI(program.model, program.guide, optimizer, numpyro.infer.Trace_ELBO())
        return np.asarray(svi.run(jax.random.key(0), steps, jnp.asarray(x), progress_bar=False).losses)

    def compiled(self, program_of: Callable[[], Any]) -> int:
        """How many times XLA compiled something while ``program_of`` ran."""
        count = 0

        def listen(event: str, duration: float, **_: Any) -> None:
            nonlocal count
            count += event == "/jax/core/compile/backend_compile_duration"

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            program_of()
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
        return count

    def custom(self, network: Any) -> Any:
        """A network that deepgen does not know, with another's parameters."""
        return _JaxCustom(network)


@eqx.filter_jit
def _jax_numbers(
    program: Any, latents: Any, x: jax.Array, holes: jax.Array, observed: jax.Array, tape: int, objectives: Any
) -> dict[str, Any]:
    density = deepgen.program.numpyro.log_joint

    def log_q(x: jax.Array) -> jax.Array:
        fixed = handlers.substitute(handlers.seed(program.guide, jax.random.key(0)), data=latents)
        sites = handlers.trace(fixed).get_trace(x).values()
        return sum(
            (site["fn"].log_prob(site["value"]) for site in sites if site["type"] == "sample"), jnp.zeros(len(x))
        )

    found = {
        "log joint": density(program.model, latents, x),
        "log q": log_q(x),
    }
    if holes is not None:
        seen = jnp.where(observed, x, jnp.zeros((), x.dtype))
        found["log joint of the observed"] = density(program.model, latents, seen, observed)
        found["log q given holes"] = log_q(holes)
    sites = handlers.trace(handlers.seed(program.guide, 0)).get_trace(x)
    sites |= handlers.trace(handlers.seed(program.model, 0)).get_trace(x)
    params = {name: site["value"] for name, site in sites.items() if site["type"] == "param"}
    for name, objective in objectives.items():

        def value(params: Any, objective: Any = objective) -> Any:
            return objective.loss(jax.random.key(0), params, program.model, program.guide, x)

        with NUMPYRO.tape(tape):
            loss, gradients = jax.value_and_grad(value)(params)
        found[f"{name}: loss"] = loss
        for site, gradient in gradients.items():
            for parameter, leaf in state_dict(gradient).items():
                found[f"{name}: gradient by {site.removesuffix('$params')}.{parameter}"] = leaf
    return found


@eqx.filter_jit
def _jax_bound(program: Any, objective: Any, args: Any, sign: jax.Array) -> dict[str, Any]:
    sites = handlers.trace(handlers.seed(program.guide, 0)).get_trace(*args)
    sites |= handlers.trace(handlers.seed(program.model, 0)).get_trace(*args)
    params = {name: site["value"] for name, site in sites.items() if site["type"] == "param"}

    def normal(key: Any, shape: Any = (), dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        return sign * jnp.asarray(signs(tuple(shape)), dtype)

    with mock.patch.object(jax.random, "normal", normal):
        loss, gradients = jax.value_and_grad(
            lambda params: objective.loss(jax.random.key(0), params, program.model, program.guide, *args)
        )(params)
    named = {
        f"{site.removesuffix('$params')}.{name}": leaf
        for site, gradient in gradients.items()
        for name, leaf in state_dict(gradient).items()
    }
    return {"loss": loss, **named}


class _JaxCustom(eqx.Module):
    inner: Any

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x)


class Pyro:
    """Pyro, its randomness from seeds."""

    name = "pyro"
    face = deepgen.pyro

    def __repr__(self) -> str:
        return self.name

    def array(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values))

    def call(self, verb: Callable[..., Any] | str, *args: Any, seed: int = 0, **kwargs: Any) -> Any:
        """A verb of the face, or any function, after seeding."""
        function = getattr(self.face, verb) if isinstance(verb, str) else verb
        pyro.set_rng_seed(seed)
        return function(*args, **kwargs)

    def build(self, family: str, config: Mapping[str, Any], seed: int = 0) -> Any:
        return self.call(importlib.import_module(f"deepgen.models.{family}.pyro").build, config, seed=seed)

    def tensors(self, program: Any) -> dict[str, np.ndarray]:
        return {name: value.detach().numpy() for name, value in program.state_dict().items()}

    def with_tensors(self, program: Any, tensors: Arrays) -> Any:
        program.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in tensors.items()})
        return program

    def log_joint(self, program: Any, latents: Arrays, x: np.ndarray) -> np.ndarray:
        given = {name: torch.as_tensor(value) for name, value in latents.items()}
        with torch.no_grad():
            return deepgen.program.pyro.log_joint(program.model, given, torch.as_tensor(x)).numpy()

    def encode(self, program: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            loc, scale = program.encode(torch.as_tensor(x))
        return loc.numpy(), scale.numpy()

    def draw_latents(self, program: Any, x: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        pyro.set_rng_seed(seed)
        with torch.no_grad(), deepgen.program.pyro.isolated():
            latents, _ = deepgen.program.pyro.propose(program.guide, torch.as_tensor(x))
        return {name: value.numpy() for name, value in latents.items()}

    def numbers(self, program: Any, latents: Arrays, x: Any, holes: Any, tape: int, objectives: Any) -> dict[str, Any]:
        """Densities at given latents, and losses and gradients on a noise tape."""
        density = deepgen.program.pyro.log_joint
        given = {name: torch.as_tensor(np.asarray(value)) for name, value in latents.items()}
        x = torch.as_tensor(x)

        def log_q(x: torch.Tensor) -> Any:
            trace = poutine.trace(poutine.condition(program.guide, data=given)).get_trace(x)
            sites = [site for name, site in trace.nodes.items() if name in given]
            return sum((site["fn"].log_prob(site["value"]) for site in sites), torch.zeros(len(x)))

        with torch.no_grad(), deepgen.program.pyro.isolated():
            found = {
                "log joint": density(program.model, given, x),
                "log q": log_q(x),
            }
            if holes[0] is not None:
                shown, observed = torch.as_tensor(holes[0]), torch.as_tensor(holes[1])
                seen = torch.where(observed, x, torch.zeros((), dtype=x.dtype))
                found["log joint of the observed"] = density(program.model, given, seen, observed)
                found["log q given holes"] = log_q(shown)
        for name, objective in objectives.items():
            with pyro.get_param_store().scope(), self.tape(tape):
                program.zero_grad()
                found[f"{name}: loss"] = torch.tensor(objective.loss_and_grads(program.model, program.guide, x))
                trained = {parameter.replace("$$$", ".") for parameter in list(pyro.get_param_store())}
            for parameter, value in program.named_parameters():
                if parameter in trained:
                    found[f"{name}: gradient by {parameter}"] = value.grad.clone()
        return {name: value.numpy() for name, value in found.items()}

    def on_tape(self, seed: int, verb: str, *args: Any) -> Any:
        """A verb of the face on a noise tape."""
        with self.tape(seed):
            return self.call(verb, *args)

    @contextlib.contextmanager
    def tape(self, seed: int) -> Iterator[Tape]:
        """Within, normals come from a tape."""
        tape = Tape(seed)

        def normal(shape: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
            return torch.as_tensor(tape(tuple(shape)), dtype=dtype, device=device)

        def like(other: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.as_tensor(tape(tuple(other.shape)), dtype=other.dtype)

        with (
            mock.patch("torch.distributions.normal._standard_normal", normal),
            mock.patch("torch.distributions.multivariate_normal._standard_normal", normal),
            mock.patch.object(torch, "randn_like", like),
        ):
            yield tape

    def bound(self, program: Any, objective: Any, args: Any, sign: float = 1.0) -> dict[str, Any]:
        """A loss and its gradients, the normals being `signs` times ``sign``."""
        args = tuple(torch.as_tensor(value) for value in args)

        def normal(shape: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
            return sign * torch.as_tensor(signs(tuple(shape)), dtype=dtype, device=device)

        with (
            pyro.get_param_store().scope(),
            mock.patch("torch.distributions.normal._standard_normal", normal),
            mock.patch("torch.distributions.multivariate_normal._standard_normal", normal),
        ):
            program.zero_grad()
            loss = objective.loss_and_grads(program.model, program.guide, *args)
        named = {
            name: value.grad.numpy().copy() for name, value in program.named_parameters() if value.grad is not None
        }
        return {"loss": np.float32(loss), **named}

    def predictive(self, program: Any, num_samples: int, size: int, given: Arrays, seed: int = 0) -> dict[str, Any]:
        """The engine's own Predictive of the program's model, some sites conditioned."""
        pyro.set_rng_seed(seed)
        model = poutine.condition(program.model, data={name: torch.as_tensor(v) for name, v in given.items()})
        with pyro.get_param_store().scope(), torch.no_grad():
            drawn = pyro.infer.Predictive(model, num_samples=num_samples)(size=size)
        return {name: value.numpy() for name, value in drawn.items()}

    def nuts(self, program: Any, x: np.ndarray, num_warmup: int, num_samples: int, seed: int = 0) -> dict[str, Any]:
        """The engine's own NUTS over the latents given complete rows."""
        pyro.set_rng_seed(seed)
        with pyro.get_param_store().scope():
            kernel = pyro.infer.NUTS(program.model)
            mcmc = pyro.infer.MCMC(kernel, num_samples=num_samples, warmup_steps=num_warmup, disable_progbar=True)
            mcmc.run(torch.as_tensor(x))
        return {name: value.numpy() for name, value in mcmc.get_samples().items()}

    def svi(self, program: Any, x: np.ndarray, steps: int, learning_rate: float) -> np.ndarray:
        """The losses of the engine's own SVI with its own Adam and ``Trace_ELBO``."""
        pyro.set_rng_seed(0)
        with pyro.get_param_store().scope():
            optimizer = pyro.optim.Adam({"lr": learning_rate})
            svi = pyro.infer.SVI(program.model, program.guide, optimizer, pyro.infer.Trace_ELBO())
            return np.array([svi.step(torch.as_tensor(x)) for _ in range(steps)])

    def compiled(self, program_of: Callable[[], Any]) -> int:
        """Torch runs eagerly: nothing is ever compiled."""
        program_of()
        return 0

    def custom(self, network: Any) -> Any:
        """A network that deepgen does not know, with another's parameters."""
        return _TorchCustom(network)


class _TorchCustom(torch.nn.Module):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


NUMPYRO, PYRO = NumPyro(), Pyro()
ENGINES: tuple[Any, ...] = (NUMPYRO, PYRO)
