"""The verbs of either engine under one signature: NumPy arrays in and out, and a seed in place of keys."""

import importlib
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from deepgen import checks
from deepgen.capabilities import ENGINES
from deepgen.cli.recipes import recipe

NETWORKS = ("mlp", "conv", "table")


def place(name: str, device: str | None) -> None:
    """Let an engine make all that it makes on a device, from here to the end of the process.

    Args:
        name: ``"numpyro"`` or ``"pyro"``.
        device: such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None for where the engine computes by itself.

    Raises:
        ValueError: a device that the engine does not have here.
        ModuleNotFoundError: the engine is not installed.
    """
    if device is None:
        return
    try:
        _place_jax(device) if name == "numpyro" else _place_torch(device)
    # torch refuses by an AssertionError what it was built without
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise checks.problem(
            "device",
            got=f"{device!r} ({str(error).split('. ')[0]})",
            expected=f"a device that {name} has here, such as 'cpu'",
            fix="Install the engine's build for it, or leave --device out.",
        ) from error


def _place_jax(device: str) -> None:
    import jax

    kind, _, index = device.partition(":")
    jax.config.update("jax_default_device", jax.devices(kind)[int(index or 0)])


def _place_torch(device: str) -> None:
    import torch

    torch.empty(1, device=device)
    torch.set_default_device(device)


