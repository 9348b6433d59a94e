"""Parameters declared before are not declared anew, but where a handler may do something with them."""

from typing import Any

import pyro
import pytest
import torch
from pyro import poutine

import deepgen.pyro as dg
from deepgen.program.said import declared_before, is_declared

X = torch.zeros(3, 2)


def params(trace: poutine.Trace) -> list[str]:
    return [name for name, site in trace.nodes.items() if site["type"] == "param"]


def test_within_nothing_is_declared_anew() -> None:
    vae = dg.VAE.mlp((2,), 1, hidden=(3,))
    with pyro.get_param_store().scope():
        before = poutine.trace(vae.model).get_trace(X)
        with declared_before():
            within = poutine.trace(vae.model).get_trace(X)
        after = poutine.trace(vae.model).get_trace(X)
    assert not is_declared()
    assert params(before) == params(after) != []
    assert params(within) == []


def test_handlers_of_parameters_are_shown_them() -> None:
    vae = dg.VAE.mlp((2,), 1, hidden=(3,))
    with pyro.get_param_store().scope():
        poutine.trace(vae.model).get_trace(X)
        seen: list[str] = []

        class Listener(poutine.messenger.Messenger):
            def _pyro_param(self, msg: Any) -> None:
                seen.append(msg["name"])

        with declared_before(), Listener():
            vae.model(X)
    assert sorted(seen) == sorted(f"decoder$$${name}" for name, _ in vae.decoder.named_parameters())


def test_a_fit_gives_the_parameters_that_declaring_at_each_step_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for skips in (True, False):
        if not skips:
            monkeypatch.setattr("deepgen.program.pyro.is_declared", lambda: False)
        pyro.set_rng_seed(0)
        vae = dg.VAE.mlp((2,), 1, "gaussian", hidden=(3,))
        found.append(dg.fit(vae, torch.randn(20, 2), steps=5, batch_size=10).params)
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
