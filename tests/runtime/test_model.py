"""The loader: a compiled model called from Python, and everything that can be wrong about that."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from edgec.errors import FormatError, ValidationError
from edgec.runtime.arguments import aligned_empty
from edgec.runtime.container import MAX_RANK
from edgec.runtime.description import ABI, ERROR_BYTES
from edgec.runtime.model import Model
from edgec.runtime.sources import INCLUDE
from tests.runtime.tiny_model import SCALE, TABLE, TinyModel, compile_c, write_weights

X = np.array([1, 2, 3, 4], np.float32)


@pytest.fixture
def model(tiny: TinyModel):
    with Model(tiny.library, tiny.weights, threads=2, profile=True) as opened:
        yield opened


def test_the_constants_are_those_of_the_header():
    header = (INCLUDE / "edgec" / "runtime.h").read_text()
    for name, value in {"ABI": ABI, "ERROR_BYTES": ERROR_BYTES, "MAX_RANK": MAX_RANK}.items():
        assert f"#define EDGEC_{name} {value}" in header


def test_a_model_describes_itself(model: Model):
    about = model.description
    assert (about.name, about.version, about.variants) == (
        "tiny",
        "0.1.0",
        ("none_has_it", "plain"),
    )
    assert about.kernels == ("embed", "step", "total")
    embed, step = about.functions["embed"], about.functions["step"]
    assert [(dim.name, dim.min, dim.max) for dim in embed.dims] == [("seq", 1, 64)]
    assert [(t.name, t.dtype, t.shape_text) for t in embed.outputs] == [("y", "f32", "[seq, 8]")]
    assert embed.outputs[0].sizes([5]) == (5, 8)
    assert step.states == ((1, 1),)
    assert model.variant == "plain"


def test_run_computes(model: Model):
    tokens = np.array([3, 0, 15])
    for dims in ({"seq": 3}, [3]):
        (y,) = model.run("embed", dims, [tokens])
        np.testing.assert_array_equal(y, TABLE[tokens] * np.float32(SCALE))


def test_prepared_arguments_are_used_again(model: Model):
    tokens = np.zeros(2, np.int64)
    given = model.prepare("embed", [2], [tokens])
    (ids,) = given.inputs
    assert ids is not None
    for token in (3, 5):
        ids[:] = token
        model.call(given)
        np.testing.assert_array_equal(given.outputs[0], TABLE[[token] * 2] * np.float32(SCALE))
    ids[:] = 16
    with pytest.raises(ValidationError, match="INDEX_OUT_OF_RANGE"):
        model.call(given)


def test_inputs_may_lie_anywhere(model: Model):
    """Strided and odd ones are copied to where the library takes them."""
    tokens = np.arange(30)[::3]
    raw = np.zeros(10 * 8 + 1, np.uint8)
    odd = raw[1:].view(np.int64)
    odd[:] = tokens
    for given in (tokens, odd):
        (y,) = model.run("embed", [10], [given % 16])
        np.testing.assert_array_equal(y, TABLE[tokens % 16] * np.float32(SCALE))


def test_states_stay_in_the_instance(tiny: TinyModel, model: Model):
    for i in (1, 2, 3):
        (y,) = model.run("step", {}, [X, None])
        np.testing.assert_array_equal(y, X * i * SCALE)
    y, state = model.run("step", {}, [X, X * 10])
    np.testing.assert_array_equal(state, X * 11)
    y, state = model.run("step", {}, [X, None], keep_states=False)
    np.testing.assert_array_equal(state, X * 4)
    with Model(tiny.library, tiny.weights) as other:
        (y,) = other.run("step", {}, [X, None])
        np.testing.assert_array_equal(y, X * SCALE)


def test_profile_counts_calls(tiny: TinyModel, model: Model):
    for _ in range(3):
        model.run("step", {}, [X, None])
    times = {time.kernel: time for time in model.profile()}
    assert times["step"].calls == 3
    assert times["step"].nanoseconds > 0
    assert times["embed"].calls == 0
    with Model(tiny.library, tiny.weights) as other:
        assert other.profile() == []


@pytest.mark.parametrize(
    ("function", "dims", "inputs", "reason"),
    [
        ("nothing", {}, [], "need one of: embed, step, total"),
        ("embed", {"seq": 0}, [np.zeros(0, np.int64)], "need 1 <= seq <= 64"),
        ("embed", {"seq": 65}, [np.zeros(65, np.int64)], "need 1 <= seq <= 64"),
        ("embed", {"length": 3}, [np.zeros(3, np.int64)], r"need \['seq'\]"),
        ("embed", [1, 2], [np.zeros(3, np.int64)], "2 dims; need 1"),
        ("embed", [3], [], "0 inputs; need 1"),
        ("embed", [3], [np.zeros(3, np.int32)], r"int32\[3\]; need int64\[3\]"),
        ("embed", [3], [np.zeros(4, np.int64)], r"int64\[4\]; need int64\[3\]"),
        ("embed", [3], [np.array([0, 16, 0])], "EDGEC_INDEX_OUT_OF_RANGE.* got 16 at 1"),
        ("embed", [3], [np.array([0, -1, 0])], "EDGEC_INDEX_OUT_OF_RANGE.* got -1 at 1"),
        ("embed", [3], [None], "EDGEC_NULL_ARGUMENT"),
    ],
)
def test_bad_calls_are_validation_errors(model: Model, function, dims, inputs, reason):
    with pytest.raises(ValidationError, match=reason):
        model.run(function, dims, inputs)
    model.run("embed", [1], [np.array([0])])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"threads": -1}, "EDGEC_BAD_OPTION"),
        ({"threads": 257}, "EDGEC_BAD_OPTION"),
        ({"variant": "x"}, "EDGEC_NO_SUCH_NAME.*plain"),
        ({"variant": "none_has_it"}, "EDGEC_UNSUPPORTED_CPU"),
    ],
)
def test_bad_options_are_validation_errors(tiny: TinyModel, options, reason):
    with pytest.raises(ValidationError, match=reason):
        Model(tiny.library, tiny.weights, **options)


def test_bad_weights_are_format_errors(tiny: TinyModel, tmp_path: Path):
    content = tiny.weights.read_bytes()
    write_weights(tmp_path / "other", scale=3.0, model="other")
    (tmp_path / "short").write_bytes(content[:-1])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "flipped").write_bytes(content[:-100] + b"\x01" + content[-99:])
    (tmp_path / "version").write_bytes(content[:8] + b"\x02" + content[9:])
    for name, status in {
        "other": "OTHER_MODEL",
        "short": "TRUNCATED",
        "empty": "TRUNCATED",
        "flipped": "DAMAGED",
        "version": "OTHER_VERSION",
        "nowhere": "CANNOT_OPEN",
    }.items():
        with pytest.raises(FormatError, match=f"EDGEC_{status}: .*{name}"):
            Model(tiny.library, tmp_path / name)
    Model(tiny.library, tmp_path / "flipped", verify=False).close()


def test_other_libraries_are_format_errors(tiny: TinyModel, tmp_path: Path):
    with pytest.raises(FormatError, match="shared library"):
        Model(tiny.weights, tiny.weights)
    with pytest.raises(FormatError, match="nowhere"):
        Model(tmp_path / "nowhere.so", tiny.weights)
    (tmp_path / "empty.c").write_text("int unused;\n")
    compile_c(["gcc"], tmp_path / "empty.so", [tmp_path / "empty.c"], "-shared", "-fPIC")
    with pytest.raises(FormatError, match="library built by edgec"):
        Model(tmp_path / "empty.so", tiny.weights)


def test_another_abi_is_a_format_error(tiny: TinyModel, tmp_path: Path, monkeypatch):
    """The library is copied: the loader keeps one that it has opened."""
    monkeypatch.setattr("edgec.runtime.description.ABI", ABI + 1)
    copied = shutil.copy(tiny.library, tmp_path / "libcopy.so")
    with pytest.raises(FormatError, match="got ABI 1; need 2; build it again"):
        Model(copied, tiny.weights)


def test_a_closed_model_says_so(tiny: TinyModel):
    model = Model(tiny.library, tiny.weights)
    model.close()
    model.close()
    for use in (lambda: model.run("step", {}, [X, None]), model.profile, lambda: model.variant):
        with pytest.raises(ValidationError, match="closed"):
            use()


def test_two_threads_on_one_model_are_told_or_served(tiny: TinyModel):
    """ctypes lets other threads run during a call: each call either computes or says busy."""
    tokens = np.arange(64) % 16
    want = TABLE[tokens] * np.float32(SCALE)
    wrong: list[str] = []

    def use(model: Model) -> None:
        for _ in range(200):
            try:
                (y,) = model.run("embed", [64], [tokens])
            except ValidationError as error:
                if "EDGEC_BUSY: another thread" not in str(error):
                    wrong.append(str(error))
            else:
                if not np.array_equal(y, want):
                    wrong.append("other values")

    with Model(tiny.library, tiny.weights, threads=2) as model:
        threads = [threading.Thread(target=use, args=(model,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("sizes", [(), (0,), (3, 5), (2, 0, 4)])
def test_buffers_are_aligned(sizes):
    array = aligned_empty(sizes, np.dtype("<f4"))
    assert array.shape == sizes
    assert array.ctypes.data % 64 == 0 or array.size == 0