class Engine:
    """An engine's face with a seed.

    Each verb draws from a stream of its own, named after its purpose, so that what one of them draws does not depend on
    what was asked before.

    Args:
        name: ``"numpyro"`` or ``"pyro"``.
        seed: of every stream.

    Raises:
        ValueError: another name, or a negative seed.
        ModuleNotFoundError: the engine is not installed; the message says how to.
    """

    def __init__(self, name: str, seed: int):
        checks.one_of("engine", name, ENGINES)
        checks.at_least("seed", seed, 0)
        self.name, self.seed = name, seed
        # torch's idle threads spin by default: beside other work on the machine, small networks take ten times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            self.face: Any = importlib.import_module(f"deepgen.{name}")
        except ModuleNotFoundError as error:
            other = next(engine for engine in ENGINES if engine != name)
            raise ModuleNotFoundError(f"{error} Or pass --engine {other}.", name=error.name) from error

    def start(self, purpose: str) -> tuple[Any, ...]:
        """The arguments that come first in the face's verbs: a key in NumPyro, none in Pyro, which is seeded instead.

        Args:
            purpose: the stream's name.
        """
        stream = zlib.crc32(f"{purpose} {self.seed}".encode())
        if self.name == "numpyro":
            import jax

            return (jax.random.key(stream),)
        import pyro

        pyro.set_rng_seed(stream)
        return ()

    def imputers(self, name: str) -> tuple[str, ...]:
        """The ways to impute that a recipe's programs offer, the first by default."""
        return getattr(self.face, recipe(name).program).imputers

    def build(self, name: str, network: str | None, event_shape: Sequence[int], **options: Any) -> Any:
        """An untrained program.

        Args:
            name: of a recipe.
            network: ``"mlp"`` or ``"conv"``, for a recipe that takes a network; None for any other.
            event_shape: of a datum.
            options: of the recipe's constructor.
        """
        made = recipe(name)
        if made.constructor is None:
            checks.one_of("network", network, NETWORKS)
        constructor = getattr(getattr(self.face, made.program), made.constructor or network or "")
        first = self.start("build")
        return constructor(tuple(event_shape), **options, **({"key": first[0]} if first else {}))

    def fit(self, program: Any, x: np.ndarray, **options: Any) -> Any:
        """The face's `fit`; where x has NaN the bound is that of the observed entries.

        Args:
            program: untrained.
            x: (n, *event_shape), NaN where missing.
            options: of `fit`.

        Returns:
            Its `Fit`; ``.program`` is the trained program, the losses are nats per row.
        """
        return self.face.fit(*self.start("fit"), program, x, **options)

    def fit_table(self, x: np.ndarray, kinds: Sequence[Any] | None, **options: Any) -> Any:
        """The face's `fit_table`: a program made and fitted from the normal of the table on.

        Args:
            x: (n, d), NaN where missing.
            kinds: the columns' kinds, where x is in the columns' own units; None for standardised numbers.
            options: of `fit_table`.

        Returns:
            Its `Fit`.
        """
        if kinds is not None:
            options["likelihood"] = self.face.likelihoods.Table.from_data(kinds, x)
        return self.face.fit_table(*self.start("fit"), x, **options)

    def sample(self, program: Any, num_samples: int, purpose: str = "sample") -> np.ndarray:
        """(num_samples, *event_shape) draws."""
        return _numpy(self.face.sample(*self.start(purpose), program, num_samples))

    def log_prob(self, program: Any, x: np.ndarray, **options: Any) -> Any:
        """The face's `log_prob`, a `LogProb`."""
        return self.face.log_prob(*self.start("log_prob"), program, x, **options)

    def impute(self, program: Any, x: np.ndarray, **options: Any) -> Any:
        """The face's `impute`, an ``arviz.InferenceData``."""
        return self.face.impute(*self.start("impute"), program, x, **options)

    def reconstruct(self, program: Any, x: np.ndarray) -> np.ndarray:
        """(n, *event_shape) reconstructions."""
        return _numpy(self.face.reconstruct(*self.start("reconstruct"), program, x))

    def active_units(self, program: Any, x: np.ndarray) -> Any:
        """The face's `active_units`."""
        return self.face.active_units(program, x)

    def conditionals(self, program: Any, x: np.ndarray) -> np.ndarray:
        """log p of what each step decides, given the steps before it, of a program that decides step by step.

        Args:
            program: with a ``network``, its ``order``, and an ``observation`` law.
            x: (n, *event_shape), complete.

        Returns:
            (n, steps) nats; a row's sum is log p(x).
        """
        network, element = program.network, program.observation.element(program.network.element_shape)
        order, given = np.asarray(network.order), program.check_data(x)
        with self._no_gradients():
            outputs = _numpy(self._compiled(lambda own, rows: own(rows), network, self._array(program, given)))
            outputs = outputs.reshape(*outputs.shape[:2], -1)
            # where a law couples the channels of a pixel, the pixel has the outputs, at the place of its first channel
            places = order if outputs.shape[2] == order.size else order.min(1, keepdims=True)
            outputs = np.moveaxis(outputs[:, :, places], 2, 1)
            decided = given.reshape(len(given), -1)[:, order].reshape(-1, *network.element_shape)
            law = element(self._array(program, outputs.reshape(len(decided), *element.outputs_shape)))
            return _numpy(law.log_prob(self._array(program, decided))).reshape(len(given), len(order))

    def encode(self, program: Any, x: np.ndarray) -> np.ndarray:
        """(n, d) what the base has to draw for a flow to give x."""
        with self._no_gradients():
            return _numpy(self._compiled(_to_base, program, self._array(program, program.check_data(x))))

    def decode(self, program: Any, z: np.ndarray) -> np.ndarray:
        """(n, *event_shape) what a flow makes of the base's draws z."""
        with self._no_gradients():
            return _numpy(self._compiled(_from_base, program, self._array(program, z)))

    def path(self, program: Any, num_samples: int, num_points: int) -> np.ndarray:
        """(num_points, num_samples, *event_shape) expected data on the way of a score model from noise to draws."""
        with self._no_gradients():
            return _numpy(program.distribution().path(*self.start("path"), num_samples, num_points))

    def energies(self, program: Any, x: np.ndarray) -> np.ndarray:
        """(n,) -log f of rows under an energy-based program, nats up to its constant."""
        with self._no_gradients():
            return -_numpy(self._compiled(_log_density, program, self._array(program, program.check_data(x))))

    def _array(self, program: Any, x: np.ndarray) -> Any:
        if self.name == "numpyro":
            import jax.numpy as jnp

            return jnp.asarray(x)
        from deepgen.program.pyro import tensor

        return tensor(program, x)

    def _compiled(self, function: Callable[[Any, Any], Any], program: Any, x: Any) -> Any:
        if self.name == "pyro":
            return function(program, x)
        import equinox as eqx

        return eqx.filter_jit(function)(program, x)

    def _no_gradients(self) -> Any:
        if self.name == "numpyro":
            return nullcontext()
        import torch

        return torch.no_grad()

    def save(self, program: Any, folder: Path) -> None:
        """Write the program into a folder."""
        self.face.save(program, folder)

    def load(self, folder: Path, family: str | None = None) -> Any:
        """Read a program that either engine wrote."""
        return self.face.load(folder, family=family)


def versions() -> Mapping[str, str]:
    """Of Python and of the packages that a result depends on, those that are installed."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("deepgen", "numpy", "jax", "numpyro", "equinox", "torch", "pyro-ppl", "arviz", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _to_base(program: Any, x: Any) -> Any:
    for transform in reversed(program.distribution().transforms):
        x = transform.inv(x)
    return x


def _log_density(program: Any, x: Any) -> Any:
    return program.distribution().log_prob(x)


def _from_base(program: Any, z: Any) -> Any:
    for transform in program.distribution().transforms:
        z = transform(z)
    return z


def _numpy(array: Any) -> np.ndarray:
    return array.detach().cpu().numpy() if hasattr(array, "detach") else np.asarray(array)
