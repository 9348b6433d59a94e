"""Data sets, tables and missingness. Statistical bounds: 4.5 standard errors, a failure rate below 1e-5 a check."""

import gzip
import json
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from deepgen import data
from deepgen.data import Dataset, Encoding, Table, block, half, hide, mar, mcar, mnar, pixels, read_idx, read_table

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


# Data sets


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


# Files


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


# Tables

CSV = """age,weight,smoker,colour,city,code
31,70.10,True,red,Oslo,007
,81.25,False,green,Bergen,010
45,,True,blue,Oslo,003
52,64.0,,,Oslo,007
29,90.5,False,red,  ,010
41,77.7,True,"green",Bergen,?
"""


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(CSV)
    return path


def test_columns_are_classified_and_blanks_are_missing(csv_file):
    table = read_table(csv_file)
    assert [column.kind for column in table.columns] == [
        "integer", "real", "boolean", "categorical", "categorical", "integer",
    ]  # fmt: skip
    assert table.columns[3].levels == ("blue", "green", "red")
    assert np.argwhere(~table.observed).tolist() == [[1, 0], [2, 1], [3, 2], [3, 3], [4, 4], [5, 5]]
    coded = read_table(csv_file, categorical=["code"], drop=["age"])
    assert coded.columns[-1].levels == (3, 7, 10)
    assert "age" not in coded.frame


def test_encoded_cells(csv_file):
    encoding = Encoding.fit(table := read_table(csv_file))
    assert encoding.names == ("age", "weight", "smoker", "colour=blue", "colour=green", "colour=red", "city", "code")
    x = encoding.encode(table)
    assert x.dtype == np.float32
    ages = np.array([31, 45, 52, 29, 41])
    np.testing.assert_allclose(x[[0, 2, 3, 4, 5], 0], (ages - ages.mean()) / ages.std(), rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(x[3]), [False, False, True, True, True, True, False, False])
    np.testing.assert_allclose(np.nanmean(x, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanvar(x[:, 3:6], axis=0).mean(), 1, rtol=1e-6)


def test_the_completed_csv_has_every_observed_cell_as_it_stood(csv_file, tmp_path):
    table = read_table(csv_file)
    encoding = Encoding.fit(table)
    x = np.nan_to_num(encoding.encode(table))
    completed = encoding.decode(x, table)
    assert completed.dtypes.equals(table.frame.dtypes)
    assert completed.notna().all(axis=None)
    for name in table.frame:
        seen = table.frame[name].notna()
        assert completed[name][seen].equals(table.frame[name][seen])
    table.write(tmp_path / "done.csv", completed)
    lines = (tmp_path / "done.csv").read_text().splitlines()
    assert lines[0] == "age,weight,smoker,colour,city,code"
    assert lines[1] == "31,70.10,True,red,Oslo,007"
    assert lines[2] == "40,81.25,False,green,Bergen,010"
    weight = float(lines[3].split(",")[1])
    np.testing.assert_allclose(weight, np.mean([70.1, 81.25, 64, 90.5, 77.7]), rtol=1e-6)
    table.write(tmp_path / "same.csv")
    assert (tmp_path / "same.csv").read_text().splitlines()[1:3] == CSV.splitlines()[1:3]
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ValueError, match="completed: got 5 rows"):
        table.write(tmp_path / "done.csv", completed.iloc[:5])


def test_parquet_keeps_types_and_values(csv_file, tmp_path):
    table = read_table(csv_file)
    table.write(tmp_path / "a.parquet")
    again = read_table(tmp_path / "a.parquet")
    assert again.columns == table.columns
    pd.testing.assert_frame_equal(again.frame, table.frame)


