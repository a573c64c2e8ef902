"""States between calls: kept in the instance they are what a caller would carry along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.errors import ValidationError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Program, Range, State, TensorType
from edgec.runtime.model import Model
from edgec.targets.native import Native
from edgec.targets.native.toolchain import host_triple
from tests.targets.onnx import seq2seq

STEPS, BATCH, SRC = 40, 3, 5


def emitted(program: Program, folder: Path) -> Model:
    target = Native()
    target.emit(target.legalize(program), folder)
    return Model(folder / "lib" / host_triple() / "libmodel.so", folder / "model.weights")


def cached() -> Program:
    """A step whose KV cache [batch, 2, past, 32] grows along an inner axis."""
    program = seq2seq.program()
    graph = program.graphs["step"]
    sizes = {**graph.dims, "past": Range(0, STEPS)}
    return Program({"step": graph.replace(dims=sizes)}, program.constants).drop_unused_constants()


def test_a_cache_grows_in_place_for_forty_steps(tmp_path: Path) -> None:
    program = cached()
    interpreter = Interpreter(program)
    g = torch.Generator().manual_seed(0)
    memory = torch.randn(BATCH, SRC, seq2seq.E, generator=g)
    cache = torch.zeros(BATCH, 2, 0, seq2seq.E // 2)
    with emitted(program, tmp_path) as kept, emitted(program, sub(tmp_path)) as explicit:
        for past in range(STEPS):
            token = torch.randint(0, seq2seq.V, (BATCH, 1), generator=g)
            dims: Mapping[str, int] = {"batch": BATCH, "src": SRC, "past": past}
            given = [token.numpy(), None, memory.numpy()]
            (inside,) = kept.run("step", dims, given)
            outside, grown = explicit.run("step", dims, [given[0], cache.numpy(), given[2]])
            want, carried = interpreter.run([token, cache, memory])
            np.testing.assert_array_equal(inside, outside)
            np.testing.assert_array_equal(grown, carried.numpy())
            torch.testing.assert_close(torch.from_numpy(inside), want, rtol=1e-4, atol=1e-5)
            cache = carried
        too_far = {"batch": BATCH, "src": SRC, "past": STEPS + 1}
        with pytest.raises(ValidationError, match="got past=41; need 0 <= past <= 40"):
            kept.run("step", too_far, given)
        last = {"batch": BATCH, "src": SRC, "past": STEPS}
        _, whole = kept.run("step", last, given, keep_states=False)
        np.testing.assert_array_equal(whole[:, :, :STEPS], cache.numpy())


def sub(folder: Path) -> Path:
    """Another folder: one that is open already would be the same instance's library."""
    (folder / "sub").mkdir()
    return folder / "sub"


def test_a_batch_of_another_size_starts_anew(tmp_path: Path) -> None:
    """What an earlier sequence left behind is not seen by one that starts from nothing."""
    program = cached()
    memory = torch.randn(BATCH, SRC, seq2seq.E, generator=torch.Generator().manual_seed(0)).numpy()
    tokens = np.arange(BATCH, dtype=np.int64)[:, None]
    with emitted(program, tmp_path) as model:

        def first(batch: int) -> np.ndarray:
            dims = {"batch": batch, "src": SRC, "past": 0}
            (logits,) = model.run("step", dims, [tokens[:batch], None, memory[:batch]])
            return logits

        fresh = first(BATCH)
        model.run("step", {"batch": BATCH, "src": SRC, "past": 1}, [tokens, None, memory])
        np.testing.assert_array_equal(first(2), fresh[:2])
        np.testing.assert_array_equal(first(BATCH), fresh)


def recurrent() -> Program:
    """h, c of an LSTM of one step; they keep their size."""
    generator = torch.Generator().manual_seed(0)
    kinds = ["f32[batch, 1, 6]", "f32[1, batch, 8]", "f32[1, batch, 8]"]
    inputs = [(n, TensorType.parse(k)) for n, k in zip(("x", "h", "c"), kinds, strict=True)]
    b = Builder.new("main", inputs, {}, {"batch": Range(1, 4)})
    shapes = {"wx": (32, 6), "wh": (32, 8), "bx": (32,), "bh": (32,)}
    weights = [b.constant(torch.randn(s, generator=generator), n) for n, s in shapes.items()]
    attributes = {"hidden": 8, "layers": 1, "bidirectional": False, "bias": True}
    given = [b.input(n) for n in ("x", "h", "c")]
    y, h, c = b.lstm(*given, *weights, batch_first=True, **attributes)
    graph = b.finish([y, h, c], ["y", "h_next", "c_next"])
    graph.states = (State("h", "h_next"), State("c", "c_next"))
    return Program({"main": graph}, graph.constants).verify()


def test_states_of_an_lstm(tmp_path: Path) -> None:
    program = recurrent()
    interpreter, g = Interpreter(program), torch.Generator().manual_seed(1)
    h = c = torch.zeros(1, 2, 8)
    with emitted(program, tmp_path) as model:
        for _ in range(STEPS):
            x = torch.randn(2, 1, 6, generator=g)
            (got,) = model.run("main", {"batch": 2}, [x.numpy(), None, None])
            y, h, c = interpreter.run([x, h, c])
            torch.testing.assert_close(torch.from_numpy(got), y, rtol=1e-4, atol=1e-5)


def test_a_program_whose_states_trade_places(tmp_path: Path) -> None:
    """Each next state is the other's old value: neither may be written before both are read."""
    kind = TensorType.parse("f32[5]")
    b = Builder.new("main", [("p", kind), ("q", kind)])
    graph = b.finish([b.add(b.input("p"), b.input("q")), "q", "p"], ["sum", "p_next", "q_next"])
    graph.states = (State("p", "p_next"), State("q", "q_next"))
    program = Program({"main": graph}, graph.constants).verify()
    p, q = np.arange(5, dtype=np.float32), np.ones(5, np.float32)
    with emitted(program, tmp_path) as model:
        model.run("main", {}, [p, q])
        total, second, first = model.run("main", {}, [p, q])
        np.testing.assert_array_equal(second, q)
        np.testing.assert_array_equal(first, p)
        np.testing.assert_array_equal(total, p + q)
        for expected in ((q, p), (p, q)):
            _, new_p, new_q = model.run("main", {}, [None, None], keep_states=False)
            np.testing.assert_array_equal(new_p, expected[1])
            np.testing.assert_array_equal(new_q, expected[0])
