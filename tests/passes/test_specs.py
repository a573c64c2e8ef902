"""Passes as text: every pass of the table prints and parses, and mistakes are told by name."""

from __future__ import annotations

import dataclasses

import pytest

from edgec.errors import PassError
from edgec.passes import PASSES, parse_pass, parse_pipeline, pass_class
from edgec.passes.gptq import Gptq
from edgec.passes.quantize_weights import QuantizeWeights
from edgec.transform import Pass


@pytest.mark.parametrize("name", sorted(PASSES))
def test_every_pass_of_the_table_loads_prints_and_parses(name):
    cls = pass_class(name)
    assert issubclass(cls, Pass)
    assert cls.name == name
    assert cls.__doc__ and dataclasses.is_dataclass(cls)
    default = parse_pass(name)
    assert str(default) == name
    assert parse_pass(f"{name}{{}}") == default


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (QuantizeWeights(), "quantize-weights"),
        (QuantizeWeights(bits=4, group=32), "quantize-weights{bits=4,group=32}"),
        (QuantizeWeights(symmetric=False), "quantize-weights{symmetric=False}"),
        (QuantizeWeights(scales="absmax"), "quantize-weights{scales=absmax}"),
        (QuantizeWeights(embedding_group=0), "quantize-weights{embedding_group=0}"),
        (
            QuantizeWeights(skip=("lm_head", "*.norm?", "None")),
            "quantize-weights{skip=[lm_head,'*.norm?','None']}",
        ),
    ],
)
def test_options_print_and_parse(made, text):
    assert str(made) == text
    assert parse_pass(text) == made
    assert parse_pass(text.replace(",", " , ").replace("{", " { ")) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantise-weights", "did you mean quantize-weights?"),
        ("nothing-like-it", "need one of .*quantize-weights"),
        ("quantize-weights{bit=4}", r"unknown bit \(known: include.*did you mean bits\?"),
        ("quantize-weights{bits=four}", "bits=four, need int"),
        ("quantize-weights{bits=4.0}", "bits=4.0, need int"),
        ("quantize-weights{bits=True}", "bits=True, need int"),
        ("quantize-weights{4}", "positional value 4"),
        ("quantize-weights{bits=4,bits=5}", "bits given twice"),
        ("quantize-weights{bits=4)+f(bits=4}", "key=value"),
        ("quantize-weights{bits=4)(bits=4}", "key=value"),
        ("quantize-weights{**{}}", "unknown None"),
        ("quantize-weights{bits=\0}", "key=value"),
        ("quantize-weights{bits=" + "(" * 9999 + "4}", "key=value"),
        ("quantize-weights{scales=best}", "scales=best, need mse or absmax"),
        ("quantize-weights{skip=[1]}", "skip="),
        ("quantize-weights{bits=4", "name{option=value"),
        ("quantize-weights{bits=}", "key=value"),
        ("", "name{option=value"),
        ("quantize-weights{bits=1,group=-1}", "bits=1, need 2 <= bits <= 8; group=-1"),
        ("quantize-weights{bits=4,activations=dynamic}", "need bits=8"),
        ("cast-weights{dtype=f8}", "dtype=f8, need f16 or bf16"),
        ("quantize-weights{bits=__import__('os')}", "need int"),
    ],
)
def test_mistakes_are_told(text, message):
    with pytest.raises(PassError, match=message):
        parse_pass(text)


def test_all_mistakes_of_a_pipeline_are_told_at_once():
    with pytest.raises(PassError) as caught:
        parse_pipeline(["quantize-weight", "cast-weights{type=f16}", "cast-weights"])
    assert "quantize-weight;" in str(caught.value)
    assert "unknown type" in str(caught.value)


def test_pipelines_take_texts_and_objects():
    made = QuantizeWeights(bits=4)
    assert parse_pipeline([made, "cast-weights"]).passes == (made, parse_pass("cast-weights"))


@pytest.mark.parametrize("given", ["gptq", None, 3, [3], [None], [type]])
def test_what_is_no_list_of_passes(given: object) -> None:
    with pytest.raises(PassError, match="need a list of passes"):
        parse_pipeline(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Gptq(order="x"), "order=x, need activation or natural"),  # type: ignore[arg-type]
        (Gptq(bits=4.0), "bits=4.0, need int"),  # type: ignore[arg-type]
        (QuantizeWeights(scales="best"), "scales=best"),  # type: ignore[arg-type]
    ],
)
def test_objects_are_held_to_the_types_of_their_options(made: Pass, message: str) -> None:
    with pytest.raises(PassError, match=message):
        parse_pipeline([made])


def test_objects_stay_what_they_are() -> None:
    made = Gptq(bits=4, group=32, include=("a*",))
    assert parse_pipeline([made]).passes[0] is made
