"""What functions and networks give to Langevin kernels: of the right shape, and finite."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO

from deepgen.inference.langevin.arguments import DivergenceWarning

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)


def run(engine: Any, kernel: Any) -> Any:
    start = {"x": engine.array(np.ones((2, 3), np.float32))}
    settings = dict(num_warmup=0, num_samples=2, num_chains=2, init_params=start, progress=False)
    return engine.call("run_chains", kernel, **settings)


@BOTH
@pytest.mark.parametrize("given", ["part", "other", "bare"])
def test_a_score_of_another_shape_than_the_state_is_refused(engine: Any, given: str) -> None:
    wrong = {"part": lambda z: {"x": -z["x"][:1]}, "other": lambda z: {"y": -z["x"]}, "bare": lambda z: -z["x"]}
    with pytest.raises(ValueError, match=r"score_fn: got a result of shape .*\([13],\); .* state, .*x.*: \(3,\)"):
        run(engine, engine.face.ULA(score_fn=wrong[given]))
    run(engine, engine.face.ULA(score_fn=lambda z: {"x": -z["x"]}))


@BOTH
def test_a_potential_that_is_no_single_number_is_refused(engine: Any) -> None:
    def energy(z: Any) -> Any:
        return 0.5 * z["x"] ** 2

    for given in ({"potential_fn": energy}, {"potential_fn": energy, "score_fn": lambda z: {"x": -z["x"]}}):
        with pytest.raises(ValueError, match=r"potential_fn: got a result of shape \(3,\); expected one number"):
            run(engine, engine.face.MALA(**given))


def narrow(engine: Any) -> Any:
    """A network with one output a row."""

    class OfJax(eqx.Module):
        weight: jax.Array

        def __call__(self, x: Any, rho: Any) -> Any:
            return self.weight * x[:, :1]

    class OfTorch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: Any, rho: Any) -> Any:
            return self.weight * x[:, :1]

    return OfJax(jnp.ones(())) if engine is NUMPYRO else OfTorch()


@BOTH
def test_a_network_of_another_shape_than_the_data_is_refused(engine: Any) -> None:
    program = engine.face.ScoreModel(narrow(engine), (2,))
    x = np.zeros((4, 2), np.float32)
    for verb, args in (("fit", (x,)), ("sample", (3,)), ("log_prob", (x,))):
        steps = {"steps": 2} if verb == "fit" else {}
        with pytest.raises(ValueError, match=r"network: got a result of shape \(\d, 1\); expected scores of .* x, "):
            engine.call(verb, program, *args, **steps)


def normal() -> None:
    numpyro.sample("x", numpyro.distributions.Normal(0.0, 1.0))


@pytest.mark.parametrize("num_chains", [1, 3])
def test_numpyro_s_own_mcmc_warns_of_chains_that_leave(num_chains: int) -> None:
    """Where none leaves nothing is said: a warning would be an error here."""

    def run(step_size: float) -> np.ndarray:
        kernel = NUMPYRO.face.ULA(normal, step_size=step_size)
        mcmc = numpyro.infer.MCMC(
            kernel,
            num_warmup=0,
            num_samples=60,
            num_chains=num_chains,
            chain_method="vectorized",
            progress_bar=False,
        )
        mcmc.run(jax.random.key(0))
        jax.effects_barrier()
        return np.asarray(mcmc.get_samples()["x"])

    assert np.isfinite(run(0.5)).all()
    with pytest.warns(
        DivergenceWarning, match=f"1 of {num_chains} chains diverged|{num_chains} of {num_chains} chains"
    ):
        assert np.isnan(run(10.0)).any()


@BOTH
def test_programs_made_from_another_are_neither_fitted_nor_saved(engine: Any, tmp_path: Any) -> None:
    pyro.set_rng_seed(0)
    plain = engine.call(engine.face.ScoreModel.mlp, (2,), hidden=[4], features=2)
    made = {"guided": plain.guided(lambda x, rho: -x.sum(-1)), "with_density": plain.with_density(lambda x: -x.sum(-1))}
    x = np.zeros((4, 2), np.float32)
    for name, program in made.items():
        with pytest.raises(
            ValueError, match=rf"program: got one made by {name}\(\.\.\.\).* To save it, save the program"
        ):
            engine.face.save(program, tmp_path / name)
        with pytest.raises(ValueError, match=rf"made by {name}\(\.\.\.\).* To fit it, fit the program"):
            engine.call("fit", program, x, steps=1)
        with pytest.raises(ValueError, match="To fit it, fit the program"):
            engine.call("fit", program, x, steps=1, objective=engine.face.DenoisingScoreMatching())


@BOTH
@pytest.mark.parametrize("name", ["ExactScoreMatching", "SlicedScoreMatching", "DenoisingScoreMatching"])
def test_score_matching_refuses_zeros_and_ones(engine: Any, name: str) -> None:
    pyro.set_rng_seed(0)
    rbm = engine.call(engine.face.EnergyBasedModel.rbm, (4,), 2)
    objective = getattr(engine.face, name)(**({"sigma": 0.1} if name == "DenoisingScoreMatching" else {}))
    x = np.random.default_rng(0).integers(0, 2, (8, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="site 'x': got a law of zeros and ones or other whole numbers"):
        engine.call("fit", rbm, x, steps=1, objective=objective)
