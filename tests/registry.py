"""The one registry of (family, engine, instance) that the generic tests sweep.

A new family adds its oracles to `oracles.ORACLES` and its instances to `INSTANCES`, and nothing else.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from engines import ENGINES, Arrays
from oracles import ORACLES, Oracle


@dataclass(frozen=True, eq=False)
class Instance:
    """A program with random parameters, apart from any engine.

    Attributes:
        family: of the program.
        name: for the test's id.
        config: what the program's ``spec()`` gives.
        data: (generator, n) to data that the program takes.
        holes: whether rows with missing entries have a density.
    """

    family: str
    name: str
    config: Mapping[str, Any]
    data: Callable[[np.random.Generator, int], np.ndarray]
    holes: bool = True

    def __repr__(self) -> str:
        return f"{self.family}-{self.name}"


def randomised(engine: Any, family: str, config: Mapping[str, Any], seed: int = 0) -> Any:
    """The program, every number of it moved from where its constructor puts it: a zero bias or buffer proves little."""
    program = engine.build(family, config, seed)
    rng = np.random.default_rng(seed)
    moved: Arrays = {
        name: (value + 0.3 * rng.standard_normal(value.shape)).astype(value.dtype)
        for name, value in engine.tensors(program).items()
    }
    return engine.with_tensors(program, moved)


@cache
def oracle_program(oracle: Oracle, engine: Any) -> Any:
    """The oracle's program in an engine; made once, so that what is compiled for it is shared."""
    return engine.with_tensors(engine.build(oracle.family, oracle.config), oracle.tensors)


def twin(oracle: Oracle, engine: Any, **factors: float) -> Any:
    """The oracle's program with a planted fault: some parameters multiplied."""
    tensors = {name: value * factors.get(name.split(".")[0], 1.0) for name, value in oracle.tensors.items()}
    return engine.with_tensors(engine.build(oracle.family, oracle.config), tensors)


def cases(instances: Iterable[Any], *, all_quick: bool = True) -> list[Any]:
    """(instance, engine) with readable ids; without ``all_quick`` only the quick instances run without ``slow``."""
    return [
        pytest.param(
            instance,
            engine,
            id=f"{instance.family}-{engine.name}-{instance.name}",
            marks=() if all_quick or instance.quick else pytest.mark.slow,
        )
        for instance in instances
        for engine in ENGINES
    ]


def _real(shape: tuple[int, ...]) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.standard_normal((n, *shape)).astype(np.float32)


def _binary(shape: tuple[int, ...]) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.integers(0, 2, (n, *shape)).astype(np.float32)


