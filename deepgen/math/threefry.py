"""The random bits of JAX's keys, written so that a compiler sees arithmetic of whole arrays and no loop.

In a compiled loop on a CPU the same bits from ``jax.random`` come out of an inner loop over arrays in memory, and cost
about four times as much.
"""

from typing import Any

from array_api_compat import array_namespace, device

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def block(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Threefry-2x32 with twenty rounds: a counter of two words becomes two random words.

    Args:
        key: two arrays of 32-bit unsigned integers that broadcast with the counter's.
        counter: likewise.

    Returns:
        Two arrays of 32-bit unsigned integers.

    References:
        Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
    """
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for i in range(5):
        for turn in ROTATIONS[i % 2]:
            x = x + y
            y = ((y << turn) | (y >> (32 - turn))) ^ x
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + (i + 1)
    return x, y


def bits(key: Any, size: int) -> Any:
    """As ``jax.random.bits(key, (size,), "uint32")`` gives them, for keys of the default kind.

    Args:
        key: (*batch, 2) 32-bit unsigned integers.
        size: how many of each key, below 2^32.

    Returns:
        (*batch, size) 32-bit unsigned integers.
    """
    xp = array_namespace(key)
    place = xp.arange(size, dtype=key.dtype, device=device(key))
    x, y = block((key[..., :1], key[..., 1:]), (xp.zeros_like(place), place))
    return x ^ y
