"""Data missing not at random: bound and imputations against quadrature, and what a fit learns of hidden values."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from numpyro import handlers
from pyro import poutine
from scipy import stats
from scipy.special import expit, logsumexp, softmax

from deepgen.inference.svi import numpyro as nsvi
from deepgen.inference.svi import pyro as psvi
from deepgen.inference.svi.numpyro.observed import ObservedModel as NumPyroObserved
from deepgen.inference.svi.pyro.observed import ObservedModel as PyroObserved
from deepgen.models.mnar import mechanism as mechanisms
from deepgen.nn.equinox import state_dict

engines = pytest.mark.parametrize("engine", ENGINES, ids=repr)
ROOM: dict[Any, Any] = {NUMPYRO: nsvi, PYRO: psvi}
OBSERVED: dict[Any, Any] = {NUMPYRO: NumPyroObserved, PYRO: PyroObserved}

LINEAR = {"network": "MLP", "hidden": [], "activation": "gelu"}
PROGRAM = {
    "family": "vae",
    "config": {
        "latent_dim": 1,
        "input_shape": [2],
        "observation": {"law": "gaussian", "event_shape": [2]},
        "encoder": {**LINEAR, "in_size": 2, "out_size": 2},
        "decoder": {**LINEAR, "in_size": 1, "out_size": 2},
    },
}
W, B = np.array([1.2, -0.8]), np.array([0.3, -0.4])
WEIGHT, BIAS = np.array([[-1.5, 0.6], [0.9, -1.1]]), np.array([0.4, 0.8])
MECHANISMS = {
    "self": {"network": "SelfMasking", "event_shape": [2], "hides": "high"},
    "linear": {"network": "LinearMasking", "event_shape": [2]},
}
ROWS = np.array(
    [[0.2, -0.5], [1.4, np.nan], [np.nan, -1.2], [-2.0, np.nan], [np.nan, 2.0], [np.nan, np.nan]], dtype=np.float32
)


@cache
def program_of(engine: Any, mechanism: str) -> Any:
    program = engine.build("mnar", {"program": PROGRAM, "mechanism": MECHANISMS[mechanism]})
    tensors = dict(engine.tensors(program))
    raw_slope = np.log(np.expm1(-np.diag(WEIGHT)))
    tensors |= {
        "program.decoder.layers.0.weight": W[:, None],
        "program.decoder.layers.0.bias": B,
        "program.encoder.layers.0.weight": np.array([[0.4, -0.3], [0.05, 0.02]]),
        "program.encoder.layers.0.bias": np.array([0.0, 0.3]),
        **({"mechanism.weight": WEIGHT} if mechanism == "linear" else {"mechanism.raw_slope": raw_slope}),
        "mechanism.bias": BIAS,
    }
    found = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
    return engine.with_tensors(program, found)


def logits(mechanism: str, x: np.ndarray) -> np.ndarray:
    return x @ (WEIGHT if mechanism == "linear" else np.diag(np.diag(WEIGHT))).T + BIAS


@cache
def by_quadrature(mechanism: str | None) -> tuple[np.ndarray, np.ndarray]:
    """log p(x_observed, s) of each row and E[x | x_observed, s], on a grid of the latent and of the missing entries.

    The program's noise is a standard normal. Without a mechanism, what there is of the observed entries alone.
    """
    value, mean = [], []
    z = np.linspace(-5, 5, 81)
    for row in ROWS.astype(float):
        axes = [np.linspace(-9, 9, 101) if np.isnan(entry) else np.array([entry]) for entry in row]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        error = grid - (z[:, None, None] * W + B)
        log_joint = -0.5 * ((error**2).sum(-1) + z[:, None] ** 2) - 1.5 * np.log(2 * np.pi)
        joint = logsumexp(log_joint, axis=0)
        if mechanism is not None:
            joint = joint + np.log(expit(np.where(np.isnan(row), -1, 1) * logits(mechanism, grid))).sum(-1)
        cell = (z[1] - z[0]) * np.prod([axis[1] - axis[0] for axis in axes if len(axis) > 1])
        value.append(logsumexp(joint) + np.log(cell))
        mean.append(softmax(joint) @ grid)
    return np.array(value), np.array(mean)


def test_quadrature_is_the_closed_form_without_a_mechanism() -> None:
    law = stats.multivariate_normal(B, np.outer(W, W) + np.eye(2))
    found = by_quadrature(None)[0]
    assert found[0] == pytest.approx(law.logpdf(ROWS[0]), rel=1e-6)
    assert found[2] == pytest.approx(stats.norm(B[1], np.hypot(W[1], 1)).logpdf(ROWS[2, 1]), rel=1e-6)
    assert found[5] == pytest.approx(0.0, abs=1e-6)


@engines
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_bound_comes_up_to_the_density_of_data_and_mask(engine: Any, mechanism: str) -> None:
    found = engine.call("log_prob", program_of(engine, mechanism), ROWS, num_particles=4000)
    assert found.kind == "bound"
    assert found.stderr.max() < 0.05

    def near(exact: np.ndarray) -> bool:
        # five standard errors, and what a bound of 4000 particles leaves (half its variance)
        return bool((abs(found.value - exact) < 5 * found.stderr + found.stderr**2 + 1e-4).all())

    assert near(by_quadrature(mechanism)[0])
    assert not near(by_quadrature(None)[0])
    assert not near(by_quadrature("self" if mechanism == "linear" else "linear")[0])


def params_of(vae: Any) -> dict[str, Any]:
    fields = ("decoder", "encoder", "observation")
    return {f"{name}$params": eqx.filter(getattr(vae, name), eqx.is_inexact_array) for name in fields}


def losses(engine: Any, program: Any, objectives: list[Any], x: np.ndarray, count: int) -> list[np.ndarray]:
    """The losses of plain objectives of the engine at many seeds."""
    rows = engine.array(x)
    if engine is NUMPYRO:
        params = params_of(program.program)
        params["mechanism$params"] = eqx.filter(program.mechanism, eqx.is_inexact_array)
        keys = jax.random.split(jax.random.key(0), count)

        def each(key: Any) -> list[Any]:
            return [objective.loss(key, params, program.model, program.guide, rows) for objective in objectives]

        return [np.asarray(found) for found in jax.jit(jax.vmap(each))(keys)]
    found = []
    for objective in objectives:
        pyro.set_rng_seed(0)
        with pyro.get_param_store().scope(), torch.no_grad():
            found.append(np.array([objective.loss(program.model, program.guide, rows) for _ in range(count)]))
    return found


@engines
def test_plain_objectives_are_the_bound(engine: Any) -> None:
    program, count = program_of(engine, "linear"), 120
    total = by_quadrature("linear")[0].sum()
    plain = (numpyro if engine is NUMPYRO else pyro).infer.Trace_ELBO()
    iwae = ROOM[engine].IWAE
    own, one, many = (-found for found in losses(engine, program, [plain, iwae(1), iwae(30)], ROWS, count))
    error = [found.std(ddof=1) / np.sqrt(count) for found in (own, one, many)]
    # 6 standard errors: by chance once in a billion
    assert abs(one.mean() - own.mean()) < 6 * np.hypot(error[0], error[1])
    assert one.mean() + 6 * error[1] < many.mean() < total + 6 * error[2]
    assert many.mean() > total - 0.3


def test_engines_agree_on_the_same_noise() -> None:
    first, second = program_of(NUMPYRO, "linear"), program_of(PYRO, "linear")

    def value(params: Any) -> Any:
        return nsvi.IWAE(1).loss(jax.random.key(0), params, first.model, first.guide, jnp.asarray(ROWS))

    params = params_of(first.program) | {"mechanism$params": first.mechanism}
    with NUMPYRO.tape(3):
        loss, by_site = jax.jit(jax.value_and_grad(value))(params)
    with pyro.get_param_store().scope(), PYRO.tape(3):
        second.zero_grad()
        other = psvi.IWAE(1).loss_and_grads(second.model, second.guide, torch.as_tensor(ROWS))
    assert other == pytest.approx(float(loss), rel=1e-5)
    mine, theirs = by_parameter(by_site), {name: p.grad.numpy() for name, p in second.named_parameters()}
    assert mine.keys() == {name.removeprefix("program.") for name in theirs}
    for name, gradient in theirs.items():
        assert abs(gradient).max() > 1e-3
        np.testing.assert_allclose(mine[name.removeprefix("program.")], gradient, rtol=1e-3, atol=1e-4)


def by_parameter(by_site: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {
        f"{site.removesuffix('$params')}.{name}": np.asarray(leaf)
        for site, gradient in by_site.items()
        for name, leaf in state_dict(gradient).items()
    }


@engines
def test_imputations_are_weighted_by_the_mask(engine: Any) -> None:
    program, count = program_of(engine, "self"), 4000
    _, mean = by_quadrature("self")
    draws = engine.call("impute", program, ROWS, num_samples=count, num_particles=count)
    x = draws.posterior["x"].to_numpy()[0]
    assert list(draws.posterior) == ["x", "z"]
    assert draws.posterior.attrs["law"] == "asymptotically exact"
    assert draws.posterior.attrs["missingness"] == "not at random: weighted by SelfMasking"
    np.testing.assert_array_equal(x[:, ~np.isnan(ROWS)], np.broadcast_to(ROWS[~np.isnan(ROWS)], (count, 6)))
    # draws of resampled particles: both are finite
    ess = draws.sample_stats["ess"].to_numpy()[:, None]
    error, hidden = x.std(0) * np.sqrt(1 / ess + 1 / count), np.isnan(ROWS)
    assert (abs(x.mean(0) - mean) < 5 * error)[hidden].all()
    assert (abs(x.mean(0) - by_quadrature(None)[1]) > 5 * error)[hidden].all()


class JaxConstant(eqx.Module):
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(self.bias, x.shape)


class TorchConstant(torch.nn.Module):
    def __init__(self, bias: torch.Tensor) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bias.expand(x.shape)


def taught(engine: Any, program: Any, *, at_random: bool) -> tuple[float, dict[str, np.ndarray]]:
    """IWAE at one seed, whose guides draw the same latents, and its gradient by each parameter."""
    objective = ROOM[engine].IWAE(4)
    model = OBSERVED[engine](program.model) if at_random else program.model
    if engine is NUMPYRO:
        x, params = jnp.asarray(ROWS[:-1]), params_of(program if at_random else program.program)
        if not at_random:
            params["mechanism$params"] = eqx.filter(program.mechanism, eqx.is_inexact_array)

        def value(at: Any) -> Any:
            return objective.loss(jax.random.key(0), at, model, program.guide, x)

        loss, by_site = jax.jit(jax.value_and_grad(value))(params)
        return float(loss), by_parameter(by_site)
    pyro.set_rng_seed(0)
    with pyro.get_param_store().scope():
        program.zero_grad()
        loss = objective.loss_and_grads(model, program.guide, torch.as_tensor(ROWS[:-1]))
    return loss, {name.removeprefix("program."): p.grad.clone().numpy() for name, p in program.named_parameters()}


@engines
def test_a_constant_mechanism_teaches_the_program_nothing(engine: Any) -> None:
    """Missing completely at random: the bound of the data is MIWAE's, and that of the mask its own likelihood."""
    program = program_of(engine, "self").program
    constant = (JaxConstant if engine is NUMPYRO else TorchConstant)(engine.array(BIAS.astype(np.float32)))
    program_masked = engine.face.MNAR(program, constant)
    assert program_masked.spec()["mechanism"] == {"network": "custom"}
    loss, plain = taught(engine, program, at_random=True)
    masked_loss, masked = taught(engine, program_masked, at_random=False)
    seen = ~np.isnan(ROWS[:-1])
    assert masked_loss - loss == pytest.approx(-np.log(expit(np.where(seen, 1, -1) * BIAS)).sum(), rel=1e-4)
    np.testing.assert_allclose(masked.pop("mechanism.bias"), (expit(BIAS) - seen).sum(0), rtol=1e-4)
    assert masked.keys() == plain.keys()
    for name, gradient in plain.items():
        np.testing.assert_allclose(masked[name], gradient, rtol=1e-3, atol=1e-4)


