"""The check program: golden calls replayed, deviations found, and its exit status."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.errors import FormatError
from edgec.runtime.container import Container, Entry, Kind
from edgec.runtime.container_reader import read_container
from edgec.runtime.container_writer import write_container
from edgec.runtime.golden import Expected, GoldenCall, read_outputs, write_golden
from tests.runtime.tiny_model import SCALE, TABLE, TinyModel

TOKENS = np.array([3, 0, 15])
Y = TABLE[TOKENS] * np.float32(SCALE)
X = np.array([1, 2, 3, 4], np.float32)
EMBED = GoldenCall("embed", [3], [TOKENS], [Expected(Y)])
KEPT = GoldenCall("step", [], [X, None], [Expected(X / 2), None])
GIVEN = GoldenCall("step", [], [X, X * 10], [Expected(X * 5.5), Expected(X * 11)])
READ_BACK = GoldenCall("step", [], [X, None], [Expected(X), Expected(X * 2)])


class Checker:
    """The check program with the tiny model's weights and a file for golden calls."""

    def __init__(self, program: Path, weights: Path, folder: Path) -> None:
        self.program, self.weights, self.folder = program, weights, folder

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.program, *words], capture_output=True, text=True, timeout=120)

    def check(self, calls: list[GoldenCall], *words: str) -> subprocess.CompletedProcess[str]:
        write_golden(self.folder / "golden", calls, "tiny")
        return self.run(self.weights, self.folder / "golden", *words)

    def outputs(self, calls: list[GoldenCall], status: int) -> list[dict[str, Any]]:
        """What it says of the first call's outputs; the exit status must be `status`."""
        done = self.check(calls, "--json")
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)["calls"][0]["outputs"]


@pytest.fixture
def checker(check_program: Path, tiny: TinyModel, tmp_path: Path) -> Checker:
    return Checker(check_program, tiny.weights, tmp_path)


def test_calls_that_are_as_expected_pass(checker: Checker):
    done = checker.check([EMBED, KEPT, GIVEN, READ_BACK], "--threads", "2", "--repeat", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny, edgec 0.1.0: variant plain, threads 2" in done.stdout
    assert "call 0, embed: median of 3" in done.stdout
    assert done.stdout.endswith("passed\n")


def test_json_has_times_memory_and_profile(checker: Checker):
    done = checker.check([EMBED, KEPT], "--json", "--profile", "--repeat", "4")
    found = json.loads(done.stdout)
    assert (found["model"], found["variant"], found["passed"]) == ("tiny", "plain", True)
    assert found["peak_bytes"] > 100_000
    assert found["weights_bytes"] == checker.weights.stat().st_size
    assert [(call["function"], call["dims"]) for call in found["calls"]] == [
        ("embed", [3]),
        ("step", []),
    ]
    assert all(0 < call["least_ns"] <= call["median_ns"] for call in found["calls"])
    assert {time["kernel"]: time["calls"] for time in found["profile"]} == {
        "embed": 4,
        "step": 4,
        "total": 0,
    }


def embed_with(values: np.ndarray, tolerance: Any = 0.0, exempt: int = 0) -> list[GoldenCall]:
    return [GoldenCall("embed", [3], [TOKENS], [Expected(values, tolerance, exempt)])]


def test_a_deviation_fails_and_names_the_first_value(checker: Checker):
    other = Y.copy()
    other[1, 2] += 0.25
    other[2, 7] -= 0.5
    (output,) = checker.outputs(embed_with(other, 0.125), 1)
    assert (output["beyond"], output["first"], output["passed"]) == (2, 10, False)
    assert (output["max_abs"], output["max_ratio"]) == (0.5, 4.0)
    done = checker.check(embed_with(other))
    assert done.returncode == 1
    assert "2 of 24 beyond, first at 10: got 1, need 1.25  FAILED" in done.stdout
    assert done.stdout.endswith("FAILED\n")


def test_tolerances_hold_for_each_value(checker: Checker):
    other = Y.copy()
    other[1, 2] += 0.25
    tolerance = np.zeros_like(Y, np.float64)
    assert checker.outputs(embed_with(other, 0.25), 0)[0]["max_ratio"] == 1.0
    tolerance[1, 2] = 0.25
    assert checker.outputs(embed_with(other, tolerance), 0)[0]["beyond"] == 0
    tolerance[1, 2], tolerance[1, 3] = 0, 0.25
    assert checker.outputs(embed_with(other, tolerance), 1)[0]["max_ratio"] is None


def test_some_values_may_be_exempt(checker: Checker):
    other = Y.copy()
    other[1, 2:4] += 1
    assert checker.outputs(embed_with(other, 0.5, exempt=2), 0)[0]["beyond"] == 2
    assert checker.outputs(embed_with(other, 0.5, exempt=1), 1)[0]["beyond"] == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_are_not_nan_or_infinite(checker: Checker, value: float):
    other = Y.copy()
    other[0, 0] = value
    (output,) = checker.outputs(embed_with(other, 1e30), 1)
    assert (output["beyond"], output["max_abs"]) == (1, None)


def test_same_nan_and_infinity_pass(checker: Checker):
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    call = GoldenCall("step", [], [x, X], [Expected((x + X) / 2), Expected(x + X)])
    assert all(output["passed"] for output in checker.outputs([call], 0))


def test_outputs_are_written_as_containers(checker: Checker, tmp_path: Path):
    """The same bytes as the Python writer gives, so that either side can be trusted."""
    done = checker.check([EMBED, KEPT, GIVEN], "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    first, second, third = read_outputs(tmp_path / "out")
    np.testing.assert_array_equal(first[0], Y)
    assert set(second) == {0}
    np.testing.assert_array_equal(third[1], X * 11)
    read = read_container(tmp_path / "out", Kind.CALLS)
    write_container(tmp_path / "again", Kind.CALLS, read.entries.values(), "tiny", "0.1.0")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "out").read_bytes()


def test_a_failed_call_is_told(checker: Checker):
    done = checker.check([GoldenCall("embed", [1], [np.array([99])], [Expected(Y[:1])])])
    assert done.returncode == 1
    assert "call 0: EDGEC_INDEX_OUT_OF_RANGE: [embed tokens] got 99" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a"],
        ["a", "b", "c"],
        ["a", "b", "--threads"],
        ["a", "b", "--threads", "x"],
        ["a", "b", "--repeat", "0"],
        ["a", "b", "--unknown"],
    ],
)
def test_wrong_usage_is_status_2(checker: Checker, words: list[str]):
    done = checker.run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("check MODEL.weights GOLDEN")


