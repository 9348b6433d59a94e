"""The random bits of a step: those of JAX's keys, by arithmetic that a compiled loop does quickly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from deepgen.inference.langevin.dynamics import Discrete, Overdamped, Underdamped
from deepgen.inference.langevin.noise.numpyro import draw_noise, uniform
from deepgen.math import threefry

LOWEST = float(jnp.finfo(jnp.float32).epsneg) - 1
KEYS = jax.random.split(jax.random.key(3), 4)
# key, counter and result: the test vectors that come with the paper's code
KNOWN = {
    "zeros": ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    "ones": ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    "digits of pi": ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
}


@pytest.mark.parametrize("case", KNOWN)
def test_a_block_is_that_of_the_paper(case):
    key, counter, expected = (tuple(np.array([word], dtype=np.uint32) for word in words) for words in KNOWN[case])
    assert threefry.block(key, counter) == expected


def same_bits():
    expected = jax.vmap(lambda key: jax.random.bits(key, (9,), "uint32"))(KEYS)
    return np.array_equal(threefry.bits(np.asarray(jax.random.key_data(KEYS)), 9), expected)


def test_the_bits_are_those_of_jax(monkeypatch):
    assert same_bits()
    monkeypatch.setattr(threefry, "ROTATIONS", ((13, 15, 26, 6), (17, 29, 16, 23)))
    assert not same_bits()


def test_uniforms_are_those_of_jax():
    found = np.asarray(jax.jit(lambda key: uniform(key, jnp.zeros(1), (3, 5)))(KEYS[0]))
    np.testing.assert_array_equal(found, jax.random.uniform(KEYS[0], (3, 5)))
    assert (found != np.asarray(jax.random.uniform(KEYS[1], (3, 5)))).any()


@pytest.mark.parametrize("dynamics", [Overdamped(), Underdamped(num_steps=2), Discrete()], ids=str)
def test_a_step_takes_one_draw_for_all_or_one_of_each_key(dynamics):
    position = jnp.zeros((4, 3))
    main, accept = draw_noise(KEYS[0], dynamics, position)
    uniform = np.asarray(jax.random.uniform(KEYS[0], (main.size + 4,), jnp.float32, LOWEST, 1.0), np.float64)
    first = stats.norm.ppf((uniform[: main.size] + 1) / 2) if dynamics.gaussian else (uniform[: main.size] + 1) / 2
    np.testing.assert_allclose(main.ravel(), first, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(accept, (uniform[main.size :] + 1) / 2, atol=1e-6)
    rows = [draw_noise(key, dynamics, position[:1]) for key in KEYS]
    for found, alone in zip(draw_noise(KEYS, dynamics, position), zip(*rows, strict=True), strict=True):
        np.testing.assert_array_equal(found, np.concatenate(alone))


@pytest.mark.parametrize("kind", ["raw", "rbg", "float64"])
def test_other_keys_and_numbers_are_drawn_by_jax(kind):
    key = jax.random.PRNGKey(0) if kind == "raw" else jax.random.key(0, impl="rbg" if kind == "rbg" else None)
    with jax.enable_x64(kind == "float64"):
        _, accept = draw_noise(key, Overdamped(), jnp.zeros((5, 2), float))
        lowest = float(jnp.finfo(accept.dtype).epsneg) - 1
        expected = np.asarray(jax.random.uniform(key, (15,), accept.dtype, lowest, 1.0))
    np.testing.assert_allclose(accept, (expected[10:] + 1) / 2, atol=1e-6)
    assert accept.dtype == expected.dtype
