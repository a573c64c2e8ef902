"""Typed records: every problem at once, by name, with the nearest known key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.errors import FormatError, RecipeError
from edgec.records import field_texts, finite, json_schema, plain, read


@dataclass(frozen=True)
class Inner:
    """A record inside.

    ratio   how much, in words that
            go on in a second line
    """

    ratio: float
    flag: bool = False


@dataclass(frozen=True)
class Outer:
    """A record."""

    name: str
    kind: Literal["one", "two"] = "one"
    size: int | str | None = None
    inner: tuple[Inner, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    anything: Any = None


def test_plain_data_is_read_into_nested_records() -> None:
    data = {"name": "a", "kind": "two", "inner": [{"ratio": 1}], "sizes": {"batch": 4}}
    assert read(Outer, data, "f") == Outer("a", "two", None, (Inner(1.0),), {"batch": 4})


def test_every_problem_is_listed_with_its_path() -> None:
    data = {
        "kind": "three",
        "szie": 1,
        "size": [1],
        "inner": [{"ratio": "much"}, {"ratio": 1.0, "falg": True}],
        "sizes": {"batch": True},
    }
    with pytest.raises(RecipeError) as caught:
        read(Outer, data, "recipe.toml", RecipeError)
    text = str(caught.value)
    assert text.startswith("[recipe.toml] ")
    for part in (
        "unknown key szie (did you mean size?)",
        "name is missing, need a text",
        "kind = 'three', need 'one' or 'two'",
        "size = [1], need a whole number or a text or nothing",
        "inner[0].ratio = 'much', need a number",
        "unknown key inner[1].falg (did you mean flag?)",
        "sizes.batch = True, need a whole number",
    ):
        assert part in text, part


def test_a_key_like_no_other_lists_the_known_ones() -> None:
    with pytest.raises(FormatError, match=r"unknown key inner\[0\]\.xyz \(known: flag, ratio\)"):
        read(Outer, {"name": "a", "inner": [{"ratio": 1.0, "xyz": 0}]}, "f")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_lacks_are_refused_both_ways(value: float) -> None:
    with pytest.raises(FormatError):
        read(Inner, {"ratio": value}, "f")
    with pytest.raises(ValueError, match="no JSON form"):
        plain(Inner(value))
    assert finite(value) is None


@given(
    st.builds(
        Outer,
        name=st.text(),
        kind=st.sampled_from(["one", "two"]),
        size=st.none() | st.integers() | st.text(),
        inner=st.lists(st.builds(Inner, st.floats(allow_nan=False, allow_infinity=False))).map(
            tuple
        ),
        sizes=st.dictionaries(st.text(), st.integers()),
    )
)
def test_records_survive_json(record: Outer) -> None:
    assert read(Outer, json.loads(json.dumps(plain(record))), "f") == record


def test_the_schema_says_what_read_accepts() -> None:
    schema = json_schema(Outer, "an example")
    outer = schema["$defs"]["Outer"]
    assert outer["required"] == ["name"]
    assert outer["additionalProperties"] is False
    assert outer["properties"]["kind"] == {"enum": ["one", "two"]}
    assert schema["$defs"]["Inner"]["properties"]["ratio"] == {
        "description": "how much, in words that go on in a second line",
        "type": "number",
    }


def test_texts_of_fields_come_from_the_docstring() -> None:
    assert field_texts(Inner) == {"ratio": "how much, in words that go on in a second line"}
