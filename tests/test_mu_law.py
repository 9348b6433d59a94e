"""The µ-law: its formula, its inverse, and both engines' arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from deepgen.models.autoregressive import mulaw


def test_mu_law() -> None:
    """Its formula, its inverse in the middle of every class, and both engines."""
    k = np.arange(256)
    x = mulaw.mu_law_decode(k)
    np.testing.assert_array_equal(mulaw.mu_law_encode(x), k)
    assert (np.diff(x) > 0).all()
    np.testing.assert_allclose(x[[0, 255]], [-1, 1], atol=1e-6)
    y = np.linspace(-1, 1, 1001)
    error = np.abs(mulaw.mu_law_decode(mulaw.mu_law_encode(y)) - y)
    # half a class, dx = (1/mu + |x|) ln(1 + mu) dk / mu
    assert (error <= 1.05 * (1 / 255 + np.abs(y)) * np.log(256) / 255 + 1e-6).all()
    assert error[np.abs(y) > 0.9].max() > 5 * error[np.abs(y) < 0.05].max()
    for convert in (jnp.asarray, torch.as_tensor):
        np.testing.assert_array_equal(mulaw.mu_law_encode(convert(x.astype(np.float32))), k)
        np.testing.assert_allclose(mulaw.mu_law_decode(convert(k)), x, atol=1e-6)
    with pytest.raises(ValueError, match="num_values: got 1"):
        mulaw.mu_law_encode(y, 1)
    for convert in (np.asarray, jnp.asarray, torch.as_tensor):
        for wrong in ([12000.0, -3000.0, 5.0], [0.1, np.nan]):
            with pytest.raises(ValueError, match=r"x: got values from .* expected sound within \[-1, 1\]"):
                mulaw.mu_law_encode(convert(wrong))
    np.testing.assert_array_equal(jax.jit(mulaw.mu_law_encode)(x), k)
