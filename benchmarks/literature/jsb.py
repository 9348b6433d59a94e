"""JSB chorales: ``python -m benchmarks.literature.jsb``; resumable, one file a model.

Piano rolls of quarter notes, the splits of Boulanger-Lewandowski et al. 2012; nats a frame of 88 keys, which are
independent given the frames before, as in the figures beside (Bai, Kolter & Koltun 2018, TCN and LSTM). Pieces are
filled with silence to one length; only their own frames are scored. Training pieces are transposed by -5 to 6 half
tones, which Bai et al. do not do. Needs DEEPGEN_DATA.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import deepgen.numpyro as dg
from benchmarks.literature.exact import Case, command, entries, with_dropout
from deepgen import data

PUBLISHED = {"TCN": 8.10, "LSTM": 8.45}
STEPS = {"wavenet": 1500, "transformer": 1500}
LENGTH, BATCH = 160, 16


def filled(pieces: list[np.ndarray]) -> np.ndarray:
    """(n, LENGTH, keys), silent after the end."""
    return np.stack([np.pad(piece, ((0, LENGTH - len(piece)), (0, 0))) for piece in pieces])


def transposed(rng_key: jax.Array, x: jax.Array) -> jax.Array:
    """Each piece by -5 to 6 half tones; the set leaves more room than that at both ends of the piano."""
    by = jax.random.randint(rng_key, (len(x),), -5, 7)
    return jax.vmap(lambda roll, k: jnp.roll(roll, k, axis=-1))(x, by)


def case(name: str, program: Any, settings: str, steps: int) -> Case:
    """One network on the chorales."""
    source = data.music("jsb_chorales")
    test = filled(source["test"])
    lengths = np.array([len(piece) for piece in source["test"]])

    def score(trained: Any) -> tuple[np.ndarray, np.ndarray]:
        frames = entries(trained, test).sum(-1)
        return np.where(np.arange(LENGTH) < lengths[:, None], frames, 0.0).sum(1), lengths

    return Case(
        name=name,
        program=program,
        train=filled(source["train"]),
        score=score,
        fit={
            "batch_size": BATCH,
            "augment": transposed,
            "validation": filled(source["validation"]),
            "patience": 10,
            "clip_norm": 1.0,
            "chunk": 50,
            "optimizer": optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=0.1),
        },
        settings=settings + f", batch {BATCH}, AdamW 2e-3 cosine, decay 0.1, transposed, patience 500 steps",
        published=PUBLISHED,
    )


def wavenet(steps: int) -> Case:
    """Dilations 1 to 32."""
    return case(
        "WaveNet",
        lambda key: dg.AutoregressiveModel.wavenet(
            (LENGTH, 88),
            "bernoulli",
            channels=64,
            skip_channels=128,
            dilations=(1, 2, 4, 8, 16, 32),
            kernel_size=2,
            key=key,
        ),
        "6 layers of 64 channels, dilations 1 to 32",
        steps,
    )


def transformer(steps: int, dropout: float = 0.0) -> Case:
    """Three layers of width 96."""
    return case(
        with_dropout("causal transformer", dropout),
        lambda key: dg.AutoregressiveModel.transformer(
            (LENGTH, 88), "bernoulli", width=96, num_heads=4, num_layers=3, dropout=dropout, key=key
        ),
        "3 layers, 4 heads, width 96",
        steps,
    )


def main() -> None:
    """Run what is not done yet, and print the table."""
    command(
        __doc__, "jsb", "a frame", {"wavenet": wavenet, "transformer": transformer}, STEPS, dropping=["transformer"]
    )


if __name__ == "__main__":
    main()
