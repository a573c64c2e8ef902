"""States between calls: overwritten, moved, exchanged, grown in place, read after their update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.errors import ValidationError
from edgec.ir import Program
from edgec.ir.text import parse_program
from edgec.runtime.model import Model
from edgec.targets.native import Native
from edgec.targets.native.lower import lower_function
from edgec.targets.native.statements import calls
from edgec.targets.native.states import states_of
from edgec.targets.native.toolchain import host_triple
from edgec.targets.native.weights import Weights
from tests.targets.native.generations import (
    BATCH,
    SRC,
    STEPS,
    TEXTS,
    Call,
    all_functions,
    generation,
)
from tests.targets.onnx import seq2seq

each_function = pytest.mark.parametrize("function", [*TEXTS, "step", "recurrent"])


@pytest.fixture(scope="module")
def program() -> Program:
    return all_functions()


@pytest.fixture(scope="module")
def folder(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("states")
    Native().emit(Native().legalize(program), place)
    return place


@pytest.fixture
def model(folder: Path) -> Iterator[Model]:
    with opened(folder) as found:
        yield found


def opened(folder: Path) -> Model:
    (library,) = folder.glob(f"lib/{host_triple()}/*")
    return Model(library, folder / "model.weights")


def made_by(model: Model, call: Call) -> list[torch.Tensor | None]:
    """Outputs, None for those that stay in the instance."""
    inputs = [None if t is None else t.numpy() for t in call.inputs]
    prepared = model.prepare(call.function, call.env, inputs, keep_states=bool(call.stays))
    model.call(prepared)
    return [None if a is None else torch.from_numpy(a.copy()) for a in prepared.outputs]


@each_function
def test_states_that_stay_in_the_instance(function: str, program: Program, model: Model) -> None:
    """The last call gives them back; then all starts anew."""
    for call in 2 * generation(program, function, kept=True, read_out=True):
        assert call.differences(made_by(model, call)) == []


@each_function
def test_states_that_are_handed_over(function: str, program: Program, model: Model) -> None:
    for call in generation(program, function, kept=False):
        assert call.differences(made_by(model, call)) == []


def test_a_cache_inside_is_what_a_caller_would_carry_along(program: Program, folder: Path) -> None:
    """Bit for bit, for forty steps; there is room for no more."""
    rows = [generation(program, "step", kept) for kept in (True, False)]
    with opened(folder) as one, opened(folder) as two:
        for inside, outside in zip(*rows, strict=True):
            (logits, stayed), (same, grown) = made_by(one, inside), made_by(two, outside)
            assert stayed is None and logits is not None and same is not None
            assert torch.equal(logits, same)
            assert grown is not None and torch.equal(grown, outside.wanted[1])
        arrays = [None if t is None else t.numpy() for t in inside.inputs]
        too_far = {"batch": BATCH, "src": SRC, "past": STEPS + 1}
        with pytest.raises(ValidationError, match="got past=41; need 0 <= past <= 40"):
            one.run("step", too_far, arrays)
        last: Mapping[str, int] = {"batch": BATCH, "src": SRC, "past": STEPS}
        _, whole = one.run("step", last, arrays, keep_states=False)
        np.testing.assert_array_equal(whole[:, :, :STEPS], outside.wanted[1].numpy())


def test_a_batch_of_another_size_starts_anew(model: Model) -> None:
    """What an earlier sequence left behind is not seen by one that starts from nothing."""
    memory = torch.randn(BATCH, SRC, seq2seq.E, generator=torch.Generator().manual_seed(0)).numpy()
    tokens = np.arange(BATCH, dtype=np.int64)[:, None]

    def first(batch: int) -> np.ndarray:
        dims = {"batch": batch, "src": SRC, "past": 0}
        (logits,) = model.run("step", dims, [tokens[:batch], None, memory[:batch]])
        return logits

    fresh = first(BATCH)
    model.run("step", {"batch": BATCH, "src": SRC, "past": 1}, [tokens, None, memory])
    np.testing.assert_array_equal(first(2), fresh[:2])
    np.testing.assert_array_equal(first(BATCH), fresh)


def test_an_update_without_other_readers_is_in_place() -> None:
    """No statement copies the state as a whole, but those for callers that hand it over."""
    program = parse_program(TEXTS["updated"])
    states = list(states_of(program.main))
    lowered = lower_function(program.main, Weights(program.constants), states)
    written = [c for c in calls(lowered.statements) if c.pointers[-1].storage is states[0].storage]  # type: ignore[union-attr]
    assert [c.sizes["n1"] for c in written] == [18, 6]
