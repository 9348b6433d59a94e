"""Data sets by name and from files. Statistical bounds: 4.5 standard errors, a failure rate below 1e-5 a check."""

import gzip
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgen import data
from deepgen.data import Dataset, read_idx

BOUND = 4.5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPGEN_DATA", str(tmp_path))
    return tmp_path


def write_idx(path, array, *, code=0x08):
    path.parent.mkdir(exist_ok=True)
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    raw = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def test_digits_are_the_digits_of_scikit_learn_split_by_seed():
    from sklearn.datasets import load_digits

    raw = load_digits()
    digits = data.digits(seed=3)
    assert (digits.event_shape, digits.support, digits.train.dtype) == ((64,), "unit_interval", np.float32)
    rows = np.concatenate([digits.rows[part] for part in ("train", "validation", "test")])
    np.testing.assert_array_equal(np.sort(rows), np.arange(1797))
    np.testing.assert_array_equal(digits.test, (raw.data / 16)[digits.rows["test"]])
    np.testing.assert_array_equal(digits.labels["test"], raw.target[digits.rows["test"]])
    np.testing.assert_array_equal(digits.train, data.digits(seed=3).train)
    assert not np.array_equal(digits.rows["test"], data.digits(seed=4).rows["test"])
    images = data.load("digits", seed=3, image=True)
    assert images.event_shape == (1, 8, 8)
    np.testing.assert_array_equal(images.train.reshape(-1, 64), digits.train)


def test_binarised_digits():
    grey = data.digits(seed=0).train
    hard, drawn = (data.digits(seed=0, binarize=how) for how in ("threshold", "sample"))
    assert hard.support == drawn.support == "boolean"
    np.testing.assert_array_equal(hard.train, grey >= 0.5)
    assert set(np.unique(drawn.train)) == {0, 1}
    error = (drawn.train - grey).sum() / np.sqrt((grey * (1 - grey)).sum())
    assert abs(error) < BOUND
    assert abs((hard.train - grey).sum() / np.sqrt((grey * (1 - grey)).sum())) > BOUND
    with pytest.raises(ValueError, match="binarize: got 'round'; expected one of"):
        data.load("digits", binarize="round")


@pytest.mark.parametrize(("name", "shape"), [("breast_cancer", 30), ("wine", 13), ("iris", 4), ("diabetes", 10)])
def test_tables_of_scikit_learn_are_standardised_by_their_training_rows(name, shape):
    table = data.load(name, seed=1)
    assert table.event_shape == (shape,)
    assert len(table.columns) == shape
    np.testing.assert_allclose(table.train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(table.train.std(0), 1, atol=1e-5)
    everything = np.concatenate([table.train, table.validation, table.test])
    assert np.abs(everything.mean(0)).max() > 1e-3
    assert table.encoding.decode(table.test).shape == table.test.shape


@pytest.mark.parametrize("name", ["eight_gaussians", "two_moons", "checkerboard"])
def test_laws_in_the_plane_are_data_sets(name: str) -> None:
    found, again = data.load(name, seed=1), data.load(name, seed=2)
    assert [len(getattr(found, part)) for part in data.dataset.SPLITS] == [7000, 1000, 2000]
    assert found.support == "real"
    assert found.labels is not None
    law = getattr(data, name)()
    assert np.isfinite(law.log_prob(found.test)).all()
    np.testing.assert_array_equal(found.labels["test"], law.mode(found.test))
    rows = [np.concatenate([getattr(one, part) for part in data.dataset.SPLITS]) for one in (found, again)]
    assert not np.array_equal(*rows)
    np.testing.assert_array_equal(*(np.sort(row, axis=0) for row in rows))
    with pytest.raises(ValueError, match="image and binarize"):
        data.load(name, image=True)


@given(n=st.integers(3, 60), seed=st.integers(0, 5), validation=st.floats(0, 0.3), test=st.floats(0, 0.3))
@settings(max_examples=30)
def test_split_is_a_partition(n, seed, validation, test):
    parts = data.split(n, seed=seed, shares=(1 - validation - test, validation, test))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(n))
    assert (len(parts["validation"]) > 0) == (validation > 0)
    assert abs(len(parts["test"]) - n * test) <= 1


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.2, -0.1), (0.5, 0.1, 0.1), (float("nan"), 0.5, 0.5)])
def test_shares_that_do_not_sum_to_one_are_refused(shares):
    with pytest.raises(ValueError, match=r"shares: got .* sum to 1"):
        data.split(10, seed=0, shares=shares)


