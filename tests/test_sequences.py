"""Text, music and speech are read as their sources say, from small files made here."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from deepgen import data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPGEN_DATA", str(tmp_path))
    for name in ("tinyshakespeare", "polyphonic", "fsdd"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_text(folder: Path) -> None:
    whole = "to be, or not to be: that\n" * 3
    (folder / "tinyshakespeare" / "input.txt.gz").write_bytes(gzip.compress(whole.encode()))
    text = data.text("tinyshakespeare")
    codes = np.concatenate([text.train, text.validation])
    assert "".join(text.alphabet[code] for code in codes) == whole
    assert len(text.train) == int(0.9 * len(whole))
    assert text.train.dtype == np.int32
    assert list(text.alphabet) == sorted(set(whole))


def test_music(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = {"train": [3, 5], "valid": [2], "test": [4, 1, 1]}
    rolls = {part: rng.integers(0, 2, (sum(n), 88)).astype(np.uint8) for part, n in lengths.items()}
    packed = {part: np.packbits(roll, axis=1) for part, roll in rolls.items()}
    ends = {f"{part}_lengths": np.array(n, np.int32) for part, n in lengths.items()}
    np.savez(folder / "polyphonic" / "jsb_chorales.npz", **packed, **ends)
    pieces = data.music("jsb_chorales")
    for part, key in {"train": "train", "validation": "valid", "test": "test"}.items():
        assert [len(piece) for piece in pieces[part]] == lengths[key]
        np.testing.assert_array_equal(np.concatenate(pieces[part]), rolls[key])
    assert pieces["train"][0].dtype == np.float32


def test_spoken_digits(folder: Path) -> None:
    audio = np.arange(-6, 6, dtype=np.int16)
    np.savez(
        folder / "fsdd" / "fsdd.npz",
        audio=audio,
        lengths=np.array([5, 4, 3]),
        digit=np.array([7, 0, 1], np.uint8),
        speaker=np.array([1, 0, 1], np.uint8),
        test=np.array([False, True, False]),
    )
    spoken = data.spoken_digits()
    assert [len(clip) for clip in spoken.clips] == [5, 4, 3]
    np.testing.assert_array_equal(np.concatenate(spoken.clips), audio)
    np.testing.assert_array_equal(spoken.digit, [7, 0, 1])
    np.testing.assert_array_equal(spoken.test, [False, True, False])


@pytest.mark.parametrize(
    ("read", "missing"),
    [
        (data.text, "tinyshakespeare/input.txt.gz"),
        (data.music, "polyphonic/jsb_chorales.npz"),
        (data.spoken_digits, "fsdd/fsdd.npz"),
    ],
)
def test_what_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch, read, missing) -> None:
    with pytest.raises(FileNotFoundError, match=rf"needs {missing} .* has no such file. Fetch"):
        read()
    monkeypatch.delenv("DEEPGEN_DATA")
    with pytest.raises(FileNotFoundError, match=r"DEEPGEN_DATA is not set\. Fetch"):
        read()


@pytest.mark.parametrize("read", [data.text, data.music])
def test_an_unknown_name(read) -> None:
    with pytest.raises(ValueError, match="name: got 'beethoven'"):
        read("beethoven")