def _classes(shape: tuple[int, ...], number: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.integers(0, number, (n, *shape)).astype(np.int32)


def _vae_instances() -> list[Instance]:
    """Every observation law with both kinds of networks."""
    found = []
    laws: dict[str, tuple[int, Callable[..., Any], dict[str, Any]]] = {
        "bernoulli": (1, _binary, {}),
        "gaussian": (1, _real, {}),
        "gaussian_per_dimension": (1, _real, {}),
        "gaussian_predicted": (2, _real, {}),
        "student_t": (3, _real, {}),
        "categorical": (3, lambda shape: _classes(shape, 3), {"num_classes": 3}),
    }
    for law, (params, data, extra) in laws.items():
        one_hot = extra.get("num_classes", 1)
        table, image = (5,), (2, 5, 4)
        mlp = {"network": "MLP", "hidden": [8, 8], "activation": "gelu", "residual": True, "layer_norm": True}
        config: dict[str, Any] = {
            "latent_dim": 2,
            "input_shape": [5 * one_hot],
            "observation": {"law": law, "event_shape": list(table), **extra},
            "encoder": {**mlp, "in_size": 5 * one_hot, "out_size": 4},
            "decoder": {**mlp, "in_size": 2, "out_size": 5 * params},
        }
        found.append(Instance("vae", f"{law}-mlp", config, data(table)))
        conv = {"hidden": [6], "kernel_size": 3, "activation": "gelu"}
        inputs, outputs = (2 * one_hot, 5, 4), (2 * params, 5, 4)
        config = {
            "latent_dim": 3,
            "input_shape": list(inputs),
            "observation": {"law": law, "event_shape": list(image), **extra},
            "encoder": {**conv, "network": "ConvEncoder", "in_shape": list(inputs), "out_size": 6, "channels": [4, 6]},
            "decoder": {**conv, "network": "ConvDecoder", "in_size": 3, "out_shape": list(outputs), "channels": [6, 4]},
        }
        found.append(Instance("vae", f"{law}-conv", config, data(image)))
    found += _vae_parts()
    return [*found, _vae_table(), _vae_pixels(), _vae_levels()]


def _vae_levels() -> Instance:
    """Three stochastic levels."""
    mlp: dict[str, Any] = {"network": "MLP", "hidden": [6, 6], "activation": "gelu"}
    sizes = {"encoder": [(5, 10), (4, 8), (4, 4)], "prior": [(2, 6), (2, 4)], "decoder": [(3, 5)]}
    networks = {name: [{**mlp, "in_size": i, "out_size": o} for i, o in pairs] for name, pairs in sizes.items()}
    config = {
        "program": "hierarchical",
        "latent_dims": [3, 2, 2],
        "input_shape": [5],
        "observation": {"law": "gaussian_per_dimension", "event_shape": [5]},
        **networks,
        "decoder": networks["decoder"][0],
    }
    return Instance("vae", "three-levels", config, _real((5,)))


def _vae_table() -> Instance:
    """Every kind of column."""
    mlp: dict[str, Any] = {"network": "MLP", "hidden": [6, 6], "activation": "gelu"}
    config = {
        "latent_dim": 2,
        "input_shape": [8],
        "observation": {
            "law": "table",
            "event_shape": [6],
            "columns": [["count", 0], ["real", 0], ["categorical", 3], ["positive", 0], ["ordinal", 4], ["real", 0]],
        },
        "encoder": {**mlp, "in_size": 8, "out_size": 4},
        "decoder": {**mlp, "in_size": 2, "out_size": 8},
    }

    def data(rng: np.random.Generator, n: int) -> np.ndarray:
        real = rng.standard_normal((3, n))
        columns = [rng.poisson(2, n), real[0], rng.integers(0, 3, n), np.exp(real[1]), rng.integers(0, 4, n), real[2]]
        return np.stack(columns, axis=1).astype(np.float32)

    return Instance("vae", "table-mlp", config, data)


def _vae_pixels() -> Instance:
    """Integers in their order."""
    mlp: dict[str, Any] = {"network": "MLP", "hidden": [6, 6], "activation": "gelu"}
    law = {"law": "discretized_logistic", "num_components": 2, "num_values": 7, "coupled": False}
    config = {
        "latent_dim": 2,
        "input_shape": [5],
        "observation": {**law, "event_shape": [5]},
        "encoder": {**mlp, "in_size": 5, "out_size": 4},
        "decoder": {**mlp, "in_size": 2, "out_size": 30},
    }
    return Instance("vae", "discretized-logistic-mlp", config, _classes((5,), 7))


def _vae_parts() -> list[Instance]:
    """Every posterior and prior, on one small table."""
    mlp: dict[str, Any] = {"network": "MLP", "hidden": [6, 6], "activation": "gelu"}
    law = {"law": "gaussian_per_dimension", "event_shape": [5]}
    base = {"latent_dim": 2, "input_shape": [5], "observation": law}
    chosen: dict[str, tuple[int, dict[str, Any]]] = {
        "full-mixture": (
            5,
            {"posterior": {"posterior": "full"}, "prior": {"prior": "mixture", "num_components": 3, "latent_dim": 2}},
        ),
        "vamp": (4, {"prior": {"prior": "vamp", "num_components": 3, "num_features": 5}}),
        "conjugate": (
            4,
            {
                "posterior": {"posterior": "conjugate", "num_features": 5, "latent_dim": 2},
                "sees_mask": True,
                "input_shape": [10],
            },
        ),
    }
    return [
        Instance(
            "vae",
            name,
            {
                **base,
                "encoder": {**mlp, "in_size": extra.get("input_shape", [5])[0], "out_size": size},
                "decoder": {**mlp, "in_size": 2, "out_size": 5, "skip": True},
                **extra,
            },
            _real((5,)),
        )
        for name, (size, extra) in chosen.items()
    ]


def _autoregressive_instances() -> list[Instance]:
    """Every kind of output, of inputs and of orders."""
    found = []
    laws: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
        "bernoulli": ({}, {"num_params": 1}, _binary((2, 3))),
        "gaussian_predicted": ({}, {"num_params": 2, "order": [3, 0, 5, 1, 4, 2]}, _real((2, 3))),
        "gaussian_mixture": ({"num_components": 2}, {"num_params": 6, "seed": 4}, _real((2, 3))),
        "categorical": ({"num_classes": 3}, {"num_params": 3, "num_categories": 3}, _classes((2, 3), 3)),
    }
    for law, (own, options, data) in laws.items():
        found.append(_masked(law, {"law": law, "event_shape": [2, 3], **own}, options, data))
    pixels = {"law": "discretized_logistic", "event_shape": [3, 2, 2], "num_components": 2, "num_values": 7}
    coupled = {"num_params": 20, "element_shape": [3], "coupled": True, "input_range": [0.0, 6.0]}
    found.append(_masked("coupled-pixels", {**pixels, "coupled": True}, coupled, _classes((3, 2, 2), 7)))
    members = [[None, None], [[[3], [0], [5], [1], [4], [2]], 7]]
    found.append(_masked("members", {"law": "bernoulli", "event_shape": [2, 3]}, {"num_params": 1}, _binary((2, 3))))
    found[-1] = replace(found[-1], config={**found[-1].config, "members": members})
    return [*found, *_autoregressive_networks()]


