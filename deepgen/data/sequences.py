"""Text, music and speech from the folder that the environment variable DEEPGEN_DATA names."""

import gzip
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from deepgen.checks import problem
from deepgen.data.dataset import SPLITS
from deepgen.data.folder import located

TEXTS = {"tinyshakespeare": "input.txt.gz: https://github.com/karpathy/char-rnn, gzipped"}
MUSIC = ("jsb_chorales", "nottingham", "piano_midi")
KEYS = 88


@dataclass(frozen=True, eq=False)
class Text:
    """A text as integers, in its own order.

    Attributes:
        train: the first nine tenths, (n,) int32.
        validation: the rest.
        alphabet: the characters that the integers stand for, sorted.
    """

    train: np.ndarray
    validation: np.ndarray
    alphabet: str


class Clips(NamedTuple):
    """Spoken digits.

    Attributes:
        clips: recordings of int16 samples, each of its own length.
        digit: (n,) 0 to 9.
        speaker: (n,) the index of who speaks.
        test: (n,) booleans, the official split.
    """

    clips: list[np.ndarray]
    digit: np.ndarray
    speaker: np.ndarray
    test: np.ndarray


def text(name: str = "tinyshakespeare") -> Text:
    """A text, character by character, split as in char-rnn and nanoGPT.

    Args:
        name: "tinyshakespeare".

    Returns:
        Its two parts and its alphabet.

    Raises:
        FileNotFoundError: the variable is not set or the file is not there; the message says what belongs where.
        ValueError: another name.
    """
    if name not in TEXTS:
        raise problem("name", got=repr(name), expected=f"one of {list(TEXTS)}", fix="Choose one of these.")
    whole = gzip.decompress(located(name, TEXTS[name], name, "input.txt.gz").read_bytes()).decode()
    alphabet, codes = np.unique(np.array(list(whole)), return_inverse=True)
    codes = codes.astype(np.int32)
    cut = int(0.9 * len(codes))
    return Text(codes[:cut], codes[cut:], "".join(alphabet))


def music(name: str = "jsb_chorales") -> dict[str, list[np.ndarray]]:
    """Pieces of polyphonic music as rolls of 88 keys, with the splits of Boulanger-Lewandowski et al. 2012.

    Args:
        name: "jsb_chorales", "nottingham" or "piano_midi".

    Returns:
        For each of "train", "validation" and "test" its pieces, (steps, 88) float32 of 0 and 1, lowest key first.

    Raises:
        FileNotFoundError: the variable is not set or the file is not there; the message says what belongs where.
        ValueError: another name.
    """
    if name not in MUSIC:
        raise problem("name", got=repr(name), expected=f"one of {list(MUSIC)}", fix="Choose one of these.")
    source = "an npz with train, valid, test (steps, 11) of packed bits and <split>_lengths"
    pieces = {}
    with np.load(located(name, source, "polyphonic", f"{name}.npz")) as file:
        for part, key in zip(SPLITS, ("train", "valid", "test"), strict=True):
            roll = np.unpackbits(file[key], axis=1)[:, :KEYS].astype(np.float32)
            pieces[part] = np.split(roll, np.cumsum(file[f"{key}_lengths"])[:-1])
    return pieces


def spoken_digits() -> Clips:
    """The free spoken digit data set: 8 kHz, ten digits, six speakers.

    Returns:
        The clips, what is said by whom, and which are for testing.

    Raises:
        FileNotFoundError: the variable is not set or the file is not there; the message says what belongs where.
    """
    source = "an npz with audio, lengths, digit, speaker, test: https://github.com/Jakobovski/free-spoken-digit-dataset"
    with np.load(located("spoken digits", source, "fsdd", "fsdd.npz")) as file:
        clips = np.split(file["audio"], np.cumsum(file["lengths"])[:-1])
        return Clips(clips, file["digit"].astype(np.int32), file["speaker"].astype(np.int32), file["test"].astype(bool))
