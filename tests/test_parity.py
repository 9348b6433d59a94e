"""Two engines that check each other: the same parameters and the same noise give the same numbers, either way round."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engines import ENGINES
from registry import INSTANCES, Instance, randomised

from deepgen.capabilities import capability
from deepgen.program.numpyro import propose

ROWS, TAPE = 6, 17
TOLERANCE: dict[str, float] = {"rtol": 2e-4, "atol": 2e-5}
"""Float32 sums of some hundred terms in another order; gradients are compared in units of their largest entry."""

PAIRS = [(first, second) for first in ENGINES for second in ENGINES if first is not second]


def crossing() -> Any:
    return pytest.mark.parametrize(
        ("instance", "written", "read"),
        [
            pytest.param(instance, first, second, id=f"{instance.family}-{instance.name}-{first.name}-to-{second.name}")
            for instance in INSTANCES
            for first, second in PAIRS
        ],
    )


def rows(instance: Instance) -> np.ndarray:
    return instance.data(np.random.default_rng(5), ROWS)


def with_holes(instance: Instance) -> tuple[np.ndarray, np.ndarray]:
    """Rows with every third entry missing, and which are observed."""
    x = rows(instance)
    observed = np.arange(x.size).reshape(x.shape) % 3 > 0
    return np.where(observed, x, np.nan if x.dtype.kind == "f" else -1).astype(x.dtype), observed


@cache
def original(instance: Instance, engine: Any) -> Any:
    return randomised(engine, instance.family, instance.config, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


def carried(instance: Instance, written: Any, read: Any, folder: Path) -> Any:
    """The program, saved by one engine and loaded by the other."""
    where = folder / f"{instance}-{written}"
    if not where.exists():
        written.face.save(original(instance, written), where)
    return read.face.load(where)


@cache
def latents_of(instance: Instance) -> dict[str, np.ndarray]:
    """Noise in the shapes of the latents, which are found without computing them."""
    guide, x = original(instance, ENGINES[0]).guide, jnp.asarray(rows(instance))
    shapes = jax.eval_shape(lambda key: propose(key, guide, x)[0], jax.random.key(0))
    rng = np.random.default_rng(TAPE)
    return {name: rng.standard_normal(value.shape).astype(np.float32) for name, value in shapes.items()}


def densities(engine: Any, program: Any, instance: Instance, objectives: Any = ()) -> dict[str, np.ndarray]:
    """What model and guide say of data and latents, and the objectives with their gradients, by name."""
    holes = with_holes(instance) if instance.holes else (None, None)
    return engine.numbers(program, latents_of(instance), rows(instance), holes, TAPE, dict(objectives))


def numbers(engine: Any, program: Any, instance: Instance) -> dict[str, np.ndarray]:
    """Everything of a program that depends on its parameters, its data and the tape alone, by name."""
    x = rows(instance)
    objectives = {"ELBO": engine.face.ELBO()}
    if latents_of(instance):
        objectives["ELBO with beta"] = engine.face.ELBO(beta=0.5, free_bits=0.3)
    found = densities(engine, program, instance, objectives)
    for name, value in found.items():
        if "gradient" in name:
            found[name] = value / max(np.abs(value).max(), 1e-3)
    holes = with_holes(instance)[0] if instance.holes else None
    for verb, arguments in {"reconstruct": (holes,), "interpolate": (x[:2], x[2:4], 3), "active_units": (x,)}.items():
        if capability(instance.family, engine.name, verb).supported:
            # what is not drawn needs no tape, which keeps it from being compiled
            if verb == "reconstruct":
                result = engine.on_tape(TAPE, verb, program, *arguments)
            else:
                result = engine.call(verb, program, *arguments)
            # named tuples of arrays, or one array
            parts = result._asdict() if hasattr(result, "_asdict") else {"": result}
            found |= {f"{verb} {part}".strip(): np.asarray(value) for part, value in parts.items()}
    return found


def differing(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[str]:
    assert first.keys() == second.keys()
    same_shapes = {name for name in first if first[name].shape == second[name].shape}
    return [
        name for name in first if name not in same_shapes or not np.allclose(first[name], second[name], **TOLERANCE)
    ]


@cache
def numbers_of(instance: Instance, engine: Any) -> dict[str, np.ndarray]:
    return numbers(engine, original(instance, engine), instance)


@crossing()
def test_same_parameters_and_noise_give_the_same_numbers(
    instance: Instance, written: Any, read: Any, folder: Path
) -> None:
    mine = numbers_of(instance, written)
    assert len([name for name in mine if "gradient" in name]) >= 6 * (1 + bool(latents_of(instance)))
    assert all(np.isfinite(value).all() for value in mine.values())
    theirs = numbers(read, carried(instance, written, read, folder), instance)
    assert differing(mine, theirs) == []


def shows(instance: Instance, written: Any, read: Any, faulty: Any) -> bool:
    """Whether the densities alone tell a fault."""
    theirs = densities(read, faulty, instance)
    return bool(differing({name: numbers_of(instance, written)[name] for name in theirs}, theirs))


@pytest.mark.parametrize("instance", INSTANCES, ids=repr)
def test_a_transposed_weight_shows(instance: Instance, folder: Path) -> None:
    written, read = PAIRS[0]
    program = carried(instance, written, read, folder)
    tensors = dict(read.tensors(program))
    square = [name for name, value in tensors.items() if value.ndim == 2 and value.shape[0] == value.shape[1] > 1]
    kernels = [name for name, value in tensors.items() if value.ndim == 4]
    planted = (square or kernels)[0]
    tensors[planted] = np.ascontiguousarray(np.swapaxes(tensors[planted], -1, -2))
    faulty = read.with_tensors(program, tensors)
    assert shows(instance, written, read, faulty)


@pytest.mark.parametrize("instance", INSTANCES, ids=repr)
def test_another_activation_shows(instance: Instance) -> None:
    written, read = PAIRS[0]
    config = json.loads(json.dumps(instance.config).replace('"gelu"', '"silu"'))
    assert config != instance.config
    faulty = read.with_tensors(read.build(instance.family, config), written.tensors(original(instance, written)))
    assert shows(instance, written, read, faulty)


@pytest.mark.parametrize("instance", INSTANCES, ids=repr)
def test_parameters_have_the_same_names_shapes_and_description(instance: Instance) -> None:
    first, second = (original(instance, engine) for engine in ENGINES)
    names = [{name: value.shape for name, value in e.tensors(original(instance, e)).items()} for e in ENGINES]
    assert names[0] == names[1]
    assert first.spec() == second.spec()
    assert covers(json.loads(json.dumps(first.spec())), instance.config)


def covers(spec: Any, config: Any) -> bool:
    """Whether a description says what it was made from; it may also say the defaults."""
    if isinstance(config, Mapping):
        return all(name in spec and covers(spec[name], value) for name, value in config.items())
    if isinstance(config, list):
        return len(spec) == len(config) and all(map(covers, spec, config))
    return spec == config


@pytest.mark.parametrize("instance", INSTANCES, ids=repr)
def test_initial_parameters_have_the_same_law(instance: Instance) -> None:
    """Not the same numbers, as the engines' generators differ, but as large: standard deviations over many seeds."""
    scales = []
    for engine in ENGINES:
        many = [engine.tensors(engine.build(instance.family, instance.config, seed)) for seed in range(5)]
        scales.append({name: np.stack([tensors[name] for tensors in many]) for name in many[0]})
    for name, first in scales[0].items():
        a, b = first.std(), scales[1][name].std()
        # a uniform law's standard deviation from n numbers errs by about 0.45 / sqrt(n)
        assert abs(a - b) <= 5 * 0.45 * np.sqrt(2 / first.size) * max(a, b) + 1e-7, name
