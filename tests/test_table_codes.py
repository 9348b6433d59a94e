"""Tables as codes: one number a column in its own units, there and back; and the laws that suit the columns."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgen.data import Encoding, Table, column_kinds

FRAME = pd.DataFrame(
    {
        "age": [31, None, 45, 52, 29, 41],
        "weight": [70.1, 81.25, None, 64.0, 90.5, 77.7],
        "smoker": [True, False, True, None, False, True],
        "colour": ["red", "green", "blue", None, "red", "green"],
        "city": ["Oslo", "Bergen", "Oslo", "Oslo", None, "Bergen"],
        "size": pd.Categorical(["low", "mid", "high", None, "low", "mid"], ["low", "mid", "high"], ordered=True),
    }
).astype({"age": "Int64", "smoker": "boolean", "colour": "string", "city": "string"})


def test_each_column_is_one_number_in_its_own_units() -> None:
    table = Table.from_frame(FRAME)
    encoding = Encoding.fit(table, style="codes")
    assert encoding.names == tuple(FRAME.columns)
    assert encoding.slices == {name: slice(i, i + 1) for i, name in enumerate(FRAME.columns)}
    x = encoding.encode(table)
    nan = np.nan
    expected = [
        [31, 70.1, 1, 2, 1, 0],
        [nan, 81.25, 0, 1, 0, 1],
        [45, nan, 1, 0, 1, 2],
        [52, 64, nan, nan, 1, nan],
        [29, 90.5, 0, 2, nan, 0],
        [41, 77.7, 1, 1, 0, 1],
    ]
    np.testing.assert_array_equal(x, np.array(expected, dtype=np.float32))


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
    ),
    st.sampled_from(["codes", "indicators"]),
)
@settings(max_examples=40)
def test_encode_then_decode_is_the_identity_in_both_styles(rows, style) -> None:
    fixed = [(0.5, 1, "a", True), (1.5, 2, "b", False), (2.5, 3, "c", True), (-1.0, 9, "a", False)]
    frame = pd.DataFrame([*fixed, *rows] + fixed * 8, columns=list("rikb"))
    frame = frame.astype({"r": "Float64", "i": "Int64", "k": "string", "b": "boolean"})
    table = Table.from_frame(frame)
    encoding = Encoding.from_dict(json.loads(json.dumps(Encoding.fit(table, style=style).to_dict())))
    assert encoding.style == style
    x = np.nan_to_num(encoding.encode(table))
    pd.testing.assert_frame_equal(encoding.decode(x, table).where(table.observed), frame)
    fresh = encoding.decode(x)
    assert fresh.dtypes.equals(frame.dtypes)
    for name in ("i", "k", "b"):
        seen = frame[name].notna()
        assert fresh[name][seen].equals(frame[name][seen])
    again = encoding.encode(fresh)
    np.testing.assert_allclose(again[table.observed.all(1)], x[table.observed.all(1)], rtol=1e-6)


def test_draws_of_codes_are_completed() -> None:
    table = Table.from_frame(FRAME)
    encoding = Encoding.fit(table, style="codes")
    rng = np.random.default_rng(0)
    draws = np.repeat(np.nan_to_num(encoding.encode(table))[None], 200, axis=0)
    draws[:, 1, 0] = rng.poisson(40, 200)
    draws[:, 2, 1] = rng.normal(75, 2, 200)
    draws[:, 3, 3] = rng.choice(3, 200, p=[0.2, 0.7, 0.1])
    draws[:, 3, 5] = 2
    draws[:, 3, 2] = 1
    completed, cells = encoding.complete(draws, table)
    assert completed.notna().all(axis=None)
    assert completed.dtypes.equals(FRAME.dtypes)
    found = {(cell["row"], cell["column"]): cell for cell in cells.to_dict("records")}
    assert found[3, "colour"]["value"] == "green"
    assert found[3, "colour"]["probability"] == pytest.approx((draws[:, 3, 3] == 1).mean())
    assert (found[3, "size"]["value"], found[3, "size"]["probability"]) == ("high", 1.0)
    assert found[3, "smoker"]["value"] is True
    assert found[1, "age"]["value"] == round(draws[:, 1, 0].mean())
    assert found[2, "weight"]["value"] == pytest.approx(draws[:, 2, 1].astype(float).mean())
    assert found[2, "weight"]["lower"] < 75 < found[2, "weight"]["upper"]
    draws[:3, 2, 1] = 1e9
    by_median, _ = encoding.complete(draws, table, medians=["weight"])
    assert by_median["weight"][2] == pytest.approx(np.median(draws[:, 2, 1].astype(float)))
    assert encoding.complete(draws, table)[0]["weight"][2] > 1e6
    far = encoding.decode(np.array([[1e9, 0, 5, 99, -3, 7]]))
    assert far.iloc[0, 2:].tolist() == [True, "red", "Bergen", "high"]


def test_styles_are_checked() -> None:
    table = Table.from_frame(FRAME)
    with pytest.raises(ValueError, match=r"style: got 'dummies'; expected one of \['indicators', 'codes'\]"):
        Encoding.fit(table, style="dummies")
    with pytest.raises(ValueError, match="'smoker': the same value, True, in all 2 observed cells"):
        Encoding.fit(table, np.array([0, 2, 3]), style="codes")
    fields = Encoding.fit(table, style="codes").to_dict()
    with pytest.raises(ValueError, match=r"encoding: got \(6,\) means and \(6,\) scales; expected 10 of each"):
        Encoding.from_dict(fields | {"style": "indicators"})
    with pytest.raises(ValueError, match=r"encoding: style: got 'dummies'"):
        Encoding.from_dict(fields | {"style": "dummies"})
    old = Encoding.fit(table).to_dict()
    del old["style"]
    assert Encoding.from_dict(old).style == "indicators"


def kinds_of(**columns: object) -> list[tuple[str, int]]:
    return [tuple(kind) for kind in column_kinds(Table.from_frame(pd.DataFrame(columns)))]


def test_kinds_follow_types_and_values() -> None:
    rng = np.random.default_rng(1)
    n = 400
    found = kinds_of(
        normal=rng.normal(size=n),
        shifted=100 + rng.normal(size=n) ** 3,
        skewed=np.exp(rng.normal(size=n)),
        skewed_with_zeros=np.where(rng.random(n) < 0.1, 0, np.exp(rng.normal(size=n))),
        left=50 - np.exp(rng.normal(size=n)).clip(max=40),
        counts=rng.poisson(2, n),
        spread_counts=rng.poisson(rng.gamma(0.5, 4, n)).clip(max=50),
        grades=rng.choice([4, 5, 6, 7], n, p=[0.1, 0.4, 0.4, 0.1]),
        years=rng.integers(1950, 2020, n),
        money=np.exp(10 + rng.normal(size=n)).astype(int),
        below_zero=rng.integers(-3, 3, n),
        flag=rng.random(n) < 0.5,
        place=rng.choice(["a", "b", "c"], n),
        level=pd.Categorical(rng.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True),
        unordered=pd.Categorical(rng.choice(["x", "y"], n)),
    )
    names = ["real", "real", "positive", "real", "real", "count", "count", "real", "real", "positive", "real"]
    assert found[: len(names)] == [(name, 0) for name in names]
    assert found[len(names) :] == [("categorical", 2), ("categorical", 3), ("ordinal", 3), ("categorical", 2)]


def test_kinds_look_at_the_observed_cells_of_the_training_rows() -> None:
    rng = np.random.default_rng(2)
    x = np.exp(rng.normal(size=40))
    x[30:] = -1.0
    x[:5] = np.nan
    table = Table.from_frame(pd.DataFrame({"x": x, "y": np.arange(40.0)}))
    assert column_kinds(table)[0].kind == "real"
    assert column_kinds(table, np.arange(30))[0].kind == "positive"
    assert column_kinds(table, np.arange(5))[0].kind == "real"
    with pytest.raises(ValueError, match=r"column 'k': got the same value, 'a', in all observed cells.*drop=\['k'\]"):
        column_kinds(Table.from_frame(pd.DataFrame({"k": ["a", "a", None], "y": [1.0, 2.0, 3.0]})))


def test_kinds_are_laws_that_take_the_codes() -> None:
    from deepgen.likelihoods import laws
    from deepgen.pyro import likelihoods

    table = Table.from_frame(FRAME)
    x = Encoding.fit(table, style="codes").encode(table)
    law = likelihoods.Table.from_data(column_kinds(table), x)
    assert law.spec()["columns"][2:] == [["categorical", 2], ["categorical", 3], ["categorical", 2], ["ordinal", 3]]
    np.testing.assert_array_equal(laws.check_data(law, x, missing=True), x)
    # an order that the table does not say is not made up
    assert column_kinds(Table.from_frame(FRAME.astype({"size": "string"})))[-1].kind == "categorical"
