"""Sizes that functions are validated at."""

from __future__ import annotations

import pytest

from edgec.errors import ValidationError
from edgec.ir import Builder, DType, Graph, Range, TensorType, symbol
from edgec.validate.settings import EVIDENCE, fits, settings, state_dims
from tests.programs import classifier, decoder, embedder


def by_label(graph: Graph, given: dict[str, int] | None = None) -> dict[str, dict[str, int]]:
    return {s.label: dict(s.env) for s in settings(graph, given)}


def test_the_ends_of_the_ranges_are_tried() -> None:
    found = by_label(embedder().main)
    assert found["smallest"] == {"batch": 1, "length": 1}
    assert found["largest"] == {"batch": 8, "length": 32}
    assert found["odd"] == {"batch": 3, "length": 7}


def test_states_start_empty() -> None:
    step = decoder().graphs["step"]
    assert state_dims(step) == {"past"}
    assert by_label(step)["smallest"] == {"batch": 1, "length": 1, "past": 0}


def test_given_sizes_are_typical() -> None:
    assert by_label(embedder().main, {"length": 9})["typical"] == {"batch": 2, "length": 9}


def test_given_sizes_outside_of_the_range_are_refused() -> None:
    with pytest.raises(ValidationError, match="length = 99, need 1 <= length <= 32"):
        settings(embedder().main, {"length": 99})


def test_what_is_too_big_together_is_tried_one_by_one_and_said_to_be_reduced() -> None:
    a, c = symbol("a"), symbol("c")
    sizes = {"a": Range(1, 2**31 - 1), "c": Range(1, 100)}
    b = Builder.new("main", [("x", TensorType(DType.F32, (a, c, 2000)))], {}, sizes)
    graph = b.finish([b.relu(b.input("x"))], ["y"])
    largest = {s.label: s for s in settings(graph) if s.label.startswith("largest")}
    assert set(largest) == {"largest a", "largest c"}
    assert largest["largest c"].env == {"a": 1, "c": 100}
    assert not largest["largest c"].reduced
    assert largest["largest a"].reduced
    assert all(fits(graph, s.env) for s in largest.values())
    assert 2 * 2000 * largest["largest a"].env["a"] * 2 > EVIDENCE, "no smaller than it has to be"


def test_equal_settings_are_tried_once_and_static_functions_have_one() -> None:
    b = Builder.new("main", [("x", TensorType(DType.F32, (2, 3)))])
    assert [s.label for s in settings(b.finish([b.relu(b.input("x"))], ["y"]))] == ["fixed"]
    envs = [tuple(s.env.values()) for s in settings(classifier().main)]
    assert len(envs) == len(set(envs))