def test_too_few_rows_and_unlike_splits_are_refused():
    with pytest.raises(ValueError, match=r"rows: got 2, of which the shares .* leave 0 for training"):
        data.split(2, seed=0)
    row = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"'a': got event shapes .* one event shape"):
        Dataset("a", row, row, np.zeros((2, 4), np.float32), "real")
    with pytest.raises(ValueError, match="'a': got no training rows"):
        Dataset("a", row[:0], row, row, "real")


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
)
@pytest.mark.parametrize("ending", ["a-ubyte", "a-ubyte.gz"])
def test_idx_is_read_in_all_its_types(tmp_path, code, dtype, ending):
    array = (np.arange(24).reshape(2, 3, 4) * 5).astype(dtype)
    write_idx(tmp_path / ending, array, code=code)
    found = read_idx(tmp_path / ending)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.dtype(dtype)


def test_broken_idx_is_refused(tmp_path):
    path = tmp_path / "a.idx"
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_idx(path)
    path.write_bytes(b"PNG")
    with pytest.raises(ValueError, match="got the first bytes b'PNG'"):
        read_idx(path)
    write_idx(path, np.zeros((3, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"got 8 bytes of data; expected 9 for the shape \(3, 3\)"):
        read_idx(path)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x" * 999)[:-9])
    with pytest.raises(ValueError, match="broken gzip"):
        read_idx(tmp_path / "a.gz")


def test_mnist_comes_from_the_folder(folder):
    rng = np.random.default_rng(0)
    for part, n in (("train", 12), ("t10k", 4)):
        write_idx(folder / "mnist" / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        write_idx(folder / "mnist" / f"{part}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8))
    mnist = data.load("mnist", image=True)
    assert (mnist.train.shape, mnist.validation.shape, mnist.test.shape) == (
        (10, 1, 28, 28),
        (2, 1, 28, 28),
        (4, 1, 28, 28),
    )
    assert mnist.labels["validation"].tolist() == [10, 11]
    assert mnist.train.max() == 1
    assert data.load("mnist", binarize="sample").support == "boolean"


def test_packed_bits_come_from_the_folder(folder):
    rng = np.random.default_rng(0)
    bits = {key: rng.integers(0, 2, (3, 784), dtype=np.uint8) for key in ("train", "valid", "test")}
    for name in ("binarized_mnist", "debd", "omniglot", "frey"):
        (folder / name).mkdir()
    np.savez(folder / "binarized_mnist" / "binarized_mnist.npz", **{k: np.packbits(v, axis=1) for k, v in bits.items()})
    np.testing.assert_array_equal(data.load("binarized_mnist").validation, bits["valid"])
    with pytest.raises(ValueError, match="binarize: got 'sample'; expected None: it is binary"):
        data.load("binarized_mnist", binarize="sample")
    few = {k: np.packbits(v[:, :13], axis=1) for k, v in bits.items()}
    np.savez(folder / "debd" / "nltcs.npz", n_vars=13, **few)
    np.testing.assert_array_equal(data.load("debd/nltcs").test, bits["test"][:, :13])
    images = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    evaluation = np.arange(20) >= 15
    np.savez(folder / "omniglot" / "omniglot28.npz", images=images, character=np.arange(20), evaluation=evaluation)
    omniglot = data.load("omniglot")
    assert omniglot.labels["test"].tolist() == [15, 16, 17, 18, 19]
    assert (len(omniglot.train), len(omniglot.validation)) == (13, 2)
    np.savez(folder / "frey" / "freyfaces.npz", images=images)
    frey = data.load("frey", seed=1)
    np.testing.assert_allclose(frey.test[0], (images[frey.rows["test"][0]].ravel() + 0.5) / 256)


def test_tables_come_from_the_folder(folder):
    rng = np.random.default_rng(0)
    for name in ("uci_imputation", "uci_regression", "missing"):
        (folder / name).mkdir()
    x = rng.standard_normal((30, 3))
    x[:, 1] = 7
    np.savez(folder / "uci_imputation" / "uci_small16.npz", seeds=x)
    seeds = data.load("uci_imputation/seeds")
    assert seeds.columns == ("x0", "x2")
    assert "1 constant columns left out" in seeds.description
    np.savez(folder / "uci_regression" / "yacht.npz", x=x, y=x[:, 0] ** 2)
    assert data.load("uci_regression/yacht").columns == ("x0", "x2", "y")
    pd.DataFrame({"id": range(30), "a": x[:, 0], "b": np.where(x[:, 2] > 0, np.nan, x[:, 2])}).to_csv(
        folder / "missing" / "pbc.csv", index=False
    )
    pbc = data.load("missing/pbc")
    assert pbc.columns == ("a", "b")
    assert np.isnan(pbc.train).any()
    with pytest.raises(ValueError, match="the table 'glass'; expected one of"):
        data.load("uci_imputation/glass")
    with pytest.raises(ValueError, match="for the table 'missing/pbc'; expected neither"):
        data.load("missing/pbc", image=True)


def test_a_folder_that_is_not_there_is_explained(folder, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"mnist/train-images-idx3-ubyte.gz .* which has no such file\. Fetch four"
    ):
        data.load("mnist")
    monkeypatch.delenv("DEEPGEN_DATA")
    with pytest.raises(FileNotFoundError, match=r"DEEPGEN_DATA is not set. Fetch an npz"):
        data.load("debd/nltcs")


@pytest.mark.parametrize("name", ["digit", "imagenet", "my_table"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match=f"data set: got '{name}'; expected one of .*'digits'.*'mnist'"):
        data.load(name)


@pytest.mark.parametrize("name", ["mnist/a", "debd", "missing"])
def test_names_with_and_without_a_table(name):
    with pytest.raises(ValueError, match=f"name: got '{name}'; expected one of"):
        data.load(name)


def test_npz_and_idx_files(tmp_path):
    x = np.arange(40, dtype=np.float64).reshape(10, 4)
    np.savez(tmp_path / "a.npz", x=x)
    assert data.load(tmp_path / "a.npz").support == "real"
    np.savez(tmp_path / "b.npz", train=x[:6] / 40, valid=x[6:8] / 40, test=x[8:] / 40)
    split = data.load(tmp_path / "b.npz")
    assert split.support == "unit_interval"
    np.testing.assert_array_equal(split.validation, (x[6:8] / 40).astype(np.float32))
    write_idx(tmp_path / "c-ubyte.gz", np.full((5, 2, 2), 255, np.uint8))
    assert data.load(tmp_path / "c-ubyte.gz").train.max() == 1
    np.savez(tmp_path / "d.npz", y=x)
    with pytest.raises(ValueError, match=r"got the arrays \['y'\]"):
        data.load(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", x=3.0)
    with pytest.raises(ValueError, match="x: got a number; expected an array"):
        data.load(tmp_path / "e.npz")
    with pytest.raises(FileNotFoundError, match=r"npz file .* there is no such file"):
        data.load(tmp_path / "f.npz")
    with pytest.raises(ValueError, match=r"image and binarize: got image=True"):
        data.load(tmp_path / "a.npz", image=True)
