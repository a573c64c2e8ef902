"""Names that are legal in the IR and would clash in C are refused with both names."""

from __future__ import annotations

import pytest

from edgec.errors import UnsupportedError
from edgec.ir.text import parse_program
from edgec.targets.native import Native

FUNCTION = """
func @{function}(%{a}: f32[{n}], %{b}: f32[{n}]) dims({n}: 1..4, other: 1..4) {{
  %s: f32[{n}] = add(%{a}, %{b})
  %t: f32[{n}] = mul(%{a}, %{b})
  return %s as {s}, %t as {t}
}}"""
PLAIN = {"function": "main", "a": "a", "b": "b", "s": "s", "t": "t", "n": "n"}


@pytest.mark.parametrize("name", ["create", "destroy", "model"])
def test_functions_called_like_those_of_every_model(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"'{name}' and the model's own {name}"):
        legalize(FUNCTION.format(**PLAIN | {"function": name}))


@pytest.mark.parametrize("first, second", [("a", "b"), ("s", "t")])
def test_inputs_and_outputs(first: str, second: str) -> None:
    with pytest.raises(UnsupportedError, match=r"main.*'x_y' and 'x\.y'.*both called x_y"):
        legalize(FUNCTION.format(**PLAIN | {first: "x.y", second: "x_y"}))


def test_functions() -> None:
    text = "".join(FUNCTION.format(**PLAIN | {"function": f}) for f in ("f.g", "f_g"))
    with pytest.raises(UnsupportedError, match=r"'f_g' and 'f\.g'"):
        legalize(text)


def test_keywords_and_names_of_the_generated_source_are_no_clash() -> None:
    names = {"function": "int", "a": "self", "b": "dims", "s": "self", "t": "arena", "n": "int"}
    legalize(FUNCTION.format(**PLAIN | names))


@pytest.mark.parametrize("name", ["edgec", "edgec_model", "run", "a-b", "1a", ""])
def test_file_names(name: str) -> None:
    with pytest.raises(UnsupportedError, match="file_name"):
        Native(file_name=name)


def legalize(text: str) -> None:
    Native().legalize(parse_program(text).verify())
