"""Objects of the wrong kind, entries that are never observed, columns that never change: told before any compute."""

from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import numpyro
import optax
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from registry import ORACLES, oracle_program

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
VAE = next(oracle for oracle in ORACLES if repr(oracle) == "vae-conjugate")
X = VAE.draw(np.random.default_rng(3), 6)
PROGRAM = {engine: oracle_program(VAE, engine) for engine in ENGINES}
PLAIN_SVI: dict[Any, Any] = {NUMPYRO: numpyro.optim.Adam(1e-3), PYRO: pyro.optim.Adam({"lr": 1e-3})}
MADE: dict[Any, Any] = {NUMPYRO: optax.adam, PYRO: torch.optim.Adam([torch.zeros(1, requires_grad=True)])}


@pytest.fixture(autouse=True)
def _as_a_user_calls() -> Iterator[None]:
    """Without the run-time type checker of the tests, which would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@BOTH
@pytest.mark.parametrize("which", ["of the plain SVI", "made already", "a string"])
def test_wrong_optimizers(engine: Any, which: str) -> None:
    optimizer = {"of the plain SVI": PLAIN_SVI[engine], "made already": MADE[engine], "a string": "adam"}[which]
    expected = {NUMPYRO: r"an optimizer of optax\. Pass optax", PYRO: "a function from the parameters to an optimizer"}
    with pytest.raises(TypeError, match=rf"optimizer: got .*; expected {expected[engine]}"):
        engine.call("fit", PROGRAM[engine], X, steps=1, optimizer=optimizer)


@BOTH
def test_wrong_objectives(engine: Any) -> None:
    for objective, got in (("elbo", "'elbo'"), (engine.face.ELBO, "<class .*ELBO'>"), (3, "a int")):
        with pytest.raises(TypeError, match=rf"objective: got {got}; expected an objective .* such as ELBO\(\)"):
            engine.call("fit", PROGRAM[engine], X, steps=1, objective=objective)


VERBS: dict[str, tuple[Any, ...]] = {
    "sample": (2,),
    "log_prob": (X,),
    "ais": (X,),
    "bdmc": (3,),
    "rate_distortion": (X,),
    "reconstruct": (X,),
    "interpolate": (X, X),
    "active_units": (X,),
    "classify": (X,),
    "save": ("nowhere",),
    "fit": (X,),
}


@BOTH
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_program(engine: Any, verb: str) -> None:
    program = PROGRAM[engine]
    wrong = [(program.model, r"a \w*[mM]ethod, \w+\.model"), (engine.face.VAE, "<class .*VAE'>"), (3, "a int")]
    if verb != "fit":
        wrong.append(((program.model, program.guide), "a tuple of 2"))
    for value, got in wrong:
        with pytest.raises(TypeError, match=rf"program: got {got}; expected a program.*Pass the program itself"):
            engine.call(verb, value, *VERBS[verb])


@BOTH
def test_what_is_no_program_among_others(engine: Any) -> None:
    program = PROGRAM[engine]
    with pytest.raises(TypeError, match=r"program: got a \w*[mM]ethod, \w+\.model"):
        engine.call("compare", {"a": program, "b": program.model}, X)
    with pytest.raises(TypeError, match=r"program: got a tuple of 2; expected a program, or a plain model"):
        engine.call("impute", (program.model, program.guide), X)
    for pair in ((program.model, 3), (program.model,)):
        with pytest.raises(TypeError, match=rf"program: got a tuple of {len(pair)}; .*Pass two functions"):
            engine.call("fit", pair, X)


@pytest.mark.parametrize("verb", [*(v for v in VERBS if v not in {"interpolate", "active_units", "save"}), "impute"])
def test_the_key_comes_first(verb: str) -> None:
    program, args = PROGRAM[NUMPYRO], VERBS.get(verb, (X,))
    for key, got in ((program, "a VAE"), (0, "a int"), (X, "a ndarray")):
        with pytest.raises(TypeError, match=rf"rng_key: got {got}; expected a random key\. The key comes first"):
            getattr(NUMPYRO.face, verb)(key, program, *args)


@BOTH
@pytest.mark.parametrize("family", ["VAE", "ClassVAE", "HierarchicalVAE", "EnergyBasedModel", "Flow"])
def test_widths_are_a_sequence(engine: Any, family: str) -> None:
    args: dict[str, tuple[Any, ...]] = {"VAE": (2,), "ClassVAE": (2, 3), "HierarchicalVAE": ((2, 2),)}
    cls = getattr(engine.face, family)
    make = cls.maf if family == "Flow" else cls.mlp
    with pytest.raises(ValueError, match=r"hidden: got 64; expected a sequence of whole numbers"):
        engine.call(make, (4,), *args.get(family, ()), hidden=64)


@BOTH
def test_what_is_never_observed_is_not_fitted(engine: Any) -> None:
    """A column, or a pixel; one observed row is enough."""
    holes = X.copy()
    holes[:, 2] = np.nan
    with pytest.raises(ValueError, match=r"data: got no observed entry in column 2; expected at least one in each"):
        engine.call("fit", PROGRAM[engine], holes, steps=1)
    with pytest.raises(ValueError, match=r"x: got no observed entry in column 2; expected at least one in each"):
        engine.call("fit_table", np.tile(holes, (4, 1)), steps=1)
    holes[0, 2] = X[0, 2]
    assert np.isfinite(engine.call("fit", PROGRAM[engine], holes, steps=1, progress=False).losses).all()
    image = engine.call(engine.face.VAE.mlp, (1, 2, 2), 1, "gaussian", hidden=(3,))
    pixels = np.array(X[:, :4].reshape(-1, 1, 2, 2))
    pixels[:, 0, 1] = np.nan
    with pytest.raises(ValueError, match=r"data: got no observed entry in the entries \(0, 1, 0\) and 1 others"):
        engine.call("fit", image, pixels, steps=1)


@BOTH
def test_columns_that_never_change_are_told(engine: Any) -> None:
    still = np.tile(X, (4, 1))
    still[:, 1] = 1.5
    still[0, 1] = np.nan
    with pytest.warns(UserWarning, match=r"data: column 1 has the same value in all observed entries\. There is"):
        engine.face.likelihoods.Table.from_data(["real"] * 4, still)
    with pytest.warns(UserWarning, match=r"x: column 1 has the same value in all observed entries\. There is"):
        engine.call("fit_table", still, steps=1, hidden=(2,), num_particles=1, progress=False)
