"""Tables as files: columns that are put aside, how cells are separated, categories in an order."""

import numpy as np
import pandas as pd
import pytest

from deepgen.data import Encoding, Table, column_kinds, read_table

STAGES = ("low", "mid", "high")
ANIMALS = "name,sleep,diet,genus,stage\n" + "".join(
    f"n{i:02d},{'' if i == 3 else f'{i / 4:.2f}'},{'' if i == 5 else 'abc'[i % 3]},g{i},{STAGES[i % 3]}\n"
    for i in range(24)
)


@pytest.fixture
def animals(tmp_path):
    path = tmp_path / "animals.csv"
    path.write_text(ANIMALS)
    return path


def completed(table):
    encoding = Encoding.fit(table)
    return encoding.decode(np.nan_to_num(encoding.encode(table)), table)


def test_columns_left_out_stand_where_they_stood(animals, tmp_path):
    table = read_table(animals, drop=["genus", "name"])
    assert list(table.frame) == ["sleep", "diet", "stage"]
    table.write(tmp_path / "out.csv", completed(table))
    before, after = (path.read_text().splitlines() for path in (animals, tmp_path / "out.csv"))
    assert after[0] == before[0]
    assert [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if one != other] == [4, 6]
    assert after[4].startswith("n03,2.9")
    assert after[4].endswith(",a,g3,low")
    table.write(tmp_path / "out.parquet", completed(table))
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert list(found) == before[0].split(",")
    assert found["name"].tolist() == [f"n{i:02d}" for i in range(24)]
    again = read_table(tmp_path / "out.parquet", drop=["name", "genus"])
    again.write(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text().splitlines()[1] == "n00,0.0,a,g0,low"


def test_all_columns_that_cannot_be_modelled_are_named_at_once(animals, tmp_path):
    with pytest.raises(ValueError, match=r"columns \['name', 'genus'\]: got 'name': 24 different values .*'genus': 24"):
        read_table(animals)
    with pytest.raises(ValueError, match=r"Leave them out: drop=\['name', 'genus'\]\.$"):
        read_table(animals)
    frame = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=4), "none": [None] * 4, "a": [1.0, 2, 3, 4]})
    with pytest.raises(ValueError, match=r"days since a first day. Or leave them out: drop=\['day', 'none'\]"):
        Table.from_frame(frame)
    same = pd.DataFrame({"one": [1.0] * 4, "a": [1.0, 2, 3, 4], "two": ["x"] * 4})
    with pytest.raises(ValueError, match=r"columns \['one', 'two'\]: got 'one': the same value, 1.0"):
        Encoding.fit(Table.from_frame(same))


@pytest.mark.parametrize("name", ["UP.TSV", "up.Tsv", "up.CSV.GZ", "up.TSV.GZ", "up.Csv"])
def test_endings_of_any_case(name, animals, tmp_path):
    table = read_table(animals, drop=["name", "genus"])
    table.write(tmp_path / name)
    pd.testing.assert_frame_equal(read_table(tmp_path / name, drop=["name", "genus"]).frame, table.frame)
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.lower().endswith("gz")
    if not name.lower().endswith("gz"):
        header = (tmp_path / name).read_text().partition("\n")[0]
        assert header == ("\t" if "tsv" in name.lower() else ",").join(ANIMALS.partition("\n")[0].split(","))


def test_decimal_commas_are_read_and_written(animals, tmp_path):
    usual = read_table(animals, drop=["name", "genus"])
    path = tmp_path / "eu.csv"
    path.write_text(ANIMALS.replace(",", ";").replace(".", ","))
    table = read_table(path, drop=["name", "genus"], separator=";", decimal=",")
    pd.testing.assert_frame_equal(table.frame, usual.frame)
    table.write(tmp_path / "out.csv", completed(table))
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[1] == "n00;0,00;a;g0;low"
    assert lines[4].startswith("n03;2,9")
    again = read_table(tmp_path / "out.csv", drop=["name", "genus"], separator=";", decimal=",")
    pd.testing.assert_frame_equal(again.frame, completed(usual))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "a;b\n1;2\n",
            r"a single column named 'a;b'; expected ',' between .*here it is ';'. Set separator=';'\.",
        ),
        ("a.csv", "a;b\n1,5;2,5\n", r"numbers have decimal commas. Set separator=';' and decimal=','\.$"),
        ("a.csv", "a\tb\n1\t2\n", r"here it is '\\t'. Set separator='\\t'\."),
        ("a.tsv", "a,b\n1,2\n", r"expected '\\t' between its cells; here it is ','. Set separator=','\."),
    ],
)
def test_other_separators_are_recognised(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name)