def test_a_mechanism_that_looks_at_the_values_teaches_it_something() -> None:
    """Without the mask's term the gradients would be equal."""
    program = program_of(PYRO, "self")
    _, plain = taught(PYRO, program.program, at_random=True)
    _, other = taught(PYRO, program, at_random=False)
    assert abs(other["decoder.layers.0.bias"] - plain["decoder.layers.0.bias"]).max() > 0.1


def joint(engine: Any, program: Any, latents: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """log p of everything, given data with holes, and under `missing` conditioned on s."""
    holes = {"x": ROWS}
    seen = ~np.isnan(ROWS)
    whole = {name: engine.array(value) for name, value in latents.items()}
    entries = {"z": whole["z"], "x_missing": engine.array(latents["x_missing"][~seen])}
    s = {"s": engine.array(seen.astype(np.float32))}
    if engine is NUMPYRO:
        density = numpyro.infer.util.log_density
        given = handlers.condition(program.model, data=s)
        return (
            float(density(program.model, (engine.array(ROWS),), {}, whole)[0]),
            float(density(engine.face.missing(given, data=holes), (), {"size": len(ROWS)}, entries)[0]),
        )
    with pyro.get_param_store().scope(), torch.no_grad():
        conditioned = poutine.condition(program.model, data=whole)
        first = poutine.trace(conditioned).get_trace(engine.array(ROWS)).log_prob_sum()
        given = engine.face.missing(poutine.condition(program.model, data=s), data=holes)
        second = poutine.trace(poutine.condition(given, data=entries)).get_trace(size=len(ROWS)).log_prob_sum()
    return float(first), float(second)


@engines
def test_the_drawing_model_under_missing_is_the_same_target(engine: Any) -> None:
    rng = np.random.default_rng(0)
    complete = np.where(np.isnan(ROWS), rng.standard_normal(ROWS.shape), ROWS).astype(np.float32)
    latents = {"z": rng.standard_normal((len(ROWS), 1)).astype(np.float32), "x_missing": complete}
    by_site, by_handler = joint(engine, program_of(engine, "linear"), latents)
    assert by_site == pytest.approx(by_handler, rel=1e-5)
    moved = {**latents, "x_missing": np.where(np.isnan(ROWS), complete + 1, complete)}
    assert abs(joint(engine, program_of(engine, "linear"), moved)[0] - by_site) > 0.1


def test_saved_programs_load_into_the_other_engine(tmp_path: Path) -> None:
    network = {**LINEAR, "in_size": 2, "out_size": 2, "hidden": [3]}
    configs = {**MECHANISMS, "network": network}
    for name, config in configs.items():
        for first, second in ((NUMPYRO, PYRO), (PYRO, NUMPYRO)):
            program = first.build("mnar", {"program": PROGRAM, "mechanism": config}, seed=5)
            folder = tmp_path / f"{name}-{first}"
            first.face.save(program, folder)
            loaded = second.face.load(folder)
            assert loaded.spec() == program.spec()
            mine, theirs = first.tensors(program), second.tensors(loaded)
            assert mine.keys() == theirs.keys()
            for tensor, value in mine.items():
                np.testing.assert_array_equal(value, theirs[tensor])
            if second is PYRO:
                assert PYRO.call("sample", loaded, 3).shape == (3, 2)


@engines
def test_params_find_their_way_into_the_program_inside(engine: Any) -> None:
    program, bias = program_of(engine, "self"), np.array([7.0, 8.0], np.float32)
    if engine is NUMPYRO:
        decoder = eqx.tree_at(lambda net: net.layers[0].bias, program.program.decoder, jnp.asarray(bias))
        params = {"decoder$params": decoder, "nowhere$params": decoder}
    else:
        params = {"decoder$$$layers.0.bias": torch.as_tensor(bias), "nowhere$$$bias": torch.as_tensor(bias)}
    before, after = (engine.tensors(found) for found in (program, engine.face.with_params(program, params)))
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"program.decoder.layers.0.bias"}
    np.testing.assert_array_equal(after["program.decoder.layers.0.bias"], bias)


