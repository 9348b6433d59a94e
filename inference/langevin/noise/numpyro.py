"""The randomness of a step in JAX."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from deepgen.inference.langevin.dynamics import Dynamics
from deepgen.math import threefry

__all__ = ["draw_noise", "uniform"]

Noise = tuple[Array, Array]


def draw_noise(rng_key: Array, dynamics: Dynamics, position: Array | jax.ShapeDtypeStruct) -> Noise:
    """The randomness of one step.

    Args:
        rng_key: a JAX key, or n, one for each element.
        dynamics: the kernel.
        position: (n, d) or (n, d, k), for its shape and dtype.

    Returns:
        What the proposal takes, normals or uniforms in (0, 1), and (n,) uniforms in [0, 1) for acceptance.
    """
    n, shape = position.shape[0], dynamics.noise_shape(position.shape[1:])
    rows = 1 if _several(rng_key) else n
    # one draw for all of it: each draw inside a loop costs time to compile
    size = rows * math.prod(shape)
    # never -1, where the normal would be infinite
    symmetric = _uniform(rng_key, size + rows, position.dtype, float(jnp.finfo(position.dtype).epsneg) - 1)
    main, accept = symmetric[..., :size], symmetric[..., size:]
    main = math.sqrt(2) * lax.erf_inv(main) if dynamics.gaussian else (main + 1) / 2
    return main.reshape(n, *shape), (accept.reshape(n) + 1) / 2


def uniform(rng_key: Array, like: Array, shape: tuple[int, ...]) -> Array:
    """Uniforms in [0, 1), those of ``jax.random.uniform``.

    Args:
        rng_key: a JAX key.
        like: an array, for its dtype.
        shape: of what is drawn.

    Returns:
        Numbers of this shape.
    """
    return _uniform(rng_key, math.prod(shape), like.dtype, 0.0).reshape(shape)


def _uniform(rng_key: Array, size: int, dtype: jnp.dtype, lowest: float) -> Array:
    """In [lowest, 1), the numbers of ``jax.random.uniform`` to the bit: (size,), or (n, size) of n keys."""
    plain = partial(jax.random.uniform, shape=(size,), dtype=dtype, minval=lowest, maxval=1.0)
    plain = jax.vmap(plain) if _several(rng_key) else plain
    if dtype != jnp.float32 or str(jax.random.key_impl(rng_key)) != "threefry2x32":
        return plain(rng_key)

    def unrolled(rng_key: Array) -> Array:
        words = _once(threefry.bits, jax.random.key_data(rng_key), size)
        # 23 bits behind the exponent of one are a number in [1, 2)
        unit = lax.bitcast_convert_type((words >> 9) | 0x3F800000, jnp.float32) - 1
        return jnp.maximum(unit * (1 - lowest) + lowest, lowest)

    return lax.platform_dependent(rng_key, cpu=unrolled, default=plain)


def _several(rng_key: Array) -> bool:
    return jax.random.key_data(rng_key).ndim > 1


def _once(bits: Callable[[Array, int], Array], key: Array, size: int) -> Array:
    """In a loop of one turn, which the compiler cannot see: else it takes the bits anew wherever they are read."""
    first = key.reshape(-1)[0]
    begin = first, jnp.zeros((*key.shape[:-1], size), key.dtype)
    return lax.while_loop(lambda turn: turn[0] == first, lambda turn: (turn[0] + 1, bits(key, size)), begin)[1]