def test_what_cannot_separate_is_refused(animals):
    for separator in ("", ";;", '"', "\n"):
        with pytest.raises(ValueError, match=r"separator: got .*; expected one character"):
            read_table(animals, separator=separator)
    for decimal, separator in (("x", None), (",", ","), (".", ".")):
        with pytest.raises(ValueError, match=r"decimal: got .*; expected '\.' or ','"):
            read_table(animals, decimal=decimal, separator=separator)


def test_categories_in_an_order(animals, tmp_path):
    drop = ["name", "genus"]
    found = read_table(animals, drop=drop, ordinal=["stage"])
    assert (found.columns[2].levels, found.columns[2].ordered) == (("low", "mid", "high"), True)
    assert column_kinds(found)[2] == ("ordinal", 3)
    assert column_kinds(read_table(animals, drop=drop))[2] == ("categorical", 3)
    given = read_table(animals, drop=drop, ordinal={"stage": ["high", "mid", "low", "none"]})
    assert given.columns[2].levels == ("high", "mid", "low")
    assert Encoding.fit(given, style="codes").encode(given)[:3, 2].tolist() == [2, 1, 0]
    with pytest.raises(
        ValueError, match=r"ordinal: column 'stage': got the order .*; expected also a place for \['mid'\]"
    ):
        read_table(animals, drop=drop, ordinal={"stage": ["low", "high"]})
    with pytest.raises(ValueError, match=r"ordinal: got the unknown columns \['stag'\]"):
        read_table(animals, drop=drop, ordinal=["stag"])
    with pytest.raises(ValueError, match=r"categorical: got \['stage'\], which ordinal names too"):
        read_table(animals, drop=drop, ordinal=["stage"], categorical=["stage"])


def test_an_order_of_numbers_may_be_written_as_text():
    frame = pd.DataFrame({"grade": [10, 9, 1, 2] * 6, "half": [0.5, 1.0, 1.5, 1.0] * 6})
    found = Table.from_frame(frame, ordinal=["grade"])
    assert found.columns[0].levels == (1, 2, 9, 10)
    given = Table.from_frame(frame, ordinal={"grade": ["10", "9", "2", "1"], "half": ["1.5", "1", "0.5"]})
    assert [column.levels for column in given.columns] == [(10, 9, 2, 1), (1.5, 1.0, 0.5)]


def test_whole_numbers_written_as_codes_are_categories(tmp_path):
    path = tmp_path / "codes.csv"
    cells = [f"{code},{int(code)},{i:02d},{i:03d}" for i, code in enumerate(["00000", "02208", "11300"] * 4)]
    path.write_text("\n".join(["lesion,number,hour,row", *cells, "?,4,,"]) + "\n")
    table = read_table(path)
    # not where zeros are not written, where there are two digits, or where nothing recurs
    kinds = {column.name: column.kind for column in table.columns}
    assert kinds == {"lesion": "categorical", "number": "integer", "hour": "integer", "row": "integer"}
    assert table.columns[0].levels == ("00000", "02208", "11300")
    frame = table.frame.fillna({"lesion": "02208", "hour": 3, "row": 12})
    table.write(tmp_path / "out.csv", frame)
    assert (tmp_path / "out.csv").read_text().splitlines() == ["lesion,number,hour,row", *cells, "02208,4,3,12"]
    (tmp_path / "few.csv").write_text("lesion,number\n02208,1\n11300,2\n")
    encoding = Encoding.fit(Table.from_frame(table.frame[["lesion", "number"]]), style="codes")
    few = read_table(tmp_path / "few.csv", as_text=["lesion"])
    assert encoding.decode(encoding.encode(few), few)["lesion"].tolist() == ["02208", "11300"]
    with pytest.raises(ValueError, match="as_text: got the unknown columns"):
        read_table(tmp_path / "few.csv", as_text=["lesions"])
