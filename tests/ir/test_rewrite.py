"""Rewrite rules: what a pattern matches, and what the driver keeps."""

from __future__ import annotations

import pytest
import torch

import edgec.ops  # noqa: F401 - registers the ops
from edgec.errors import VerifyError
from edgec.ir import Builder, DType, Program, Range, TensorType
from edgec.ir.pattern import Matcher, Pattern, build
from edgec.ir.rewrite import Rule, rewrite
from edgec.ir.text import parse_program, show_graph, show_program


def program(body, constants=""):
    head = "func @main(%x: f32[batch, 4], %y: f32[batch, 4]) dims(batch: 1..8) {"
    return parse_program(f"{constants}\n{head}\n{body}\n}}\n").verify()


def body(result):
    return [line.strip() for line in show_graph(result.program.main).splitlines()[1:-1]]


def double(p, x):
    return p.add(x, x)


def doubled(b, x):
    return b.mul(x, b.scalar(2.0, DType.F32))


DOUBLE = Rule("double", double, doubled)
TWICE_RELU = Rule("relu", lambda p, x: p.relu(p.relu(x)), lambda b, x: b.relu(x))


# ------------------------------------------------------------------ patterns
def matched(pattern, text, constants=""):
    """Bindings of the first match at the last node, None where there is none."""
    graph = program(text, constants).main
    term, _ = build(pattern)
    matcher = Matcher(graph.producers(), graph.constants)
    match = next(matcher.matches(term, graph.nodes[-1]), None)
    return None if match is None else dict(match.bound)


def test_a_variable_used_twice_stands_for_one_value():
    assert matched(double, "%z: f32[batch, 4] = add(%x, %x)\nreturn %z as z") == {"x": "x"}
    assert matched(double, "%z: f32[batch, 4] = add(%x, %y)\nreturn %z as z") is None


@pytest.mark.parametrize("operands", ["%x, %r", "%r, %x"])
def test_commutative_operands_match_in_either_order(operands):
    text = f"%r: f32[batch, 4] = relu(%y)\n%z: f32[batch, 4] = add({operands})\nreturn %z as z"
    assert matched(lambda p, a, b: p.add(p.relu(a), b), text) == {"a": "y", "b": "x"}


def test_operands_of_other_ops_match_in_order():
    text = "%r: f32[batch, 4] = relu(%y)\n%z: f32[batch, 4] = sub(%x, %r)\nreturn %z as z"
    assert matched(lambda p, a, b: p.sub(p.relu(a), b), text) is None
    assert matched(lambda p, a, b: p.sub(b, p.relu(a)), text) == {"a": "y", "b": "x"}


def test_matching_backtracks_out_of_the_first_order():
    """The outer sum has to be tried the other way round before the inner one fits."""
    text = """%a: f32[batch, 4] = relu(%x)
        %b: f32[batch, 4] = relu(%y)
        %c: f32[batch, 4] = neg(%x)
        %s: f32[batch, 4] = mul(%b, %c)
        %z: f32[batch, 4] = add(%a, %s)
        return %z as z"""

    def pattern(p, u, v):
        return p.add(p.either(p.mul(p.relu(u), p.neg(v)), p.relu(u)), p.relu(v))

    assert matched(pattern, text) == {"u": "y", "v": "x"}


def test_attributes_are_required_captured_or_free():
    text = "%z: f32[batch, 4] = softmax(%x) {axis=0}\nreturn %z as z"
    assert matched(lambda p, x: p.softmax(x, axis=0), text) == {"x": "x"}
    assert matched(lambda p, x: p.softmax(x, axis=1), text) is None
    assert matched(lambda p, x, axis: p.softmax(x, axis=axis), text) == {"x": "x", "axis": 0}
    assert matched(lambda p, x: p.softmax(x), text) == {"x": "x"}
    assert matched(lambda p, x, op: p.softmax(x, _op=op), text)["op"].axis == 0


def test_a_truth_value_is_no_number():
    text = "%z: f32[batch, 1] = reduce_sum(%x) {axes=[1], keep=True}\nreturn %z as z"
    assert matched(lambda p, x: p.reduce_sum(x, keep=1), text) is None
    assert matched(lambda p, x: p.reduce_sum(x, keep=True), text) == {"x": "x"}


@pytest.mark.parametrize(
    ("stored", "tolerance", "found"),
    [("2.0", 0.0, True), ("2.0001", 0.0, False), ("2.0001", 1e-3, True), ("-2.0", 1e-3, False)],
)
def test_a_number_matches_within_its_tolerance(stored, tolerance, found):
    text = "%z: f32[batch, 4] = mul(%x, @c)\nreturn %z as z"
    result = matched(
        lambda p, x: p.mul(x, p.scalar(2.0, tolerance)), text, f"@c = const f32[] dense {stored}"
    )
    assert (result == {"x": "x"}) is found


def test_a_scalar_has_rank_zero_and_a_uniform_value_any_shape():
    text = """%o: f32[batch, 4] = full() {shape=[batch, 4], value=1.0, dtype=f32}
        %z: f32[batch, 4] = mul(%o, %x)
        return %z as z"""
    assert matched(lambda p, x: p.mul(x, p.scalar(1.0)), text) is None
    assert matched(lambda p, x, one: p.mul(x, p.uniform(one)), text) == {"x": "x", "one": 1.0}