@engines
def test_rows_without_anything_observed_are_data(engine: Any) -> None:
    program = program_of(engine, "self")
    np.testing.assert_array_equal(program.check_data(ROWS, missing=True), ROWS)
    masked = np.ma.masked_array(np.where(np.isnan(ROWS), 7.0, ROWS), np.isnan(ROWS))
    np.testing.assert_array_equal(program.check_data(masked, missing=True), ROWS)
    with pytest.raises(ValueError, match="rows of which nothing is observed"):
        program.check_data(np.full((2, 2), np.nan), missing=True)
    with pytest.raises(ValueError, match=r"x: got shape \(6, 3\)"):
        program.check_data(np.c_[ROWS, ROWS[:, 0]], missing=True)


@engines
def test_what_has_no_bound_is_refused(engine: Any) -> None:
    face = engine.face
    with pytest.raises(ValueError, match=r"hides: got 'both'; expected one of \['high', 'low', None\]"):
        face.SelfMasking((2,), "both")
    binary = engine.call(face.VAE.mlp, (2,), 1, "bernoulli", hidden=())
    x = np.array([[1.0, np.nan], [0.0, 1.0]], np.float32)
    with pytest.raises(ValueError, match=r"site 'x' of data missing not at random: got a discrete law"):
        engine.call("log_prob", face.MNAR(binary, face.SelfMasking((2,))), x, num_particles=2)
    program = program_of(engine, "self").program
    narrow = engine.call(face.nn.MLP, 2, 1, ())
    with pytest.raises(ValueError, match=r"mechanism: got logits of shape \(.*1\) for data of shape \(.*2\)"):
        engine.call("log_prob", face.MNAR(program, narrow), ROWS, num_particles=2)
    with pytest.raises(ValueError, match=r"method: got 'mcmc'; expected one of \['sir'\]"):
        engine.call("impute", program_of(engine, "self"), ROWS, method="mcmc")
    with pytest.raises(ValueError, match="got a joint law"):
        mechanisms.check_law(independent=False, discrete=False, law=stats.norm())


def test_logits_by_hand() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    raw, bias = np.random.default_rng(1).standard_normal((2, 2, 3))
    softplus = np.log1p(np.exp(raw))
    for hides, slope in ((None, raw), ("high", -softplus), ("low", softplus)):
        np.testing.assert_allclose(mechanisms.self_masking(x, raw, bias, hides), slope * x + bias)
    weight = np.random.default_rng(2).standard_normal((6, 6))
    by_entry = np.array([[weight[j] @ row.ravel() for j in range(6)] for row in x]).reshape(4, 2, 3) + bias
    np.testing.assert_allclose(mechanisms.linear_masking(x, weight, bias), by_entry)
