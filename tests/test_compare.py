"""`compare` and `rate_distortion` by what each program's density is: `log_prob`'s, or a refusal."""

from typing import Any

import numpy as np
import pytest
from engines import ENGINES, NUMPYRO, PYRO
from registry import ORACLES, oracle_program

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
NAMED = {repr(oracle): oracle for oracle in ORACLES}
VAE, FLOW, SEQUENCE, ENERGY = (
    NAMED[name] for name in ("vae-conjugate", "flow-affine", "autoregressive-regressions", "ebm-quadratic")
)
X = VAE.draw(np.random.default_rng(3), 8)
HOLES = np.where(np.arange(8)[:, None] % 4 == np.arange(4), np.nan, X).astype(np.float32)


def unnormalised(engine: Any, program: Any) -> np.ndarray:
    """log base(x) - energy(x), log Z left out."""
    found = program.distribution().log_prob(engine.array(X))
    return np.asarray(found.detach() if engine is PYRO else found)


@BOTH
def test_an_energy_is_compared_by_its_normalised_density(engine: Any) -> None:
    """The same number as `log_prob`, near the truth; what leaves log Z out is not."""
    energy = oracle_program(ENERGY, engine)
    programs = {"e": energy, "v": oracle_program(VAE, engine)}
    table = engine.call("compare", programs, X, num_particles=64)
    found = engine.call("log_prob", energy, X, num_particles=64)
    assert table.loc["e", "elpd_loo"] == pytest.approx(found.value.sum(), rel=1e-5)
    assert list(table.loc[["e", "v"], "kind"]) == ["estimate", "bound"]

    def near(total: float) -> bool:
        return bool(abs(total - ENERGY.log_prob(X).sum()) < 5 * len(X) * found.stderr[0])

    assert near(table.loc["e", "elpd_loo"])
    assert not near(float(unnormalised(engine, energy).sum()))


@BOTH
def test_programs_without_latents_are_compared_on_rows_with_holes(engine: Any) -> None:
    """A flow by its completions, a sequence by its particles; the densities of complete rows do not fit."""
    oracles = {"v": VAE, "f": FLOW, "s": SEQUENCE}
    programs = {name: oracle_program(oracle, engine) for name, oracle in oracles.items()}
    table = engine.call("compare", programs, HOLES, num_particles=500)
    for name, oracle in oracles.items():
        stderr = engine.call("log_prob", programs[name], HOLES, num_particles=500).stderr
        error = abs(table.loc[name, "elpd_loo"] - oracle.log_prob(HOLES).sum())
        assert error < 5 * np.sqrt((stderr**2).sum()) + 1e-2
        assert abs(oracle.log_prob(X).sum() - oracle.log_prob(HOLES).sum()) > 10 * error
    assert dict(table["kind"]) == {"v": "bound", "f": "estimate", "s": "estimate"}


def test_as_many_estimates_as_the_program_takes_by_itself() -> None:
    """A score's probability flow, not a thousand times over."""
    score = oracle_program(NAMED["score-linear"], NUMPYRO)
    table = NUMPYRO.call("compare", {"s": score, "v": oracle_program(VAE, NUMPYRO)}, X)
    assert table.loc["s", "elpd_loo"] == pytest.approx(NUMPYRO.call("log_prob", score, X).value.sum(), rel=1e-5)


@BOTH
def test_what_has_no_rate_and_distortion(engine: Any) -> None:
    for oracle, why in ((ENERGY, "an unnormalised or estimated density"), (FLOW, "an exact density")):
        with pytest.raises(ValueError, match=rf"program: got a \w+, which has {why} and no latents to tell of x"):
            engine.call("rate_distortion", oracle_program(oracle, engine), X)
    vae = oracle_program(VAE, engine)
    mnar = engine.face.MNAR(vae, engine.face.SelfMasking((4,)))
    with pytest.raises(ValueError, match=r"program: got a MNAR, whose bound is of x and of which .* program\.program"):
        engine.call("rate_distortion", mnar, X)
    found = engine.call("rate_distortion", mnar.program, HOLES, num_particles=3)
    np.testing.assert_allclose(found.rate + found.distortion, -VAE.log_prob(HOLES), atol=5e-4)


@BOTH
def test_what_is_not_compared(engine: Any) -> None:
    vae = oracle_program(VAE, engine)
    mnar = engine.face.MNAR(vae, engine.face.SelfMasking((4,)))
    with pytest.raises(ValueError, match=r"programs: got \['m'\] whose log_prob is log p\(x_observed, mask\), beside"):
        engine.call("compare", {"v": vae, "m": mnar}, HOLES)
    with pytest.raises(ValueError, match="complete data"):
        engine.call("compare", {"v": vae, "e": oracle_program(ENERGY, engine)}, HOLES)
    both = engine.call("compare", {"a": mnar, "b": mnar}, HOLES, num_particles=20)
    assert list(both["kind"]) == ["bound", "bound"]
