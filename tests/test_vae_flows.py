"""Flows as prior and as posterior of a VAE's latents: densities, moments, contexts, refusals."""

from typing import Any

import numpy as np
import pytest
import torch
from engines import ENGINES
from scipy import stats
from scipy.special import logsumexp
from siting import numbers

from deepgen.models.vae import flows

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
D, L, C = 4, 2, 3


def rows(n: int = 6, d: int = D) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)


def flow(engine: Any, name: str = "realnvp", **kwargs: Any) -> Any:
    return engine.call(getattr(engine.face.Flow, name), (L,), num_transforms=2, hidden=(6,), **kwargs)


def made(engine: Any, **parts: Any) -> Any:
    """A VAE every number of which is moved from where it starts."""
    program = engine.call(engine.face.VAE.mlp, (D,), L, "gaussian", hidden=(6,), **parts)
    rng = np.random.default_rng(1)
    moved = {
        name: (value + 0.4 * rng.standard_normal(value.shape)).astype(value.dtype)
        for name, value in engine.tensors(program).items()
    }
    return engine.with_tensors(program, moved)


def at(engine: Any, law: Any, z: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return numbers(law.log_prob(engine.array(z)))


@BOTH
@pytest.mark.parametrize("name", ["realnvp", "nsf", "maf"])
def test_the_prior_is_the_flow(engine: Any, name: str) -> None:
    program = made(engine, prior=flow(engine, name))
    tensors = {key: value for key, value in engine.tensors(program).items() if not key.startswith("prior.")}
    plain = engine.with_tensors(engine.call(engine.face.VAE.mlp, (D,), L, "gaussian", hidden=(6,)), tensors)
    z, x = rows(6, L), rows()
    found = engine.log_joint(program, {"z": z}, x) - engine.log_joint(plain, {"z": z}, x)
    expected = at(engine, program.prior.flow.distribution(), z) - stats.norm.logpdf(z).sum(-1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1


@BOTH
def test_moments_of_an_affine_posterior_are_exact(engine: Any) -> None:
    program = made(engine, posterior=engine.face.Flow(L, [engine.face.LULinear(L), engine.face.ActNorm(L)]))
    x = rows()
    law = program.posterior_of(engine.array(x))
    loc, scale = (numbers(part) for part in (law.base_dist.base_dist.loc, law.base_dist.base_dist.scale))

    def carried(z: np.ndarray) -> np.ndarray:
        z = engine.array(z.astype(np.float32))
        with torch.no_grad():
            for transform in program.posterior.flow.transforms:
                z = transform(z)
        return numbers(z)

    origin = carried(np.zeros((1, L)))
    linear = carried(np.eye(L)) - origin
    mean, sd = engine.encode(program, x)
    np.testing.assert_allclose(mean, loc @ linear + origin, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(sd**2, scale**2 @ linear**2, rtol=1e-3)
    assert np.abs(sd - scale).max() > 0.05


def test_points_have_the_moments_of_a_standard_normal() -> None:
    for dim in (1, 3, 80):
        found = flows.points(dim)
        np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(found.T @ found / len(found), np.eye(dim), atol=1e-9)


@BOTH
def test_the_flow_sees_the_encoders_context(engine: Any) -> None:
    program = made(engine, posterior=flow(engine, "iaf", context_dim=C))
    assert program.spec()["encoder"]["out_size"] == 2 * L + C
    x, z = rows(), rows(6, L)
    before = at(engine, program.posterior_of(engine.array(x)), z)
    tensors = engine.tensors(program)
    bias = max(name for name in tensors if name.startswith("encoder") and name.endswith("bias"))
    shifted = tensors[bias] + np.float32([0.0] * 2 * L + [1.0] * C)
    after = at(engine, engine.with_tensors(program, {**tensors, bias: shifted}).posterior_of(engine.array(x)), z)
    assert np.abs(after - before).max() > 1e-2


@BOTH
def test_a_vamp_prior_mixes_flow_posteriors(engine: Any) -> None:
    parts = {"posterior": flow(engine, context_dim=C), "prior": "vamp", "num_components": 3}
    program = made(engine, **parts)
    tensors = engine.tensors(program)
    plain = {key: value for key, value in tensors.items() if not key.startswith("prior.")}
    other = engine.call(engine.face.VAE.mlp, (D,), L, "gaussian", hidden=(6,), posterior=parts["posterior"])
    x, z = rows(), rows(6, L)
    found = engine.log_joint(program, {"z": z}, x)
    pseudo = program.posterior_of(engine.array(tensors["prior.pseudo_inputs"]))
    each = at(engine, pseudo, np.repeat(z[:, None], 3, axis=1))
    expected = logsumexp(each, axis=1) - np.log(3) - stats.norm.logpdf(z).sum(-1)
    reference = engine.log_joint(engine.with_tensors(other, plain), {"z": z}, x)
    np.testing.assert_allclose(found - reference, expected, atol=1e-4)
    assert tuple(engine.call("sample", program, 5).shape) == (5, D)


@BOTH
def test_a_program_of_parts_is_the_constructors(engine: Any) -> None:
    prior, posterior = flow(engine, "nsf"), flow(engine, "iaf", context_dim=C)
    program = engine.call(engine.face.VAE.mlp, (D,), L, "gaussian", hidden=(6,), prior=prior, posterior=posterior)
    parts = program.encoder, program.decoder, program.observation, L
    assert engine.face.VAE(*parts, prior=prior, posterior=posterior).spec() == {**program.spec(), "input_shape": [D]}
    rebuilt = engine.build("vae", program.spec())
    assert rebuilt.spec() == program.spec()
    assert {k: v.shape for k, v in engine.tensors(rebuilt).items()} == {
        k: v.shape for k, v in engine.tensors(program).items()
    }


@BOTH
def test_what_flows_of_latents_refuse(engine: Any) -> None:
    def make(**parts: Any) -> Any:
        return engine.call(engine.face.VAE.mlp, (D,), 3, "gaussian", hidden=(6,), **parts)

    with pytest.raises(ValueError, match=r"prior: got a flow of event_shape \(2,\) for latent_dim=3"):
        make(prior=flow(engine))
    with pytest.raises(ValueError, match=r"posterior: got a flow of event_shape \(2,\) for latent_dim=3"):
        make(posterior=flow(engine))
    own = engine.call(engine.face.Flow.maf, (3,), num_transforms=1, hidden=(6,), context_dim=2)
    with pytest.raises(ValueError, match=r"prior: got a flow with context_dim=2; expected a flow without a context"):
        make(prior=own)
    logistic = engine.call(engine.face.Flow.nice, (3,), num_transforms=2, hidden=(6,))
    with pytest.raises(ValueError, match=r"posterior: got a flow with base='logistic'; expected base='normal'"):
        make(posterior=logistic)
    with pytest.raises(ValueError, match=r"num_components: got 3; expected None with a flow as prior"):
        make(prior=logistic, num_components=3)
