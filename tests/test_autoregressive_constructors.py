"""Programs of images, sound and text: probabilities of all states, draws, descriptions, context, refusals."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from engines import ENGINES, NUMPYRO

MADE: dict[str, tuple[tuple[int, ...], int, dict[str, Any]]] = {
    "pixelcnn": ((1, 3, 2), 2, {"likelihood": "bernoulli", "channels": 4, "num_layers": 2, "first_kernel_size": 3}),
    "wavenet": ((4,), 3, {"num_classes": 3, "channels": 4, "skip_channels": 4, "dilations": (1, 2)}),
    "transformer": ((4,), 3, {"num_classes": 3, "width": 4, "num_heads": 2, "num_layers": 1, "tied": True}),
}
both = pytest.mark.parametrize("engine", ENGINES, ids=str)
every = pytest.mark.parametrize("name", MADE)


def made(engine: Any, name: str, seed: int = 0) -> Any:
    """The program, its parameters moved from where they start."""
    shape, _, options = MADE[name]
    key = {"key": jax.random.key(seed)} if engine is NUMPYRO else {}
    program = getattr(engine.face.AutoregressiveModel, name)(shape, **options, **key)
    rng = np.random.default_rng(seed)
    tensors = engine.tensors(program)
    return engine.with_tensors(
        program, {k: (v + 0.5 * rng.standard_normal(v.shape)).astype(v.dtype) for k, v in tensors.items()}
    )


def states(name: str) -> np.ndarray:
    shape, values, options = MADE[name]
    kind = np.float32 if "likelihood" in options else np.int32
    return np.array(list(itertools.product(range(values), repeat=int(np.prod(shape)))), kind).reshape(-1, *shape)


@every
@both
def test_probabilities_of_all_states(engine: Any, name: str) -> None:
    """They sum to 1, and draws have them: the log density's mean over 2,000 draws within 5 standard errors (1e-6)."""
    program, x = made(engine, name), states(name)
    logs = np.asarray(engine.call("log_prob", program, x).value, np.float64)
    assert abs(np.exp(logs).sum() - 1) < 1e-5
    assert logs.std() > 0.1
    drawn = np.asarray(engine.call("sample", program, 2000))
    values = np.asarray(engine.call("log_prob", program, drawn).value, np.float64)
    entropy, variance = -(np.exp(logs) * logs).sum(), (np.exp(logs) * logs**2).sum() - (np.exp(logs) * logs).sum() ** 2
    assert abs(values.mean() + entropy) < 5 * np.sqrt(variance / 2000)
    uniform = logs.mean()
    assert abs(uniform + entropy) > 5 * np.sqrt(variance / 2000)


@every
def test_programs_go_from_engine_to_engine(name: str, tmp_path: Any) -> None:
    first, second = ENGINES
    program, x = made(first, name), states(name)[::7]
    first.face.save(program, tmp_path)
    read = second.face.load(tmp_path)
    assert read.spec() == program.spec()
    values = [engine.call("log_prob", p, x).value for engine, p in ((first, program), (second, read))]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-4, atol=1e-5)


@both
def test_a_class_as_context(engine: Any) -> None:
    """One network, a law for each row's class."""
    face = engine.face
    options = {"channels": 4, "num_layers": 2, "first_kernel_size": 3, "context_size": 2}
    key = {"key": jax.random.key(0)} if engine is NUMPYRO else {}
    network = face.PixelCNN((1, 3, 2), **options, **key)
    context = np.eye(2, dtype=np.float32)[[0, 0, 1]]
    law = face.Autoregressive(network, face.likelihoods.Bernoulli((1, 3, 2)), engine.array(context))
    x = np.zeros((3, 1, 3, 2), np.float32)
    found = np.asarray(jax.tree.map(lambda leaf: leaf.tolist(), law.log_prob(engine.array(x))))
    assert found.shape == (3,)
    assert abs(found[0] - found[1]) < 1e-6
    assert abs(found[0] - found[2]) > 1e-4


REFUSED: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "no image": ("pixelcnn", (6,), {}, r"event_shape: got \(6,\); expected \(channels, height, width\)"),
    "no sequence": ("wavenet", (2, 3, 4), {"num_classes": 3}, r"event_shape: got \(2, 3, 4\); expected \(length,\)"),
    "per dimension": (
        "transformer",
        (5,),
        {"likelihood": "gaussian_per_dimension"},
        "likelihood: got 'gaussian_per_dimension'; expected a law that is the same for every entry",
    ),
}


@pytest.mark.parametrize(("name", "shape", "options", "message"), REFUSED.values(), ids=REFUSED)
@both
def test_refusals(engine: Any, name: str, shape: Any, options: dict[str, Any], message: str) -> None:
    key = {"key": jax.random.key(0)} if engine is NUMPYRO else {}
    with pytest.raises(ValueError, match=message):
        getattr(engine.face.AutoregressiveModel, name)(shape, **options, **key)
