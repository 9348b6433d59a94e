"""Shakespeare, character by character: ``python -m benchmarks.literature.tinyshakespeare``; resumable.

nanoGPT's configuration for a CPU (github.com/karpathy/nanoGPT, README): 4 layers, 4 heads, width 128, blocks of 64
characters, batches of 12, 2,000 iterations of AdamW, no dropout unless ``--dropout`` says so. A row is 65 characters;
the first, which nanoGPT is given, is modelled in training and left out of the score. nanoGPT scores random blocks, this
the whole last tenth of the text in blocks that follow each other. Needs DEEPGEN_DATA.
"""

from typing import Any

import jax
import numpy as np
import optax
from jax import lax

import deepgen.numpyro as dg
from benchmarks.literature.exact import Case, command, entries, with_dropout
from deepgen import data

BLOCK, BATCH, STEPS = 64, 12, 2000


def blocks(codes: np.ndarray, length: int, stride: int) -> np.ndarray:
    """All windows of that length that begin at multiples of the stride."""
    return np.lib.stride_tricks.sliding_window_view(codes, length)[::stride].copy()


def shifted(rng_key: jax.Array, x: jax.Array) -> jax.Array:
    """A block of each row, from a random place on: so that every place of the text may begin a block."""
    starts = jax.random.randint(rng_key, (len(x),), 0, BLOCK)
    return jax.vmap(lambda row, start: lax.dynamic_slice(row, (start,), (BLOCK + 1,)))(x, starts)


def transformer(steps: int, dropout: float = 0.0) -> Case:
    """nanoGPT's network and optimiser."""
    source = data.text("tinyshakespeare")
    test = blocks(source.validation, BLOCK + 1, BLOCK)
    warm = max(1, min(100, steps // 10))
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-3, warm, steps, 1e-4)

    def score(program: Any) -> tuple[np.ndarray, np.ndarray]:
        return entries(program, test)[:, 1:].sum(1), np.full(len(test), BLOCK)

    return Case(
        name=with_dropout("causal transformer", dropout),
        program=lambda key: dg.AutoregressiveModel.transformer(
            (BLOCK + 1,),
            "categorical",
            num_classes=len(source.alphabet),
            width=128,
            num_heads=4,
            num_layers=4,
            tied=True,
            dropout=dropout,
            key=key,
        ),
        train=blocks(source.train, 2 * BLOCK, BLOCK),
        score=score,
        fit={
            "batch_size": BATCH,
            "augment": shifted,
            "clip_norm": 1.0,
            "optimizer": optax.adamw(schedule, b2=0.99, weight_decay=0.1, mask=_matrices),
        },
        settings="4 layers, 4 heads, width 128, tied, block 64, batch 12, AdamW 1e-3 to 1e-4, clip 1",
        published={"nanoGPT": 1.88},
    )


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def main() -> None:
    """Run what is not done yet, and print the table."""
    command(
        __doc__,
        "tinyshakespeare",
        "a character",
        {"transformer": transformer},
        {"transformer": STEPS},
        dropping=["transformer"],
    )


if __name__ == "__main__":
    main()