def test_a_constant_operand_is_told_from_a_value():
    constant = "@c = const f32[4] dense [1.0, 2.0, 3.0, 4.0]"
    text = "%z: f32[batch, 4] = sub(%x, @c)\nreturn %z as z"
    found = matched(lambda p, x, c: p.sub(x, p.constant(c)), text, constant)
    assert found["c"].name == "c"
    assert matched(lambda p, x, c: p.sub(p.constant(c), x), text, constant) is None


def test_optional_operands_are_bound_or_absent():
    constants = "@w = const f32[1, 4] dense [[1.0, 2.0, 3.0, 4.0]]\n@b = const f32[1] dense [1.0]"
    bare = "%z: f32[batch, 1] = linear(%x, @w, _)\nreturn %z as z"
    biased = "%z: f32[batch, 1] = linear(%x, @w, @b)\nreturn %z as z"

    def pattern(p, x, w, bias):
        return p.linear(x, w, p.optional(bias))

    assert matched(pattern, bare, constants)["bias"] is None
    assert matched(pattern, biased, constants)["bias"] == "@b"
    assert matched(lambda p, x, w: p.linear(x, w), biased, constants) is None
    assert matched(lambda p, x, w, bias: p.linear(x, w, bias), bare, constants) is None


def test_mistakes_in_a_pattern_are_told_when_it_is_written():
    with pytest.raises(AttributeError, match="no op named sotfmax"):
        build(lambda p, x: p.sotfmax(x))
    with pytest.raises(VerifyError, match="attributes axes of softmax"):
        build(lambda p, x: p.softmax(x, axes=1))
    with pytest.raises(VerifyError, match="variables y; need some of"):
        Rule("r", double, lambda b, y: y)
    with pytest.raises(VerifyError, match="Var at the root; need an op"):
        rewrite(program("return %x as z"), [Rule("r", lambda p, x: x, lambda b, x: x)])
    assert isinstance(Pattern().wild(), object)


# ------------------------------------------------------------------ the driver
def test_a_replaced_result_keeps_its_name_and_its_source():
    before = program("%z: f32[batch, 4] = add(%x, %x)  # model.py:7\nreturn %z as z")
    result = rewrite(before, [DOUBLE])
    assert body(result) == [
        "%z: f32[batch, 4] = mul(%x, @scalar)  # model.py:7",
        "return %z as z",
    ]
    assert result.fired == {"double": 1}


def test_an_older_value_takes_the_place_of_a_result():
    before = program(
        """%a: f32[batch, 4] = relu(%x)
        %b: f32[batch, 4] = neg(%a)
        %c: f32[batch, 4] = neg(%b)
        %d: f32[batch, 4] = tanh(%c)
        return %d as d, %c as c"""
    )
    rule = Rule("neg", lambda p, x: p.neg(p.neg(x)), lambda b, x: x)
    assert body(rewrite(before, [rule])) == [
        "%a: f32[batch, 4] = relu(%x)",
        "%d: f32[batch, 4] = tanh(%a)",
        "return %d as d, %a as c",
    ]


def test_the_argument_is_not_changed():
    before = program("%z: f32[batch, 4] = add(%x, %x)\nreturn %z as z")
    text, pool = show_program(before), dict(before.constants)
    rewrite(before, [DOUBLE])
    assert show_program(before) == text
    assert before.constants == pool


INNER_IS_READ = """%a: f32[batch, 4] = relu(%x)
    %b: f32[batch, 4] = relu(%a)
    %c: f32[batch, 4] = add(%a, %b)
    return %c as c"""
INNER_IS_A_RESULT = """%a: f32[batch, 4] = relu(%x)
    %b: f32[batch, 4] = relu(%a)
    return %b as b, %a as a"""


@pytest.mark.parametrize("text", [INNER_IS_READ, INNER_IS_A_RESULT])
def test_an_inner_value_that_is_read_elsewhere_keeps_the_match_from_firing(text):
    assert not rewrite(program(text), [TWICE_RELU]).fired
    shared = Rule("shared", TWICE_RELU.pattern, TWICE_RELU.replacement, shared=True)
    result = rewrite(program(text), [shared])
    assert result.fired == {"shared": 1}
    assert any("%a" in line and "relu(%x)" in line for line in body(result))


def test_uses_that_go_in_the_same_sweep_set_inner_values_free():
    """The dead end is replaced first; then nothing but the match reads the inner value."""
    before = program(
        """%a: f32[batch, 4] = relu(%x)
        %n: f32[batch, 4] = sub(%a, %a)
        %b: f32[batch, 4] = relu(%a)
        %c: f32[batch, 4] = add(%b, %n)
        return %c as c"""
    )
    zero = Rule(
        "zero",
        lambda p, x: p.sub(x, x),
        lambda b: b.full(shape=b.root.output.type.shape, value=0.0, dtype=DType.F32),
    )
    assert rewrite(before, [TWICE_RELU, zero]).fired == {"zero": 1, "relu": 1}


