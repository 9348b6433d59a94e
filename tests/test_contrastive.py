"""Contrastive objectives: their gradient in closed form, fits that resume, and what they refuse."""

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
from registry import ORACLES, oracle_program

from deepgen.inference.chains.numpyro import Step as JaxStep
from deepgen.inference.chains.pyro import Step as TorchStep
from deepgen.inference.svi import checkpoint as files
from deepgen.models.ebm import recipe

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = {oracle.name: oracle for oracle in ORACLES if oracle.family == "ebm"}
X = ORACLE["machine"].draw(np.random.default_rng(0), 60)
SAMPLES = ORACLE["machine"].draw(np.random.default_rng(1), 60)


class JaxFixed(eqx.Module):
    """A kernel that goes to given places."""

    exact, discrete, tuned = False, True, False

    def draw_noise(self, rng_key: Any, law: Any, x: Any) -> None:
        return None

    def step(self, noise: Any, law: Any, x: Any, *_: Any) -> JaxStep:
        return JaxStep(jnp.asarray(SAMPLES), jnp.full(len(x), 0.5))


class TorchFixed:
    """A kernel that goes to given places."""

    exact, discrete, tuned = False, True, False

    def draw_noise(self, law: Any, x: Any) -> None:
        return None

    def step(self, noise: Any, law: Any, x: Any, *_: Any) -> TorchStep:
        return TorchStep(torch.as_tensor(SAMPLES), torch.full((len(x),), 0.5))


