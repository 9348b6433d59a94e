"""Kernels over data: the same steps in both engines, and laws that they keep."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from engines import ENGINES
from kernels import holds, start_at_target
from registry import ORACLES, oracle_program, twin
from scipy import stats

from deepgen.inference.hmc.hamiltonian import Noise
from deepgen.inference.langevin import discrete

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = {oracle.name: oracle for oracle in ORACLES if oracle.family == "ebm"}
KERNELS = {
    "HamiltonianSteps": "quadratic",
    "LangevinSteps": "quadratic",
    "FlipSteps": "flipped",
    "BlockGibbs": "machine",
}
ROWS = 3000


def kernel_of(engine: Any, name: str) -> Any:
    options = {"HamiltonianSteps": {"step_size": 0.6, "num_steps": 2}, "LangevinSteps": {"max_gradient": 1.0}}
    return getattr(engine.face, name)(**options.get(name, {}))


def noise_of(engine: Any, name: str, n: int, seed: int, *, accept_all: bool = False) -> Any:
    """The randomness of one step from NumPy."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((n, 4)).astype(np.float32)
    uniform, hidden = rng.random((n, 4)).astype(np.float32), rng.random((n, 3)).astype(np.float32)
    accept = np.zeros(n, np.float32) if accept_all else rng.random(n).astype(np.float32)
    made = {
        "HamiltonianSteps": lambda: Noise(*map(engine.array, (normal, accept, np.float32(0.5)))),
        "LangevinSteps": lambda: engine.array(normal),
        "FlipSteps": lambda: discrete.Noise(engine.array(uniform), engine.array(accept)),
        "BlockGibbs": lambda: (engine.array(hidden), engine.array(uniform)),
    }
    return made[name]()


def stepped(engine: Any, name: str, program: Any, x: np.ndarray, seed: int, **options: Any) -> tuple[np.ndarray, Any]:
    observed = options.pop("observed", None)
    law = program.distribution()
    seen = None if observed is None else engine.array(observed)

    def step(noise: Any, x: Any) -> Any:
        return kernel_of(engine, name).step(noise, law, x, options.get("temperature", 1.0), None, seen)

    run = jax.jit(step) if engine.name == "numpyro" else step
    moved = run(noise_of(engine, name, len(x), seed, accept_all=options.get("accept_all", False)), engine.array(x))
    return np.asarray(moved.x), np.asarray(moved.accept_prob)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_same_noise_gives_the_same_step(name: str, temperature: float) -> None:
    oracle = ORACLE[KERNELS[name]]
    x = oracle.draw(np.random.default_rng(0), 40)
    observed = np.arange(160).reshape(40, 4) % 3 == 0
    found = [
        stepped(e, name, oracle_program(oracle, e), x, 1, temperature=temperature, observed=observed) for e in ENGINES
    ]
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=2e-4, atol=2e-5)
    assert (found[0][0][observed] == x[observed]).all(), "observed entries stay"
    assert (found[0][0] != x).any()
    other, _ = stepped(ENGINES[0], name, twin(oracle, ENGINES[0], energy=0.7), x, 1, observed=observed)
    assert not np.allclose(other, found[1][0], atol=2e-5)


def kept(engine: Any, name: str, accept_all: bool = False) -> bool:
    """Whether a kernel that begins at exact draws stays in the law."""
    oracle = ORACLE[KERNELS[name]]
    program, seeds = oracle_program(oracle, engine), iter(range(10, 100))
    start = oracle.draw(np.random.default_rng(3), ROWS)

    def advance(x: np.ndarray) -> np.ndarray:
        return stepped(engine, name, program, x.astype(np.float32), next(seeds), accept_all=accept_all)[0]

    if KERNELS[name] == "quadratic":
        mean, covariance = (part[0] for part in oracle.conditional(np.full((1, 4), np.nan)))
        marginals: dict[str, Any] = {
            f"entry {i}": (lambda x, i=i: x[:, i], stats.norm(mean[i], np.sqrt(covariance[i, i])).cdf) for i in range(4)
        }
        marginals["length"] = (
            lambda x: np.einsum("ni,ij,nj->n", x - mean, np.linalg.inv(covariance), x - mean),
            stats.chi2(4).cdf,
        )
        return holds(list(start_at_target(start, advance, marginals, after=(1, 2, 4)).values()))
    states = (np.arange(16)[:, None] >> np.arange(4)[::-1] & 1).astype(np.float32)
    expected, p_values = ROWS * np.exp(oracle.log_prob(states)), []
    for _ in range(4):
        start = advance(start)
        counts = np.bincount((start.astype(int) @ [8, 4, 2, 1]), minlength=16)
        p_values.append(stats.chisquare(counts, expected * ROWS / expected.sum()).pvalue)
    return holds(p_values)