def test_files_that_cannot_be_used_are_status_2(checker: Checker, tmp_path: Path):
    done = checker.run(tmp_path / "nowhere", tmp_path / "nothing")
    assert (done.returncode, "EDGEC_CANNOT_OPEN" in done.stderr) == (2, True)
    done = checker.run(checker.weights, checker.weights)
    assert (done.returncode, "a file of another kind" in done.stderr) == (2, True)
    done = checker.check([EMBED], "--out", str(tmp_path / "no" / "folder"))
    assert (done.returncode, "cannot write it" in done.stderr) == (2, True)
    done = checker.check([EMBED], "--variant", "x")
    assert (done.returncode, "EDGEC_NO_SUCH_NAME" in done.stderr) == (2, True)


def entry(name: str, *values: float, dtype: str = "i8") -> Entry:
    return Entry.of(name, np.array(values, dtype))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "no call of a function of tiny"),
        ([entry("0/nothing/dims")], "no call of a function of tiny"),
        ([entry("0/embed/dims", 65)], "misfit of dim 0"),
        ([entry("0/embed/dims", 1, 1)], "misfit of dims 0"),
        ([entry("0/embed/dims", 1, dtype="f4")], "misfit of dims 0"),
        ([entry("0/embed/dims", 1)], "misfit of input 0"),
        ([entry("0/embed/dims", 1), entry("0/embed/input/0", 1, 2)], "misfit of input 0"),
        ([entry("0/step/dims"), entry("0/step/input/0", 1, 2, 3, 4)], "misfit of input 0"),
    ],
)
def test_golden_calls_of_another_model_are_refused(
    checker: Checker, tmp_path: Path, entries: list[Entry], reason: str
):
    write_container(tmp_path / "golden", Kind.CALLS, entries)
    done = checker.run(checker.weights, tmp_path / "golden")
    assert done.returncode == 2
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("name", "dtype", "count"),
    [
        ("output/0", "f8", 24),
        ("output/0", "f4", 23),
        ("tolerance/0", "f4", 24),
        ("tolerance/0", "f8", 2),
        ("exempt/0", "i8", 1),
    ],
)
def test_misfits_of_what_is_expected_are_refused(
    checker: Checker, tmp_path: Path, name: str, dtype: str, count: int
):
    golden: Container = write_golden(tmp_path / "golden", [EMBED])
    entries = dict(golden.entries)
    entries[f"0/embed/{name}"] = Entry.of(f"0/embed/{name}", np.zeros(count, dtype))
    write_container(tmp_path / "golden", Kind.CALLS, entries.values())
    done = checker.run(checker.weights, tmp_path / "golden")
    assert done.returncode == 2
    assert f"misfit of {name.split('/')[0]} 0" in done.stderr


def test_every_flipped_byte_of_the_golden_calls_is_refused(checker: Checker, tmp_path: Path):
    """Some of them: the reader's own test flips every bit."""
    write_golden(tmp_path / "golden", [EMBED])
    content = (tmp_path / "golden").read_bytes()
    for at in range(0, len(content), 101):
        (tmp_path / "golden").write_bytes(
            content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :]
        )
        assert checker.run(checker.weights, tmp_path / "golden").returncode == 2


@pytest.mark.parametrize(
    "expected",
    [Expected(Y, -1.0), Expected(Y, float("nan")), Expected(Y, np.zeros((3, 7)))],
)
def test_impossible_tolerances_are_not_written(tmp_path: Path, expected: Expected):
    with pytest.raises(FormatError, match="tolerance"):
        write_golden(tmp_path / "golden", [GoldenCall("embed", [3], [TOKENS], [expected])])