def _autoregressive_networks() -> list[Instance]:
    """The networks of images, sound and text."""
    pixels = {"law": "discretized_logistic", "event_shape": [3, 3, 2], "num_components": 2, "num_values": 7}
    own: dict[str, Any] = {
        "pixelcnn": {
            "network": "PixelCNN",
            "event_shape": [3, 3, 2],
            "num_params": 6,
            "channels": 6,
            "num_layers": 2,
            "first_kernel_size": 3,
            "input_range": [0.0, 6.0],
        },
        "wavenet": {
            "network": "WaveNet",
            "event_shape": [6],
            "num_params": 3,
            "channels": 5,
            "skip_channels": 6,
            "dilations": [1, 2],
            "num_categories": 3,
        },
        "transformer": {
            "network": "CausalTransformer",
            "event_shape": [5, 2],
            "width": 8,
            "num_heads": 2,
            "num_layers": 1,
        },
    }
    laws: dict[str, tuple[dict[str, Any], Any]] = {
        "pixelcnn": ({**pixels, "coupled": False}, _classes((3, 3, 2), 7)),
        "wavenet": ({"law": "categorical", "event_shape": [6], "num_classes": 3}, _classes((6,), 3)),
        "transformer": ({"law": "bernoulli", "event_shape": [5, 2]}, _binary((5, 2))),
    }
    return [
        Instance(
            "autoregressive",
            name,
            {"observation": law, "network": {**own[name], "activation": "gelu"}},
            data,
            holes=False,
        )
        for name, (law, data) in laws.items()
    ]


def _masked(name: str, law: dict[str, Any], options: dict[str, Any], data: Any) -> Instance:
    network = {"network": "MaskedMLP", "event_shape": law["event_shape"], "hidden": [8, 8], "activation": "gelu"}
    if "order" in options:
        options = {**options, "order": [[entry] for entry in options["order"]]}
    return Instance("autoregressive", name, {"observation": law, "network": {**network, **options}}, data, holes=False)


def _flow_instances() -> list[Instance]:
    """Couplings, autoregressive maps and mixing layers."""
    mask, size = [False, False, True, True], 4
    mlp: dict[str, Any] = {"network": "MLP", "in_size": 2, "hidden": [6, 6], "activation": "gelu"}
    made = {"network": "MaskedMLP", "event_shape": [size], "hidden": [6, 6], "activation": "gelu"}
    spline = {"num_bins": 4, "bound": 5.0}
    affine = {"transform": "AffineAutoregressive", "network": {**made, "num_params": 2}}
    own: dict[str, list[dict[str, Any]]] = {
        "realnvp": [
            {"transform": "ActNorm", "size": size},
            {"transform": "AffineCoupling", "mask": mask, "network": {**mlp, "out_size": 4}},
            {"transform": "Permute", "permutation": [2, 0, 3, 1]},
            {"transform": "AdditiveCoupling", "mask": mask, "network": {**mlp, "out_size": 2}},
        ],
        "nsf": [
            {"transform": "SplineCoupling", "mask": mask, "network": {**mlp, "out_size": 22}, **spline},
            {"transform": "LULinear", "size": size},
        ],
        "maf": [{**affine, "parallel": "inverse"}],
        "iaf": [{**affine, "parallel": "forward"}],
        "cnf": [
            {
                "transform": "CNF",
                "network": {**mlp, "in_size": size + 1, "out_size": size},
                "size": size,
                "num_probes": 2,
                **dict.fromkeys(("rtol", "atol"), 1e-6),
            }
        ],
        "spline-maf": [{"transform": "SplineAutoregressive", "network": {**made, "num_params": 11}, **spline}],
    }
    return [
        Instance("flow", name, {"size": size, "base": "normal", "transforms": transforms}, _real((size,)), holes=False)
        for name, transforms in own.items()
    ]


def _score_instances() -> list[Instance]:
    """Both networks, all diffusions, with and without a context."""
    mlp: dict[str, Any] = {"network": "ScoreMLP", "event_shape": [3], "hidden": [6, 6], "activation": "gelu"}
    conv = {"network": "ScoreUNet", "event_shape": [2, 5, 3], "channels": [3, 4], "activation": "gelu", "features": 4}
    own: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
        "vp-mlp": (
            {"sde": "vp", "beta_max": 4.0, "t_min": 0.2},
            {**mlp, "features": 4, "scale": 0.7},
            {"tolerance": 1e-7},
        ),
        "subvp-context": (
            {"sde": "subvp", "beta_max": 4.0, "t_min": 0.3},
            {**mlp, "features": 4, "context_dim": 2},
            {"context_dim": 2, "tolerance": 1e-7},
        ),
        "ve-conv": (
            {"sde": "ve", "sigma_min": 0.3, "sigma_max": 3.0, "levels": 10},
            conv,
            {"num_probes": 2},
        ),
    }
    return [
        Instance(
            "score",
            name,
            {"event_shape": network["event_shape"], "sde": sde, "network": network, "tolerance": 1e-6, **options},
            _real(tuple(network["event_shape"])),
            holes=False,
        )
        for name, (sde, network, options) in own.items()
    ]


INSTANCES: tuple[Instance, ...] = (
    *_vae_instances(),
    *_autoregressive_instances(),
    *_flow_instances(),
    *_score_instances(),
)

__all__ = ["INSTANCES", "ORACLES", "Instance", "cases", "oracle_program", "randomised", "twin"]
