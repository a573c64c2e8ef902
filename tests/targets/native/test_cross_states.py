"""States on other machines: the same calls as on this one, in one process of an emulator."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.ir import Program
from edgec.runtime.golden import Expected, GoldenCall
from edgec.targets.native import Native
from tests.runtime.tools import need, need_zig
from tests.targets.native.emulation import replay
from tests.targets.native.generations import Call, all_functions, session
from tests.targets.native.test_cross import ARM, TOOLS, WASM

pytestmark = pytest.mark.slow

ARRAYS = {torch.float32: "Float32Array", torch.int64: "BigInt64Array"}
# Floats are exact as numbers of JSON; null is a state inside.
REPLAY = """
import fs from "node:fs";
import { load } from "./model.mjs";
const types = { Float32Array, BigInt64Array: { from: (list) => BigInt64Array.from(list, BigInt) } };
const model = await load();
const calls = JSON.parse(fs.readFileSync(new URL("./calls.json", import.meta.url)));
const made = calls.map(({ name, dims, inputs }) => model.run(name, dims, inputs.map(
  (found) => found && types[found.type].from(found.values),
)).map((output) => output && Array.from(output)));
console.log(JSON.stringify(made));
"""


@pytest.fixture(scope="module")
def program() -> Program:
    return all_functions()


@pytest.fixture(scope="module")
def folder(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_zig()
    place = tmp_path_factory.mktemp("states")
    Native(triples=(ARM, WASM)).emit(Native().legalize(program), place)
    return place


def differing(calls: Sequence[Call], made: Sequence[Sequence[torch.Tensor | None]]) -> list[object]:
    """Function, sizes and comparisons of all that is not as it should be."""
    pairs = zip(calls, made, strict=True)
    found = [(c.function, c.env, c.differences(outputs)) for c, outputs in pairs]
    return [row for row in found if row[-1]]


def test_states_grow_in_place_on_aarch64(program: Program, folder: Path) -> None:
    """The check program replays the calls: what is neither given nor expected stays inside."""
    calls = session(program)
    made = [
        [torch.from_numpy(found[i]) if i in found else None for i in range(len(call.wanted))]
        for call, found in zip(calls, replay(folder, [golden_call(c) for c in calls]), strict=True)
    ]
    assert differing(calls, made) == []


def golden_call(call: Call) -> GoldenCall:
    """Absolute tolerances, of outputs that do not stay."""
    expected = [
        None if i in call.stays else Expected(w.numpy(), t * float(w.abs().max()))
        for i, (w, t) in enumerate(zip(call.wanted, call.tolerances, strict=True))
    ]
    inputs = [None if t is None else t.numpy() for t in call.inputs]
    return GoldenCall(call.function, list(call.env.values()), inputs, expected)


def test_states_grow_in_place_in_javascript(program: Program, folder: Path) -> None:
    """Through the model's loader, which gives null for what stays inside."""
    calls = session(program, read_out=False)
    (folder / "calls.json").write_text(json.dumps([javascript_call(call) for call in calls]))
    (folder / "replay.mjs").write_text(REPLAY)
    command = [need(*TOOLS[WASM]), str(folder / "replay.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = []
    for call, outputs in zip(calls, json.loads(done.stdout), strict=True):
        pairs = list(zip(outputs, call.wanted, strict=True))
        assert {i for i, (values, _) in enumerate(pairs) if values is None} == call.stays
        made.append([None if values is None else shaped(values, want) for values, want in pairs])
    assert differing(calls, made) == []


def javascript_call(call: Call) -> dict[str, object]:
    """64-bit integers as text: JavaScript's numbers are floats."""
    inputs: list[dict[str, object] | None] = []
    for t in call.inputs:
        if t is None:
            inputs.append(None)
            continue
        values = t.flatten().tolist()
        values = [str(v) for v in values] if t.dtype == torch.int64 else values
        inputs.append({"type": ARRAYS[t.dtype], "values": values})
    return {"name": call.function, "dims": call.env, "inputs": inputs}


def shaped(values: list[float], want: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.array(values, np.float32).reshape(want.shape))
