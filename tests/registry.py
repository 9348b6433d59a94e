"""The one registry of (family, engine, instance) that the generic tests sweep.

A new family adds its oracles to `oracles.ORACLES` and its instances to `INSTANCES`, and nothing else.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from density_instances import autoregressive_instances, ebm_instances, flow_instances, score_instances
from engines import ENGINES, Arrays
from instances import Instance, binary, classes, real
from oracles import ORACLES, Oracle


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


def _vae_instances() -> list[Instance]:
    """Every observation law with both kinds of networks."""
    found = []
    laws: dict[str, tuple[int, Callable[..., Any], dict[str, Any]]] = {
        "bernoulli": (1, binary, {}),
        "gaussian": (1, real, {}),
        "gaussian_per_dimension": (1, real, {}),
        "gaussian_predicted": (2, real, {}),
        "student_t": (3, real, {}),
        "categorical": (3, lambda shape: classes(shape, 3), {"num_classes": 3}),
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
    return [*found, _vae_table(), _vae_pixels(), _vae_levels(), _vae_image_levels()]


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
    return Instance("vae", "three-levels", config, real((5,)))


def _vae_image_levels() -> Instance:
    """Two levels above convolutions, with full covariances and a VampPrior."""
    conv: dict[str, Any] = {"hidden": [6], "kernel_size": 3, "activation": "gelu"}
    image, mlp = (2, 5, 4), {"network": "MLP", "hidden": [6, 6], "activation": "gelu"}
    config = {
        "program": "hierarchical",
        "latent_dims": [3, 2],
        "input_shape": list(image),
        "observation": {"law": "gaussian", "event_shape": list(image)},
        "posterior": {"posterior": "full"},
        "top": {"prior": "vamp", "num_components": 3, "num_features": 40},
        "encoder": [
            {**conv, "network": "ConvEncoder", "in_shape": list(image), "out_size": 13, "channels": [4, 6]},
            {**mlp, "in_size": 4, "out_size": 5},
        ],
        "prior": [{**mlp, "in_size": 2, "out_size": 6}],
        "decoder": {**conv, "network": "ConvDecoder", "in_size": 3, "out_shape": list(image), "channels": [6, 4]},
    }
    return Instance("vae", "image-levels", config, real(image))


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
    return Instance("vae", "discretized-logistic-mlp", config, classes((5,), 7))


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
    made = {"network": "MaskedMLP", "event_shape": [2], "hidden": [6], "activation": "gelu"}
    coupling: dict[str, Any] = {"mask": [False, True], "network": {**mlp, "in_size": 1}}
    spline = {"transform": "SplineCoupling", **coupling, "num_bins": 4, "bound": 5.0}
    spline["network"] = {**mlp, "in_size": 1, "out_size": 11}
    inverse = {"transform": "AffineAutoregressive", "parallel": "forward", "context_dim": 3}
    inverse["network"] = {**made, "num_params": 2, "context_size": 3}
    laws = [{"size": 2, "base": "normal", "transforms": transforms} for transforms in ([spline], [inverse])]
    chosen["flows"] = (
        7,
        {"prior": {"prior": "flow", "flow": laws[0]}, "posterior": {"posterior": "flow", "flow": laws[1]}},
    )
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
            real((5,)),
        )
        for name, (size, extra) in chosen.items()
    ]


INSTANCES: tuple[Instance, ...] = (
    *_vae_instances(),
    *autoregressive_instances(),
    *flow_instances(),
    *ebm_instances(),
    *score_instances(),
)

__all__ = ["INSTANCES", "ORACLES", "Instance", "cases", "oracle_program", "randomised", "twin"]
