"""Instances of the families without latents: autoregressive, flow, energy-based and score-based."""

from dataclasses import replace
from typing import Any

from instances import Instance, binary, classes, real

from deepgen.models.flow.affine import FORM


def autoregressive_instances() -> list[Instance]:
    """Every kind of output, of inputs and of orders."""
    found = []
    laws: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
        "bernoulli": ({}, {"num_params": 1}, binary((2, 3))),
        "gaussian_predicted": ({}, {"num_params": 2, "order": [3, 0, 5, 1, 4, 2]}, real((2, 3))),
        "gaussian_mixture": ({"num_components": 2}, {"num_params": 6, "seed": 4}, real((2, 3))),
        "categorical": ({"num_classes": 3}, {"num_params": 3, "num_categories": 3}, classes((2, 3), 3)),
    }
    for law, (own, options, data) in laws.items():
        found.append(_masked(law, {"law": law, "event_shape": [2, 3], **own}, options, data))
    pixels = {"law": "discretized_logistic", "event_shape": [3, 2, 2], "num_components": 2, "num_values": 7}
    coupled = {"num_params": 20, "element_shape": [3], "coupled": True, "input_range": [0.0, 6.0]}
    found.append(_masked("coupled-pixels", {**pixels, "coupled": True}, coupled, classes((3, 2, 2), 7)))
    members = [[None, None], [[[3], [0], [5], [1], [4], [2]], 7]]
    found.append(_masked("members", {"law": "bernoulli", "event_shape": [2, 3]}, {"num_params": 1}, binary((2, 3))))
    found[-1] = replace(found[-1], config={**found[-1].config, "members": members})
    return [*found, _order_agnostic(), *_autoregressive_networks()]


def _order_agnostic() -> Instance:
    """One network for the conditionals of every order."""
    config = {
        "program": "order_agnostic",
        "observation": {"law": "categorical", "event_shape": [2, 2], "num_classes": 3},
        "network": {"network": "MLP", "in_size": 16, "out_size": 12, "hidden": [8, 8], "activation": "gelu"},
    }
    return Instance("autoregressive", "order-agnostic", config, classes((2, 2), 3), holes=False)


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
            "dropout": 0.25,
        },
    }
    laws: dict[str, tuple[dict[str, Any], Any]] = {
        "pixelcnn": ({**pixels, "coupled": False}, classes((3, 3, 2), 7)),
        "wavenet": ({"law": "categorical", "event_shape": [6], "num_classes": 3}, classes((6,), 3)),
        "transformer": ({"law": "bernoulli", "event_shape": [5, 2]}, binary((5, 2))),
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


def flow_instances() -> list[Instance]:
    """Couplings, autoregressive maps and mixing layers."""
    mask, size = [False, False, True, True], 4
    mlp: dict[str, Any] = {"network": "MLP", "in_size": 2, "hidden": [6, 6], "activation": "gelu"}
    made = {"network": "MaskedMLP", "event_shape": [size], "hidden": [6, 6], "activation": "gelu"}
    spline = {"num_bins": 4, "bound": 5.0}
    affine = {"transform": "AffineAutoregressive", "form": FORM, "network": {**made, "num_params": 2}}
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
    vectors = [
        Instance("flow", name, {"size": size, "base": "normal", "transforms": transforms}, real((size,)), holes=False)
        for name, transforms in own.items()
    ]
    return [*vectors, _flow_of_images()]


def _flow_of_images() -> Instance:
    """Two scales, with every transform of images."""
    net: dict[str, Any] = {"network": "ConvNet", "hidden": [5, 4], "kernel_size": 3, "activation": "gelu"}

    def coupling(kind: str, shape: list[int], pattern: str, seen: int, outputs: int) -> dict[str, Any]:
        network = {**net, "in_channels": seen, "out_channels": outputs}
        return {"transform": kind, "event_shape": shape, "pattern": pattern, "network": network}

    inner, outer = [2, 2, 1], [4, 2, 1]
    deeper = [
        {"transform": "Unflatten", "event_shape": inner},
        coupling("AdditiveCoupling2d", inner, "channels", 1, 1),
        {"transform": "ActNorm2d", "channels": 2},
    ]
    transforms = [
        {"transform": "Split", "event_shape": outer, "transforms": deeper},
        coupling("AffineCoupling2d", outer, "channels", 2, 4),
        {"transform": "InvertibleConv1x1", "channels": 4, "permutation": [2, 0, 3, 1]},
        {"transform": "Squeeze"},
        coupling("AffineCoupling2d", [1, 4, 2], "checkerboard", 1, 2),
    ]
    return Instance(
        "flow", "images", {"size": 8, "base": "normal", "transforms": transforms}, real((1, 4, 2)), holes=False
    )


def score_instances() -> list[Instance]:
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
            real(tuple(network["event_shape"])),
            holes=False,
        )
        for name, (sde, network, options) in own.items()
    ]


def ebm_instances() -> list[Instance]:
    """Perceptrons, convolutions, and products of energies of every kind."""
    mlp: dict[str, Any] = {"network": "MLP", "hidden": [6, 6], "activation": "gelu"}
    conv = {"network": "ConvEncoder", "hidden": [6, 6], "channels": [4, 4], "kernel_size": 3, "activation": "gelu"}
    parts: list[dict[str, Any]] = [
        {"energy": "network", "network": {**mlp, "in_size": 6, "out_size": 1}},
        {"energy": "rbm", "visible_dim": 6, "hidden_dim": 5},
        {"energy": "quadratic", "in_size": 6, "out_size": 3},
        {"energy": "logits", "network": {**mlp, "in_size": 6, "out_size": 3}},
    ]
    image = {"energy": "network", "network": {**conv, "in_shape": [2, 5, 4], "out_size": 1}}
    own = {
        "full": ([6], "full", parts[0], "hamiltonian", real((6,))),
        "conv": ([2, 5, 4], "diagonal", image, "hamiltonian", real((2, 5, 4))),
        "product": ([2, 3], "bernoulli", {"energy": "sum", "energies": parts}, "flips", binary((2, 3))),
    }
    classes = {
        "program": "class",
        "event_shape": [5],
        "base": "diagonal",
        "energy": {"energy": "logits", "network": {**mlp, "in_size": 5, "out_size": 3}},
        "num_classes": 3,
    }
    return [
        Instance("ebm", "classes", classes, real((5,)), holes=False),
        *(
            Instance(
                "ebm", name, dict(zip(("event_shape", "base", "energy", "kernel"), config, strict=True)), data, False
            )
            for name, (*config, data) in own.items()
        ),
    ]
