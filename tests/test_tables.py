"""Tables: read, refused, encoded, completed, and written back with every observed cell as it was."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgen.data import Encoding, Table, read_table

BOUND = 4.5

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
        table = read_table(tmp_path / name)
        pd.testing.assert_frame_equal(table.frame, read_table(csv_file).frame)
        table.write(tmp_path / f"my.copy.{name}")
        pd.testing.assert_frame_equal(read_table(tmp_path / f"my.copy.{name}").frame, table.frame)
    assert gzip.decompress((tmp_path / "my.copy.a.csv.gz").read_bytes()).startswith(b"age,weight")
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
    with pytest.raises(
        ValueError, match=r"'weight': the same value, 70.1, in all 1 observed cells; 'smoker': the same"
    ):
        Encoding.fit(table, np.array([0, 2]))
    with pytest.raises(ValueError, match="'smoker': no observed cell"):
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