def test_what_a_rule_emits_is_rewritten_too():
    before = program("%z: f32[batch, 4] = add(%x, %x)\nreturn %z as z")
    to_pow = Rule("quadruple", lambda p, x: p.mul(x, p.scalar(2.0)), lambda b, x: b.neg(b.exp(x)))
    result = rewrite(before, [DOUBLE, to_pow])
    assert body(result) == [
        "%exp: f32[batch, 4] = exp(%x)",
        "%z: f32[batch, 4] = neg(%exp)",
        "return %z as z",
    ]
    assert not result.program.constants


def test_a_rule_that_declines_leaves_nothing_behind():
    before = program("%z: f32[batch, 4] = add(%x, %x)\nreturn %z as z")

    def declines(b, x):
        b.mul(x, b.constant(torch.ones(100, 1, 1), "large"))

    result = rewrite(before, [Rule("declines", double, declines)])
    assert not result.fired
    assert show_program(result.program) == show_program(before)
    assert not result.program.constants


def test_nodes_that_the_result_does_not_need_are_not_kept():
    before = program("%z: f32[batch, 4] = add(%x, %x)\nreturn %z as z")

    def wasteful(b, x):
        b.exp(x)
        return b.neg(x)

    assert len(rewrite(before, [Rule("wasteful", double, wasteful)]).program.main.nodes) == 1


def test_a_replacement_of_another_type_is_an_error():
    before = program("%z: f32[batch, 4] = add(%x, %x)\nreturn %z as z")
    rule = Rule("wrong", double, lambda b, x: b.reduce_sum(x, axes=(1,)))
    with pytest.raises(VerifyError, match=r"rule wrong.*f32\[batch\] for f32\[batch, 4\]"):
        rewrite(before, [rule])


def test_rules_without_end_are_an_error():
    before = program("%z: f32[batch, 4] = add(%x, %y)\nreturn %z as z")
    swap = Rule("swap", lambda p, x, y: p.add(x, y), lambda b, x, y: b.add(y, x))
    with pytest.raises(VerifyError, match="rules without end: swap"):
        rewrite(before, [swap])


def test_a_result_of_the_graph_does_not_become_a_constant():
    constants = "@c = const f32[] dense 1.0"
    before = program("%z: f32[] = neg(@c)\nreturn %z as z", constants)
    rule = Rule("number", lambda p, c: p.neg(p.constant(c)), lambda b, c: c)
    assert not rewrite(before, [rule]).fired


def test_a_derived_constant_takes_the_name_of_one_that_goes():
    constants = "@w = const f32[2, 1] dense [[1.0], [2.0]]"
    text = """%m: f32[2, 1] = mul(@w, @w)
        %p: f32[1, 2] = permute(@w) {order=[1, 0]}
        return %m as m, %p as p"""
    rule = Rule(
        "square",
        lambda p, w: p.mul(p.constant(w), p.constant(w)),
        lambda b, w: b.neg(b.derive(w, "negative square", lambda t: -t * t)),
    )
    kept = rewrite(program(text, constants), [rule]).program
    assert set(kept.constants) == {"w", "w_1"}
    alone = rewrite(program(text.replace("permute(@w)", "permute(%m)"), constants), [rule]).program
    assert set(alone.constants) == {"w"}
    assert alone.constants["w"].encoding.decode().tolist() == [[-1.0], [-4.0]]


def test_constants_are_counted_over_all_functions():
    b = Builder.new("first", [("x", TensorType(DType.F32, (4,)))])
    w = b.constant(torch.arange(4.0), "w")
    first = b.finish([b.mul(b.input("x"), w)], ["y"])
    other = Builder.new("second", [("x", TensorType(DType.F32, (4,)))], b.graph.constants)
    second = other.finish([other.add(other.input("x"), w)], ["y"])
    seen = {}

    def look(b, x, w):
        seen["uses"] = b.uses(w)
        seen["products only"] = b.only_used_as(w, "mul", 1)

    rule = Rule("look", lambda p, x, w: p.mul(x, p.constant(w)), look)
    rewrite(Program({"first": first, "second": second}, b.graph.constants), [rule])
    assert seen == {"uses": 2, "products only": False}


def test_a_sweep_is_linear_in_the_number_of_nodes(monkeypatch):
    """Twice the nodes, twice the attempts to match; a chain collapses as it is visited."""
    attempts = []
    original = Matcher.matches

    def counted(self, term, root):
        attempts.append(root)
        return original(self, term, root)

    monkeypatch.setattr(Matcher, "matches", counted)

    def count(length):
        b = Builder.new("main", [("x", TensorType(DType.F32, (4,)))], dims={"n": Range()})
        x = b.input("x")
        for _ in range(length):
            x = b.relu(x)
        graph = b.finish([x])
        attempts.clear()
        result = rewrite(Program({"main": graph}, {}), [TWICE_RELU])
        assert len(result.program.main.nodes) == 1
        return len(attempts)

    assert count(400) <= 2 * count(200) + 4