def test_compressed_and_tab_separated_tables(csv_file, tmp_path):
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(CSV)
    (tmp_path / "a.tsv").write_text(CSV.replace(",", "\t"))
    for name in ("a.csv.gz", "a.tsv"):
        pd.testing.assert_frame_equal(read_table(tmp_path / name).frame, read_table(csv_file).frame)
    (tmp_path / "one.csv").write_text("a\n1\n\n3\n")
    with pytest.raises(ValueError, match="the first is row 2"):
        read_table(tmp_path / "one.csv")


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(-1e6, 1e6, allow_subnormal=False),
            st.none() | st.integers(-1000, 1000),
            st.none() | st.sampled_from("abcd"),
            st.none() | st.booleans(),
        ).filter(any),
        min_size=6,
        max_size=20,
    )
)
@settings(max_examples=60)
def test_encode_then_decode_is_the_identity(rows):
    fixed = [(0.5, 1, "a", True), (1.5, 2, "b", False), (2.5, 3, "c", True), (-1.0, 9, "a", False)]
    frame = pd.DataFrame([*fixed, *rows] + fixed * 8, columns=list("rikb"))
    frame = frame.astype({"r": "Float64", "i": "Int64", "k": "string", "b": "boolean"})
    table = Table.from_frame(frame)
    encoding = Encoding.from_dict(json.loads(json.dumps(Encoding.fit(table).to_dict())))
    x = encoding.encode(table)
    np.testing.assert_array_equal(~np.isnan(x[:, [0, 1, 2, -1]]), table.observed)
    pd.testing.assert_frame_equal(encoding.decode(np.nan_to_num(x), table).where(table.observed), frame)
    fresh = encoding.decode(np.nan_to_num(x))
    assert fresh.dtypes.equals(frame.dtypes)
    for name in ("i", "k", "b"):
        seen = frame[name].notna()
        assert fresh[name][seen].equals(frame[name][seen])


def test_plain_pandas_types_come_back(csv_file):
    frame = pd.DataFrame(
        {
            "small": np.array([1, 2, 3, 250], np.uint8),
            "level": pd.Categorical(["low", "high", None, "mid"], categories=["low", "mid", "high"], ordered=True),
            "f": np.array([1, 2, np.nan, 3], np.float32),
            "text": ["x", "y", "y", None],
        },
        index=[10, 20, 30, 40],
    )
    table = Table.from_frame(frame)
    assert table.columns[1].levels == ("low", "mid", "high")
    encoding = Encoding.fit(table)
    completed = encoding.decode(np.nan_to_num(encoding.encode(table)), table)
    assert completed.dtypes.equals(frame.dtypes)
    assert completed.index.equals(frame.index)
    far = encoding.decode(np.full((1, 6), 1e6))
    assert far["small"].item() == 255


def test_complete_fills_and_says_how_sure():
    frame = pd.DataFrame(
        {"r": [0.0, 2.0, None, 4.0] * 5, "i": [1, None, 3, 5] * 5, "k": ["a", "b", "c", None] * 5}
    ).astype({"i": "Int64"})
    table = Table.from_frame(frame)
    encoding = Encoding.fit(table)
    rng = np.random.default_rng(0)
    draws = np.repeat(np.nan_to_num(encoding.encode(table))[None], 400, axis=0).astype(np.float64)
    where = encoding.slices
    draws[:, 2, where["r"]] = (rng.normal(10, 2, (400, 1)) - encoding.mean[0]) / encoding.scale[0]
    draws[:, 1, where["i"]] = (rng.normal(7.2, 0.1, (400, 1)) - encoding.mean[1]) / encoding.scale[1]
    levels = rng.choice(3, size=400, p=[0.2, 0.7, 0.1])
    draws[:, 3, where["k"]] = np.eye(3)[levels] * 3
    completed, cells = encoding.complete(draws.reshape(4, 100, 20, -1), table, prob=0.9)
    assert completed.notna().all(axis=None)
    assert list(cells.columns) == ["row", "column", "value", "lower", "upper", "probability"]
    assert len(cells) == 15
    first = {cell["column"]: cell for cell in cells.to_dict("records") if cell["row"] in (1, 2, 3)}
    assert abs(first["r"]["value"] - 10) < BOUND * 2 / 20
    np.testing.assert_allclose([first["r"]["lower"], first["r"]["upper"]], [10 - 3.29, 10 + 3.29], atol=0.9)
    assert (first["i"]["value"], completed["i"][1]) == (7, 7)
    assert (first["i"]["lower"], first["i"]["upper"]) == (7, 7)
    assert (first["k"]["value"], first["k"]["probability"]) == ("b", pytest.approx((levels == 1).mean()))
    assert pd.isna(first["k"]["lower"])
    assert pd.isna(first["r"]["probability"])
    with pytest.raises(ValueError, match=r"draws: got 10 for an interval of probability 0.9; expected at least 19"):
        encoding.complete(draws[:10], table)
    with pytest.raises(ValueError, match=r"probability 1.5; expected a probability in \(0, 1\)"):
        encoding.complete(draws, table, prob=1.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file"),
        ("\n\n", "got an empty file"),
        ("a,b\n", "got a header and no rows"),
        ("a,b\n1,2\n3\n", "line 3: got 1 cells; expected 2"),
        ("a,b\n1,2\n\n3,4,5\n", "line 4: got 3 cells; expected 2"),
        ('a,b\n"1\n",2\n3,4,5\n', "line 4: got 3 cells"),
        ("a,a\n1,2\n", r"column names \['a'\] twice"),
        ("a,b\n1,2\n,\n3,4\n", "1 rows without any observed cell, the first is row 2"),
        ("a,b\n1,\n3,NA\n", "column 'b': got no observed cell"),
        ("a,b\n1,2\n3,inf\n", "column 'b': got 1 infinite values, the first in row 2"),
        ("a,b\n" + "".join(f"{i},n{i}\n" for i in range(20)), "column 'b': got 20 different values in 20 cells"),
        ("a,b\n" + "".join(f"{i},n{i % 60}\n" for i in range(240)), "column 'b': got 60 different values"),
    ],
)
def test_bad_csv_files_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(path)