@BOTH
@pytest.mark.parametrize("name", ["HamiltonianSteps", "FlipSteps", "BlockGibbs"])
def test_the_law_is_kept_from_exact_draws_on(engine: Any, name: str) -> None:
    assert kernel_of(engine, name).exact
    assert kept(engine, name)


@BOTH
@pytest.mark.parametrize("name", ["HamiltonianSteps", "FlipSteps"])
def test_steps_that_are_always_accepted_leave_the_law(engine: Any, name: str) -> None:
    assert not kept(engine, name, accept_all=True)


@BOTH
def test_clipped_langevin_steps_leave_the_law(engine: Any) -> None:
    assert not kernel_of(engine, "LangevinSteps").exact
    assert not kept(engine, "LangevinSteps")


@BOTH
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda face: face.HamiltonianSteps(step_size=0.0), "step_size: got 0.0; expected a finite number > 0"),
        (lambda face: face.HamiltonianSteps(num_steps=0), "num_steps: got 0; expected a number >= 1"),
        (lambda face: face.LangevinSteps(step_size=-1.0), r"step_size: got -1\.0"),
        (lambda face: face.LangevinSteps(noise_scale=-1.0), r"noise_scale: got -1\.0"),
        (lambda face: face.LangevinSteps(max_gradient=0.0), r"max_gradient: got 0\.0"),
    ],
)
def test_settings_of_kernels_are_checked(engine: Any, make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(engine.face)


@BOTH
def test_a_run_too_short_is_refused(engine: Any) -> None:
    for name in ("quadratic", "machine"):
        program = oracle_program(ORACLE[name], engine)
        for option, value in {"num_warmup": -1, "num_iterations": 0, "num_steps": 0}.items():
            with pytest.raises(ValueError, match=r"num_warmup: got -1|num_steps: got 0|thinning: got 0"):
                engine.call(program.draw, 3, **{option: value})


def test_torch_s_generator_is_left_alone_by_a_diagnosis() -> None:
    oracle, engine = ORACLE["machine"], ENGINES[1]
    program, x = oracle_program(oracle, engine), oracle.draw(np.random.default_rng(0), 20)
    before = torch.get_rng_state()
    program.diagnose(x)
    assert (torch.get_rng_state() == before).all()


@pytest.mark.filterwarnings("ignore:the chains of:UserWarning")
@BOTH
@pytest.mark.parametrize("name", ["quadratic", "machine"])
def test_the_log_density_of_clamped_draws_is_the_law_s_own(engine: Any, name: str) -> None:
    """Not that of what stands in the place of observed entries while the chains run."""
    oracle = ORACLE[name]
    program, x = oracle_program(oracle, engine), oracle.draw(np.random.default_rng(0), 3)
    holes = np.where([[True, False, True, False]], np.nan, x).astype(np.float32)
    post = engine.call("impute", program, holes, num_samples=4, num_warmup=5, num_chains=2, num_steps=2)
    draws = post.posterior["x"].values
    assert (draws[..., 1::2] == x[:, 1::2]).all()
    exact = oracle.log_prob(draws.reshape(-1, 4)).reshape(2, 4, 3)
    assert np.ptp(post.sample_stats["lp"].values - exact) < 1e-4
    assert np.ptp(exact) > 0.1