def loss_and_gradient(engine: Any, objective: Any, program: Any, x: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss, and its gradient by the weights of the energy."""
    found = engine.bound(program, objective, (x,))
    return float(found["loss"]), found["energy.weight"]


@BOTH
@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_the_gradient_is_that_of_data_minus_samples(engine: Any, penalty: float) -> None:
    program = oracle_program(ORACLE["machine"], engine)
    kernel = JaxFixed() if engine is NUMPYRO else TorchFixed()
    objective = engine.face.ContrastiveDivergence(3, kernel=kernel, penalty=penalty)
    loss, gradient = loss_and_gradient(engine, objective, program, X)
    tensors = {name: value.astype(float) for name, value in ORACLE["machine"].tensors.items()}
    weight, b, c = (tensors[f"energy.{name}"] for name in ("weight", "visible_bias", "hidden_bias"))

    def energy(v: np.ndarray) -> np.ndarray:
        return -v @ b - (np.logaddexp(0, c + v @ weight.T) - np.log(2)).sum(-1)

    def slope(v: np.ndarray, factor: Any) -> np.ndarray:
        return -(np.broadcast_to(factor, len(v))[:, None] / (1 + np.exp(-c - v @ weight.T))).T @ v

    def base(v: np.ndarray) -> float:
        logits = tensors["base.logits"]
        return float((v @ logits - np.logaddexp(0, logits).sum()).sum())

    one, other = energy(X), energy(SAMPLES)
    wanted = one.sum() - other.sum() - base(X) + base(SAMPLES) + penalty * ((one**2).sum() + (other**2).sum())
    assert loss == pytest.approx(wanted, rel=1e-4, abs=1e-3)
    right = slope(X, 1 + 2 * penalty * one) - slope(SAMPLES, 1 - 2 * penalty * other)
    np.testing.assert_allclose(gradient, right, rtol=1e-4, atol=1e-3)
    wrong = slope(X, 1 + 2 * penalty * one) + slope(SAMPLES, 1 - 2 * penalty * other)
    assert np.abs(gradient - wrong).max() > 1, "the samples' sign"


@BOTH
def test_noise_contrastive_loss_of_no_energy_is_that_of_a_coin(engine: Any) -> None:
    silent = {name: 0 * value if "energy" in name else value for name, value in ORACLE["machine"].tensors.items()}
    program = engine.with_tensors(engine.build("ebm", ORACLE["machine"].config), silent)
    loss, _ = loss_and_gradient(engine, engine.face.NoiseContrastive(1), program, X)
    assert loss == pytest.approx(2 * len(X) * np.log(2), rel=1e-5)
    loss, _ = loss_and_gradient(engine, engine.face.NoiseContrastive(3), program, X)
    assert loss == pytest.approx(len(X) * (np.log(4) + 3 * np.log(4 / 3)), rel=1e-5)


@BOTH
def test_noise_contrastive_estimation_finds_the_ratio_and_its_constant(engine: Any) -> None:
    """N(1, 1) against N(0, 1): E(x) = 1/2 - x, whose constant makes log Z zero."""
    x = np.random.default_rng(2).normal(1.0, 1.0, (4000, 1)).astype(np.float32)
    program = engine.call(engine.face.EnergyBasedModel.mlp, (1,), hidden=())
    objective = engine.face.NoiseContrastive(2)
    options: dict[str, Any] = {"batch_size": None, "learning_rate": 0.05, "progress": False}
    fit = engine.call("fit", program, x, steps=200, objective=objective, **options)
    tensors = engine.tensors(fit.program)
    weight, bias = (float(tensors[f"energy.network.layers.0.{name}"].reshape(())) for name in ("weight", "bias"))
    # logistic regression on 4000 rows and twice as much noise: standard errors below 0.03
    assert abs(weight + 1) < 0.15
    assert abs(bias - 0.5) < 0.15
    assert fit.diagnostics == {}


def trained(engine: Any, path: Path | None, steps: int, **options: Any) -> Any:
    # strong weights: where a chain goes depends on where it was
    program = oracle_program(ORACLE["machine"], engine)
    objective = engine.face.PersistentContrastiveDivergence(1, num_chains=10, buffer_size=25, reinitialised=0.2)
    options = {"batch_size": 20, "chunk": 5, "learning_rate": 0.05, "progress": False, **options}
    return engine.call("fit", program, X, steps=steps, objective=objective, checkpoint=path, **options)


@BOTH
def test_a_resumed_fit_ends_where_an_undisturbed_one_ends(engine: Any, tmp_path: Path) -> None:
    path = tmp_path / "fit"
    trained(engine, path, 10)
    arrays, meta = files.read(path)
    resumed, undisturbed = trained(engine, path, 20), trained(engine, None, 20)
    np.testing.assert_array_equal(resumed.losses, undisturbed.losses)
    for name, value in engine.tensors(undisturbed.program).items():
        np.testing.assert_array_equal(engine.tensors(resumed.program)[name], value)
    for name, values in undisturbed.diagnostics.items():
        np.testing.assert_array_equal(resumed.diagnostics[name], values)
    assert list(undisturbed.diagnostics["step"]) == [5, 10, 15, 20]
    assert (undisturbed.diagnostics["accept_prob"] == 1).all(), "block Gibbs accepts everything"
    assert np.isfinite(undisturbed.diagnostics["energy_gap"]).all()
    # a buffer that the checkpoint had lost
    (buffer,) = [name for name, value in arrays.items() if value.shape == (25, 4)]
    files.write(path, {**arrays, buffer: 1 - arrays[buffer]}, {k: v for k, v in meta.items() if k != "format"})
    assert (trained(engine, path, 20).losses != undisturbed.losses).any()


@BOTH
def test_a_fit_leaves_the_objective_as_it_was(engine: Any) -> None:
    program = engine.call(engine.face.EnergyBasedModel.rbm, (4,), 3, data=X)
    objective = engine.face.PersistentContrastiveDivergence(1)
    first, second = (
        engine.call("fit", program, X, steps=3, batch_size=20, objective=objective, progress=False) for _ in range(2)
    )
    np.testing.assert_array_equal(first.losses, second.losses)
    assert objective == engine.face.PersistentContrastiveDivergence(1)
    assert objective != engine.face.PersistentContrastiveDivergence(2)
    assert hash(objective) == hash(engine.face.PersistentContrastiveDivergence(1))


def test_contrastive_divergence_in_plain_svi() -> None:
    program = oracle_program(ORACLE["machine"], NUMPYRO)
    loss = NUMPYRO.face.ContrastiveDivergence(1)
    svi = numpyro.infer.SVI(program.model, program.guide, numpyro.optim.Adam(0.01), loss)
    found = svi.run(jax.random.key(0), 5, jnp.asarray(X), progress_bar=False)
    assert np.isfinite(found.losses).all()
    persistent = NUMPYRO.face.PersistentContrastiveDivergence(1)
    svi = numpyro.infer.SVI(program.model, program.guide, numpyro.optim.Adam(0.01), persistent)
    with pytest.raises(ValueError, match=r"PersistentContrastiveDivergence: got a plain NumPyro SVI.*Train with fit"):
        svi.run(jax.random.key(0), 5, jnp.asarray(X), progress_bar=False)


def test_both_divergences_in_pyro_s_plain_svi() -> None:
    for loss in (PYRO.face.ContrastiveDivergence(1), PYRO.face.PersistentContrastiveDivergence(1, num_chains=7)):
        program = PYRO.call(PYRO.face.EnergyBasedModel.rbm, (4,), 3, data=X)
        with pyro.get_param_store().scope():
            svi = pyro.infer.SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.01}), loss)
            assert np.isfinite([svi.step(torch.as_tensor(X)) for _ in range(3)]).all()
        assert set(loss.state) >= {"energy_gap", "accept_prob"}


@BOTH
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda face: face.ContrastiveDivergence(0), "num_steps: got 0; expected a number >= 1"),
        (lambda face: face.ContrastiveDivergence(data_noise=-1.0), "data_noise: got -1.0"),
        (lambda face: face.ContrastiveDivergence(penalty=-1.0), "penalty: got -1.0"),
        (lambda face: face.PersistentContrastiveDivergence(num_chains=0), "num_chains: got 0"),
        (lambda face: face.PersistentContrastiveDivergence(num_chains=5, buffer_size=4), "buffer_size: got 4"),
        (lambda face: face.PersistentContrastiveDivergence(reinitialised=1.5), r"reinitialised: got 1\.5"),
        (lambda face: face.NoiseContrastive(0), "ratio: got 0"),
    ],
)
def test_settings_of_objectives_are_checked(engine: Any, make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(engine.face)


@BOTH
def test_what_cannot_be_contrasted_is_refused(engine: Any) -> None:
    program, face = oracle_program(ORACLE["machine"], engine), engine.face
    objective = face.ContrastiveDivergence()
    with pytest.raises(ValueError, match=r"data_noise: got 0.1 on zeros and ones"):
        engine.call("fit", program, X, steps=1, objective=face.ContrastiveDivergence(data_noise=0.1))
    with pytest.raises(ValueError, match=r"kernel: got LangevinSteps for a law of zeros and ones"):
        engine.call("fit", program, X, steps=1, objective=face.ContrastiveDivergence(kernel=face.LangevinSteps()))
    flow = engine.call(face.Flow.nice, (4,), num_transforms=1, hidden=(3,))
    with pytest.raises(ValueError, match=r"model: got observed sites \['x'\], none with an unnormalised law"):
        engine.call("fit", flow, X, steps=1, objective=objective)
    vae = engine.call(face.VAE.mlp, (4,), 2, "bernoulli", hidden=(3,))
    with pytest.raises(ValueError, match=r"latent 'z': got a latent beside an unnormalised law"):
        engine.call("fit", vae, X, steps=1, objective=objective)


def test_chains_that_disagree_are_told() -> None:
    rng = np.random.default_rng(0)
    here, there = rng.standard_normal((2, 200))
    assert recipe.diagnose(here, there, 400) == []
    (warning,) = recipe.diagnose(here, there + 1.0, 400)
    assert isinstance(warning, recipe.ShortRunWarning)
    assert "after 400 iterations" in str(warning)
    assert "no samples of the density" in str(warning)


@pytest.mark.parametrize(
    ("gaps", "told", "rounds"),
    [
        ([0.0] * 8, False, 1),
        ([4.0, 2.0, 1.0, 0.5, 0.1, 0.0, 0.0, 0.0], False, 5),
        ([4.0] * 8, True, 2),
        ([9.0, 7.5, 6.4, 5.5, 4.8, 4.2, 3.6, 3.1], True, 2),
        ([8.0, 4.0, 2.0, 1.9, 1.8, 1.8, 1.8, 1.8], True, 4),
        ([40.0, 20.0, 10.0, 5.0, 2.6, 1.3, 0.7, 0.6], True, 8),
        ([np.nan] * 8, True, 1),
    ],
    ids=["agree", "come together", "never", "too slowly", "stop short", "late", "no numbers"],
)
def test_chains_are_watched_until_they_agree_or_will_not(gaps: list[float], told: bool, rounds: int) -> None:
    noise, taken = np.tile([-1.0, 1.0], 100), iter(gaps)
    found = recipe.watch(lambda: (noise + next(taken), noise))
    assert bool(found) == told
    assert len(gaps) - len(list(taken)) == rounds
    assert not told or f"after {50 * rounds} iterations" in str(found[0])


@BOTH
def test_a_density_that_chains_do_not_explore_is_told(engine: Any) -> None:
    """Three wells from which no sweep comes out, and the data in the deepest."""
    tensors = dict(ORACLE["machine"].tensors)
    tensors["energy.weight"] = np.float32([[25, 25, -25, -25], [-25, -25, 25, 25], [60, 60, 60, 60]])
    tensors["energy.hidden_bias"] = np.float32([-25, -25, -200])
    tensors["energy.visible_bias"] = np.zeros(4, np.float32)
    program = engine.with_tensors(engine.build("ebm", ORACLE["machine"].config), tensors)
    (warning,) = program.diagnose(np.ones((50, 4), np.float32))
    assert isinstance(warning, engine.face.ShortRunWarning)
    assert oracle_program(ORACLE["machine"], engine).diagnose(X) == []