def test_bad_paths_and_columns_are_refused(tmp_path, csv_file):
    with pytest.raises(FileNotFoundError, match=r"nothing.csv.*there is no such file"):
        read_table(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match=r"expected an ending .csv"):
        read_table(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match=r"drop: got the unknown columns \['height'\]"):
        read_table(csv_file, drop=["height"])
    with pytest.raises(ValueError, match=r"categorical: got the unknown columns \['height'\]"):
        read_table(csv_file, categorical=["height"])
    with pytest.raises(ValueError, match=r"drop: got 'age'; expected a list of column names. Write \['age'\]"):
        read_table(csv_file, drop="age")
    (tmp_path / "latin.csv").write_bytes("a,b\n1,é\n".encode("latin-1"))
    with pytest.raises(ValueError, match="bytes that are not UTF-8"):
        read_table(tmp_path / "latin.csv")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.date_range("2020-01-01", periods=4), "column 'b': got the type datetime64"),
        (np.arange(4) * 1j, "column 'b': got the type complex"),
        (pd.Series([[1], [2], [1], [2]]), "column 'b': got Python objects"),
        (pd.Series(["a", 1, "a", 1], dtype=object), "column 'b': got Python objects"),
        (pd.Series([1, 2, None, 1], dtype=object), "column 'b': got Python objects"),
    ],
)
def test_columns_that_cannot_be_modelled_are_refused(column, message):
    with pytest.raises(ValueError, match=message):
        Table.from_frame(pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": column}))


def test_frames_without_rows_or_with_double_names_are_refused():
    with pytest.raises(ValueError, match="table: got 0 rows and 1 columns"):
        Table.from_frame(pd.DataFrame({"a": pd.Series([], dtype=float)}))
    with pytest.raises(ValueError, match=r"table: got the column names \['a'\] twice"):
        Table.from_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    empty = pd.DataFrame({"a": [1.0, None], "b": [None, None]}).astype(float)
    assert len(Table.from_frame(empty, drop=["b"], empty_rows=True).frame) == 2


def test_an_encoding_refuses_what_it_was_not_fitted_for(csv_file):
    table = read_table(csv_file)
    encoding = Encoding.fit(table)
    with pytest.raises(ValueError, match=r"column 'weight': got the same value, 70.1, in all 1 observed cells"):
        Encoding.fit(table, np.array([0, 2]))
    with pytest.raises(ValueError, match="column 'smoker': got no observed cell"):
        Encoding.fit(Table.from_frame(table.frame[["smoker", "weight"]]), np.array([3]))
    with pytest.raises(ValueError, match=r"expected also \['age'\]"):
        encoding.encode(table.frame.drop(columns="age"))
    with pytest.raises(ValueError, match="column 'city': got the unknown level 'Voss'"):
        encoding.encode(table.frame.replace({"city": {"Oslo": "Voss"}}))
    with pytest.raises(ValueError, match="column 'age': got the type str"):
        encoding.encode(table.frame.assign(age=["a"] * 6))
    with pytest.raises(ValueError, match=r"x: got shape \(6, 7\); expected \(6, 8\)"):
        encoding.decode(np.zeros((6, 7)), table)
    with pytest.raises(ValueError, match="x: got 1 values that are NaN or infinite"):
        encoding.decode(np.array([[0, 0, 0, 0, 0, 0, 0, np.nan]]))
    fields = encoding.to_dict()
    with pytest.raises(ValueError, match="encoding: got fields that cannot be read"):
        Encoding.from_dict({"columns": fields["columns"]})
    with pytest.raises(ValueError, match=r"encoding: got \(7,\) means and \(8,\) scales; expected 8"):
        Encoding.from_dict(fields | {"mean": fields["mean"][1:]})


# Missingness

RATES = (0.1, 0.5, 0.7)
MECHANISMS = {"mcar": mcar, "mar": lambda x, rate, seed: mar(x, rate, seed=seed, drivers=[0]), "mnar": mnar}


def normals(n=20_000, d=4, seed=11):
    return np.random.default_rng(seed).standard_normal((n, d))


def dependence(observed, value):
    """z of the correlation between being hidden and a value; standard normal where they are independent."""
    return float(np.corrcoef(~observed, value)[0, 1] * np.sqrt(len(value)))


def rate_error(x, observed, rate, columns):
    hidden = (~observed[:, columns]).mean(1)
    return float((hidden.mean() - rate) / (hidden.std() / np.sqrt(len(x))))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", MECHANISMS)
def test_the_rate_holds_and_no_row_is_emptied(name, rate):
    x = normals()
    observed = MECHANISMS[name](x, rate, seed=0)
    columns = [1, 2, 3] if name == "mar" else [0, 1, 2, 3]
    assert observed.dtype == bool
    assert observed.any(1).all()
    assert abs(rate_error(x, observed, rate, columns)) < BOUND
    again = MECHANISMS[name](x, rate, seed=0)
    np.testing.assert_array_equal(observed, again)
    assert not np.array_equal(observed, MECHANISMS[name](x, rate, seed=1))


def test_the_rate_test_sees_a_row_refilled_after_the_draw():
    x = normals()
    observed = mcar(x, 0.7, seed=0, empty_rows=True)
    assert not observed.any(1).all()
    assert abs(rate_error(x, observed, 0.7, [0, 1, 2, 3])) < BOUND
    observed[~observed.any(1), 0] = True
    assert abs(rate_error(x, observed, 0.7, [0, 1, 2, 3])) > BOUND


def test_each_mechanism_depends_on_what_it_should_and_on_nothing_else():
    x = normals()
    masks = {name: mechanism(x, 0.4, seed=5) for name, mechanism in MECHANISMS.items()}
    on_driver = {name: abs(dependence(mask[:, 2], x[:, 0])) for name, mask in masks.items()}
    on_itself = {name: abs(dependence(mask[:, 2], x[:, 2])) for name, mask in masks.items()}
    assert on_driver["mcar"] < BOUND < 20 < on_driver["mar"]
    assert on_itself["mcar"] < BOUND
    assert on_itself["mar"] < BOUND
    assert on_itself["mnar"] > 20
    assert masks["mar"][:, 0].all()
    assert dependence(mnar(x, 0.4, seed=5, strength=-2.0)[:, 2], x[:, 2]) < -20


def test_mcar_given_that_a_row_keeps_a_cell_is_drawn_exactly():
    """The 7 patterns of 3 cells have probabilities p^k (1-p)^(3-k) / (1 - p³); the p-value's failure rate is 1e-6."""
    x = np.zeros((40_000, 3))
    observed = mcar(x, 0.6, seed=2)
    grid = np.linspace(0.5, 0.999, 200_001)
    p = grid[np.argmin(np.abs((grid - grid**3) / (1 - grid**3) - 0.6))]
    codes = np.arange(1, 8)
    kept = np.array([bin(code).count("1") for code in codes])
    expected = p ** (3 - kept) * (1 - p) ** kept / (1 - p**3) * len(x)

    def p_value(mask):
        counts = np.bincount(mask @ [1, 2, 4], minlength=8)[1:]
        return chisquare(counts, expected * counts.sum() / expected.sum()).pvalue

    assert p_value(observed) > 1e-6
    refilled = mcar(x, float(p), seed=2, empty_rows=True)
    empty = np.flatnonzero(~refilled.any(1))
    refilled[empty, np.random.default_rng(0).integers(3, size=len(empty))] = True
    assert p_value(refilled) < 1e-6


def test_steep_mechanisms_and_rates_near_the_limit_still_hold():
    x = normals(4000)
    for mechanism in (mcar, mnar):
        near = mechanism(x, np.nextafter(0.75, 0), seed=0)
        assert (near.sum(1) == 1).all()
    steep = mnar(x, 0.7, seed=0, strength=50.0)
    assert steep.any(1).all()
    assert abs(rate_error(x, steep, 0.7, [0, 1, 2, 3])) < BOUND
    assert x[~steep].min() > np.quantile(x, 0.05)


def test_cells_missing_already_stay_missing_and_do_not_count():
    x = normals(8000)
    x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    x[0] = np.nan
    for name in ("mcar", "mnar"):
        observed = MECHANISMS[name](x, 0.4, seed=1)
        assert not (observed & np.isnan(x)).any()
        share = 1 - observed[~np.isnan(x)].mean()
        assert abs(share - 0.4) < BOUND * 0.5 / np.sqrt((~np.isnan(x)).sum())
        assert observed[1:][(~np.isnan(x[1:])).any(1)].any(1).all()


def test_a_mask_does_not_repeat_the_stream_of_its_data():
    x = np.random.default_rng(0).random((5000, 3))
    assert abs(dependence(mcar(x, 0.5, seed=0)[:, 1], x[:, 1])) < BOUND
    plain = np.random.default_rng(0).random((5000, 3)) >= 0.5
    assert abs(dependence(plain[:, 1], x[:, 1])) > BOUND


def test_a_generator_is_used_up():
    rng = np.random.default_rng(0)
    assert not np.array_equal(mcar(normals(50), 0.5, seed=rng), mcar(normals(50), 0.5, seed=rng))


def test_hide_leaves_observed_entries_alone():
    x = np.random.default_rng(0).random((50, 6), dtype=np.float32)
    observed = mcar(x, 0.5, seed=0)
    hidden = hide(x, observed)
    assert hidden.dtype == np.float32
    np.testing.assert_array_equal(hidden[observed].view(np.uint32), x[observed].view(np.uint32))
    assert np.isnan(hidden[~observed]).all()
    assert hide(np.ones((2, 2), int), np.ones((2, 2), bool)).dtype == np.float64
    with pytest.raises(ValueError, match="observed: got dtype bool, shape"):
        hide(x, observed[:, :2])


def test_image_masks():
    x = np.zeros((300, 3, 7, 6), np.float32)
    masks = {"pixels": pixels(x, 0.5, seed=0), "block": block(x, (3, 4), seed=0), "half": half(x, "right")}
    for observed in masks.values():
        assert observed.shape == x.shape
        assert (observed == observed[:, :1]).all()
    assert ((~masks["pixels"][:, 0]).sum((1, 2)) == 21).all()
    share = masks["pixels"][:, 0].mean(0)
    assert np.abs(share - 0.5).max() < BOUND * 0.5 / np.sqrt(300)
    hidden = ~masks["block"][:, 0]
    assert (hidden.sum((1, 2)) == 12).all()
    assert (hidden.any(2).sum(1) == 3).all()
    tops = np.bincount(hidden.any(2).argmax(1), minlength=5)
    assert chisquare(tops).pvalue > 1e-5
    assert half(x, "left")[0, 0, 0].tolist() == [False] * 3 + [True] * 3
    assert masks["half"][0, 0, 0].tolist() == [True] * 3 + [False] * 3
    assert half(x, "top")[0, 0, :, 0].tolist() == [False] * 3 + [True] * 4
    assert half(x, "bottom")[0, 0, :, 0].tolist() == [True] * 4 + [False] * 3


def test_masks_refuse_what_cannot_be():
    x = normals(20)
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"rate: got .* a share in \[0, 1\)"):
            mcar(x, rate, seed=0)
    with pytest.raises(ValueError, match=r"rate: got 0.8; expected below 0.75, the share that leaves every row one"):
        mcar(x, 0.8, seed=0)
    for strength in (0.0, -60.0, float("nan")):
        with pytest.raises(ValueError, match=r"strength: got .* a slope of size above 0"):
            mnar(x, 0.5, seed=0, strength=strength)
    with pytest.raises(ValueError, match=r"drivers: got \[7\]; expected some, not all"):
        mar(x, 0.5, seed=0, drivers=[7])
    with pytest.raises(ValueError, match=r"drivers: got .*; expected some, not all"):
        mar(x, 0.5, seed=0, drivers=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="x: got no column that is complete and not constant"):
        mar(np.ones((9, 2)), 0.5, seed=0)
    with pytest.raises(ValueError, match=r"x: got shape \(20, 2, 2\)"):
        mar(x.reshape(20, 2, 2), 0.5, seed=0)
    with pytest.raises(ValueError, match="with infinite values; expected finite numbers"):
        mcar(np.full((2, 2), np.inf), 0.5, seed=0)
    with pytest.raises(ValueError, match="x: got dtype <U1"):
        mcar(np.array([["a"]]), 0.5, seed=0)
    with pytest.raises(ValueError, match="expected images"):
        pixels(x, 0.5, seed=0)
    with pytest.raises(ValueError, match=r"size: got \(8, 8\)"):
        block(np.zeros((1, 1, 8, 8)), (8, 8), seed=0)
    with pytest.raises(ValueError, match="side: got 'up'"):
        half(np.zeros((1, 1, 8, 8)), "up")
