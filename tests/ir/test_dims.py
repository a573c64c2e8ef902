"""Dimensions: the arithmetic of Python's integers, and a text that reads back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import FormatError, ValidationError
from edgec.ir import dims
from edgec.ir.dims import floordiv, parse, same, show, solve, symbol

NAMES = ("batch", "seq", "past")
half = settings(max_examples=50)


@st.composite
def expressions(draw, depth: int = 3):
    """Python text of a dimension."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from([*NAMES, "1", "2", "7", "64"]))
    left = draw(expressions(depth=depth - 1))
    kind = draw(st.sampled_from(["+", "-", "*", "//", "%", "Min", "Max"]))
    if kind in ("//", "%"):
        return f"({left}) {kind} {draw(st.sampled_from(['2', '3', '8']))}"
    right = draw(expressions(depth=depth - 1))
    return f"{kind}({left}, {right})" if kind in ("Min", "Max") else f"({left}) {kind} ({right})"


def environments():
    return st.fixed_dictionaries({n: st.integers(1, 200) for n in NAMES})


@half
@given(expressions(), environments())
def test_values_are_those_of_python(text, env):
    want = eval(text, {"Min": min, "Max": max}, dict(env))
    assert dims.evaluate(parse(text), env) == want


@half
@given(expressions(), environments())
def test_text_reads_back(text, env):
    dim = parse(text)
    again = parse(show(dim))
    assert same(dim, again)
    assert show(again) == show(dim)
    assert dims.evaluate(again, env) == dims.evaluate(dim, env)


@half
@given(expressions(depth=2), expressions(depth=2))
def test_same_is_equality_for_all_values(a, b):
    first, second = parse(a), parse(b)
    assert same(parse(f"({a}) + ({b})"), parse(f"({b}) + ({a})"))
    assert same(first, first)
    if same(first, second):
        for value in (1, 4, 9, 11, 30):
            env = {n: value + 3 * i for i, n in enumerate(NAMES)}
            assert dims.evaluate(first, env) == dims.evaluate(second, env)


def test_forms_that_differ_only_in_writing_are_the_same():
    batch, seq = symbol("batch"), symbol("seq")
    assert same(2 * (batch + seq), seq * 2 + batch + batch)
    assert same(floordiv(4 * batch + 2, 2), 2 * batch + 1)
    assert same(floordiv(floordiv(seq, 2), 3), floordiv(seq, 6))
    assert floordiv(seq * seq, seq) == seq
    assert show(floordiv(2 * seq * batch + batch, seq)) == "2*batch + (batch//seq)"
    assert floordiv(seq * (batch + 3) * 2, batch + 3) == 2 * seq
    assert show(floordiv(seq * 2, batch + 3)) == "(2*seq)//(batch + 3)"
    assert same((seq + 1) // 2, floordiv(seq + 1, 2))
    assert show((seq + 1) // 2) == "(seq + 1)//2"
    assert dims.evaluate((seq + 1) // 2 + 1, {"seq": 6}) == 4
    assert not same(floordiv(seq, 2) * 2, seq)
    assert not same(batch, seq)
    assert not same(batch, 4)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("batch*2", "2*batch"),
        ("(samples - 127)//384", "(samples - 127)//384"),
        ("Max(src, 1)", "Max(1, src)"),
        ("4 + 3", "7"),
        ("-(seq) + 1", "-seq + 1"),
        ("seq**2", "seq**2"),
        ("(seq + 1)%8", "(seq + 1)%8"),
    ],
)
def test_text_is_short_and_like_python(text, shown):
    assert show(parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "a b", "a +", "1.5", "'a'", "a/2", "f(a)", "a.b", "[a]", "a if b else c", "a**-1", "a**99",
     "a//0", "9**9**9", "True", "lambda: 1", "*".join(f"(a{i} + b{i})" for i in range(40))],
)  # fmt: skip
def test_what_is_no_dimension_is_refused(text):
    with pytest.raises(FormatError):
        parse(text)


def test_a_name_without_a_value_is_told():
    with pytest.raises(ValidationError, match="no value for dimension seq"):
        dims.evaluate(symbol("seq") + 1, {"batch": 2})


@pytest.mark.parametrize(
    ("text", "value", "found"),
    [
        ("seq", 7, ("seq", 7)),
        ("2*seq + 1", 7, ("seq", 3)),
        ("2*seq + 1", 8, None),
        ("seq + batch", 8, None),
        ("seq//2", 8, None),
        ("5", 5, None),
    ],
)
def test_linear_dimensions_are_solved(text, value, found):
    assert solve(parse(text), value) == found


def test_names_and_products():
    assert dims.names([parse("seq + 1"), 4, parse("batch*seq")]) == {"seq", "batch"}
    assert same(dims.product([2, symbol("seq"), 3]), 6 * symbol("seq"))
    assert dims.product([]) == 1
