"""WaveNet on spoken digits: ``python -m benchmarks.literature.spoken_digits``; resumable.

Speech at 8 kHz as 256 levels of the µ-law, conditioned on digit and speaker (one-hot, in every gate); the official
split of the free spoken digit data set. Trained on random windows of the clips. Each sample of the test clips is scored
once, with at least as much before it as the receptive field is long, or the whole clip: bits a sample, and their
standard error over clips. Digits drawn in the voice of each speaker are written as WAV beside the results. Needs
DEEPGEN_DATA.
"""

import json
import wave
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import deepgen.numpyro as dg
from benchmarks.literature.exact import Case, command, estimate
from deepgen import data
from deepgen.nn.equinox import load_state_dict, state_dict

DIGITS, SPEAKERS, LEVELS, RATE = 10, 6, 256, 8000
WINDOW, STRIDE, DRAWN = 2048, 1024, 4000
STEPS, BATCH, PIECE = 4000, 16, 16
NETWORK: dict[str, Any] = {
    "channels": 32,
    "skip_channels": 128,
    "dilations": tuple(2**i for i in range(9)) * 2,
    "context_dim": DIGITS + SPEAKERS,
}
SILENCE = int(dg.mu_law_encode(np.zeros(1), LEVELS)[0])


def told(digit: Any, speaker: Any) -> np.ndarray:
    """(n, 16) one-hot codes of what is said and by whom."""
    codes = np.eye(DIGITS)[digit], np.eye(SPEAKERS)[speaker]
    return np.concatenate(codes, axis=1).astype(np.float32)


def encoded(clip: np.ndarray) -> np.ndarray:
    """A clip's levels."""
    return np.asarray(dg.mu_law_encode(clip.astype(np.float64) / 2**15, LEVELS), np.int32)


def padded(clips: list[np.ndarray]) -> np.ndarray:
    """(n, longest) levels, -1 behind the end of each clip."""
    longest = max(WINDOW, *(len(clip) for clip in clips))
    return np.stack([np.pad(clip, (0, longest - len(clip)), constant_values=-1) for clip in clips])


def windows(rng_key: jax.Array, x: jax.Array) -> jax.Array:
    """A window of each clip at random, silent behind the clip's end."""
    room = jnp.maximum((x >= 0).sum(1) - WINDOW, 0)
    starts = jax.random.randint(rng_key, (len(x),), 0, room + 1)
    cut = jax.vmap(lambda row, start: lax.dynamic_slice(row, (start,), (WINDOW,)))(x, starts)
    return jnp.where(cut < 0, SILENCE, cut)


def cut(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The overlapping windows of a clip, and which of their samples each scores."""
    starts = np.arange(0, max(len(clip) - STRIDE, 1), STRIDE)
    place = starts[:, None] + np.arange(WINDOW)
    rows = np.where(place < len(clip), clip[np.minimum(place, len(clip) - 1)], SILENCE)
    own = (place < len(clip)) & ((starts[:, None] == 0) | (np.arange(WINDOW) >= WINDOW - STRIDE))
    return rows.astype(np.int32), own


def scores(program: Any, clips: list[np.ndarray], context: np.ndarray) -> np.ndarray:
    """log p of each clip, nats."""
    parts = [cut(clip) for clip in clips]
    owner = np.repeat(np.arange(len(clips)), [len(rows) for rows, _ in parts])
    x, own = (np.concatenate(part) for part in zip(*parts, strict=True))

    @jax.jit
    def one(network: Any, x: Any, y: Any) -> Any:
        return program.observation(network(x, y)).base_dist.log_prob(x)

    found = np.zeros(len(clips))
    for i in range(0, len(x), PIECE):
        index = np.minimum(np.arange(i, i + PIECE), len(x) - 1)
        log_p = np.asarray(one(program.network, x[index], context[owner[index]]))
        here = np.arange(i, i + PIECE) < len(x)
        np.add.at(found, owner[index], np.where(own[index] & here[:, None], log_p, 0.0).sum(1))
    return found


def program(length: int, key: jax.Array) -> Any:
    """The WaveNet of clips of a length; its parameters do not depend on it."""
    return dg.AutoregressiveModel.wavenet((length,), "categorical", num_classes=LEVELS, **NETWORK, key=key)


def wavenet(steps: int) -> Case:
    """One network for all digits and speakers."""
    source = data.spoken_digits()
    clips = [encoded(clip) for clip in source.clips]
    context = told(source.digit, source.speaker)
    train, test = np.flatnonzero(~source.test), np.flatnonzero(source.test)

    def score(trained: Any) -> tuple[np.ndarray, np.ndarray]:
        own = [clips[i] for i in test]
        return scores(trained, own, context[test]), np.array([len(clip) for clip in own])

    return Case(
        name="WaveNet, digit and speaker given",
        program=lambda key: program(WINDOW, key),
        train=padded([clips[i] for i in train]),
        score=score,
        fit={
            "y": context[train],
            "batch_size": BATCH,
            "augment": windows,
            "clip_norm": 1.0,
            "chunk": 20,
            "optimizer": optax.adam(optax.cosine_decay_schedule(2e-3, steps)),
        },
        settings=f"18 layers of 32, skip 128, dilations to 256 twice, windows of {WINDOW}, batch {BATCH}, Adam 2e-3",
    )


def write_sound(path: Path, levels: np.ndarray) -> None:
    """Levels as a WAV file of 16 bits."""
    sound = np.clip(np.asarray(dg.mu_law_decode(levels, LEVELS)), -1, 1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * (2**15 - 1)).astype("<i2").tobytes())


def speak(trained: Any, stem: Path) -> None:
    """Every digit, the speakers in turn."""
    longer = load_state_dict(program(DRAWN, jax.random.key(0)), state_dict(trained))
    digit = np.arange(DIGITS)
    drawn = np.asarray(dg.sample(jax.random.key(2), longer, DIGITS, y=told(digit, digit % SPEAKERS)))
    for said, levels in zip(digit, drawn, strict=True):
        write_sound(stem.with_name(f"{stem.name}-digit-{said}-speaker-{said % SPEAKERS}.wav"), levels)


def bits(folder: Path) -> str:
    """All finished results in bits a sample."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        value, stderr = (nats / np.log(2) for nats in estimate(found["values"], found["sizes"]))
        lines.append(f"{found['name']}, {found['steps']} steps: {value:.4f} ± {stderr:.4f} bits a sample")
    return "\n".join(lines)


def main() -> None:
    """Run what is not done yet, and print the table."""
    folder = command(__doc__, "spoken_digits", "a sample", {"wavenet": wavenet}, {"wavenet": STEPS}, speak)
    print(bits(folder))


if __name__ == "__main__":
    main()
