"""Inputs for validation: ids in range, masks that see, functions that feed each other."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from edgec.interpreter import Interpreter
from edgec.ir import Builder, DType, Graph, Range, TensorType, symbol
from edgec.validate.inputs import chain, index_bounds, linked_inputs, make_inputs
from tests.programs import VOCABULARY, WIDTH, decoder, embedder

LENGTH = symbol("length")


def graph_of(*ops: str) -> Graph:
    """main(ids): ids through the named steps into a gather from a table of 10 rows."""
    b = Builder.new(
        "main", [("ids", TensorType(DType.I32, (LENGTH,)))], {}, {"length": Range(1, 9)}
    )
    x = b.input("ids")
    for op in ops:
        if op == "cast":
            x = b.cast(x, dtype=DType.I64)
        elif op == "reshape":
            x = b.reshape(x, shape=(1, LENGTH))
        elif op == "add":
            x = b.add(x, b.scalar(3, x.type.dtype))
        elif op == "subtract":
            x = b.sub(x, b.scalar(1, x.type.dtype))
        elif op == "compare":
            x = b.cast(b.gt(x, b.scalar(0, x.type.dtype)), dtype=DType.I32)
    table = b.constant(torch.zeros(10, 4), "table")
    return b.finish([b.gather(table, x)], ["y"])


def bound_of(graph: Graph) -> int | None:
    bounds = index_bounds(graph).get("ids")
    return None if bounds is None else min(int(b.size) for b in bounds)


def test_an_id_is_bounded_by_the_table_it_reads() -> None:
    assert bound_of(graph_of()) == 10


def test_the_bound_is_found_behind_casts_views_and_offsets() -> None:
    assert bound_of(graph_of("cast", "reshape", "add")) == 7
    assert bound_of(graph_of("subtract", "cast")) == 11


def test_a_value_computed_from_an_input_does_not_bound_it() -> None:
    assert bound_of(graph_of("compare")) is None


def test_positions_of_a_sequence_are_bounded_by_its_length() -> None:
    types = [("x", TensorType(DType.F32, (LENGTH, 4))), ("at", TensorType(DType.I64, (2,)))]
    b = Builder.new("main", types, {}, {"length": Range(1, 9)})
    graph = b.finish([b.gather(b.input("x"), b.input("at"))], ["y"])
    for length in (1, 2, 9):
        assert make_inputs(graph, {"length": length})[1].max() < length


@given(st.integers(0, 1000), st.integers(1, 8), st.integers(1, 32))
def test_made_inputs_can_be_interpreted(seed: int, batch: int, length: int) -> None:
    program = embedder()
    ids, mask = make_inputs(program.main, {"batch": batch, "length": length}, seed)
    assert 0 <= int(ids.min()) and int(ids.max()) < VOCABULARY
    assert set(mask.unique().tolist()) <= {0, 1}
    assert bool(mask.any(-1).all()) and bool(mask[0].all())
    assert bool((mask.diff(dim=-1) <= 0).all()), "ones stand first"
    assert Interpreter(program).run([ids, mask])[0].isfinite().all()


def test_masks_of_one_batch_differ_in_length() -> None:
    mask = make_inputs(embedder().main, {"batch": 8, "length": 32})[1]
    assert len(set(mask.sum(-1).tolist())) > 3


def test_inputs_follow_from_the_seed() -> None:
    graph = embedder().main
    env = {"batch": 2, "length": 5}
    again, other = make_inputs(graph, env, 1), make_inputs(graph, env, 2)
    assert all(map(torch.equal, make_inputs(graph, env, 1), again))
    assert not torch.equal(again[0], other[0])


def test_an_input_with_the_name_of_an_output_is_linked() -> None:
    assert linked_inputs(decoder().graphs, "step") == {"memory": ("encode", 0)}


def test_linked_inputs_hold_what_the_other_function_makes() -> None:
    program = decoder()
    env = {"batch": 2, "length": 5, "past": 3}
    interpreter = Interpreter(program)
    inputs = chain(program.graphs, "step", env, lambda f, i: interpreter.run(i, f))
    assert [tuple(t.shape) for t in inputs] == [(2, 1), (2, 5, WIDTH), (2, 3, WIDTH)]
    assert float(inputs[1].abs().max()) < 1.0, "tanh of the encoder"
    assert float(inputs[2].abs().max()) > 1.0, "states are random"
