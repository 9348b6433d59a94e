"""Densities of rows under the engines' own ``mask``: a row that is masked counts nothing, in both engines alike."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import numpyro.handlers
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from pyro import poutine

import deepgen.program.numpyro
import deepgen.program.pyro

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ROOMS: dict[Any, Any] = {NUMPYRO: deepgen.program.numpyro, PYRO: deepgen.program.pyro}
MASKS: dict[Any, Any] = {NUMPYRO: numpyro.handlers.mask, PYRO: poutine.mask}
KEEP = np.array([True, False, True, True, False])
X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
Z = np.random.default_rng(1).standard_normal((5, 2)).astype(np.float32)
SEEN = np.random.default_rng(2).random((5, 3)) < 0.6


def densities(engine: Any, mask: Any = None, scale: float | None = None, observed: Any = None) -> dict[str, np.ndarray]:
    """Of z and x, and log q of the guide's own draws, whose noise is the same in every call."""
    room, array = ROOMS[engine], engine.array
    program = engine.call(engine.face.VAE.mlp, (3,), latent_dim=2, hidden=(4,), likelihood="gaussian")
    model, guide = program.model, program.guide
    if scale is not None:
        model = (numpyro.handlers.scale if engine is NUMPYRO else poutine.scale)(model, scale=scale)
    if mask is not None:
        shown = mask if isinstance(mask, bool) else array(mask)
        model, guide = (MASKS[engine](fn, mask=shown) for fn in (model, guide))
    with ExitStack() as stack:
        if engine is PYRO:
            stack.enter_context(torch.no_grad())
            stack.enter_context(room.isolated())
        found = room.log_densities(model, {"z": array(Z)}, array(X), None if observed is None else array(observed))
        drawn, log_q = engine.call(room.propose, guide, array(X))
        return {name: np.asarray(value) for name, value in {**found, "log q": log_q, "draw": drawn["z"]}.items()}


@BOTH
@pytest.mark.parametrize("observed", [None, SEEN], ids=["complete", "holes"])
def test_a_masked_row_counts_nothing(engine: Any, observed: Any) -> None:
    plain = densities(engine, observed=observed)
    for mask, kept in ((KEEP, KEEP), (False, np.zeros(5)), (True, np.ones(5))):
        masked = densities(engine, mask, observed=observed)
        np.testing.assert_array_equal(masked.pop("draw"), plain["draw"])
        assert set(masked) == {"z", "x", "log q"}
        for name, value in masked.items():
            np.testing.assert_allclose(value, kept * plain[name], rtol=1e-6, err_msg=name)
    assert all((np.abs(plain[name]) > 0.1).all() for name in ("z", "x", "log q")), "a mask left out would be seen"
    both = densities(engine, KEEP, 0.5, observed)
    for name in ("z", "x"):
        np.testing.assert_allclose(both[name], 0.5 * KEEP * plain[name], rtol=1e-6)
