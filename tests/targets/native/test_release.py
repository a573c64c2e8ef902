"""Whole builds for this target: judged, verified, used by every command, and wrong ones found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import edgec
from edgec.compiler.emission import opener
from edgec.errors import UnsupportedError
from edgec.ir import Constant, Dense, Node, Program
from edgec.ops.activations import Gelu
from edgec.release import Release
from edgec.target import Artifact
from edgec.targets.native import Native
from edgec.validate import fidelity, make_cases
from tests.cli.harness import edgec as run
from tests.programs import classifier, decoder, residual

INT4 = ["quantize-weights{bits=4, group=32}"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A step with a state, a table that two functions share, narrower sizes than captured."""
    out = tmp_path_factory.mktemp("release") / "small"
    options = {"file_name": "small", "max_sizes": "batch=2,length=9"}
    return edgec.compile(decoder(), INT4, "native", out, options=options, max_ratio=1.0)


def test_a_build_is_accepted(release: Release) -> None:
    manifest = release.manifest
    assert (manifest.verdict, manifest.reasons) == ("ACCEPT", ())
    assert manifest.target == "native" and manifest.options["file_name"] == "small"
    names = {f.name for f in manifest.files if f.kind == "model"}
    assert {"model/small.h", "model/small.weights", "model/edgec/runtime.h"} < names
    assert max(c.dims["batch"] for c in manifest.fidelity.checked) == 2
    assert {c.label for c in manifest.fidelity.checked} >= {"typical", "smallest", "rollout"}
    (table,) = (c for c in manifest.constants if c.name == "table")
    assert table.support == "decoded" and "affine(bits=4" in table.encoding
    assert (release.path / "report.html").stat().st_size > 10_000


def test_it_is_verified_from_its_files(release: Release) -> None:
    found = release.verify()
    assert found.exit_code == 0
    assert {s.name for s in found.steps} >= {"files", "load", "fidelity", "sizes"}


def test_commands_take_it(release: Release) -> None:
    path = str(release.path)
    shown = run("inspect", path)
    assert shown.returncode == 0 and "small.weights" in shown.stdout
    done = run("run", path, "--function", "encode", "--input", "ids=[[1, 2, 3]]")
    assert done.returncode == 0 and "memory: float32[1, 3, 32]" in done.stdout
    wrong = run("run", path, "--function", "encode", "--input", "ids=[[1, 2, 4000]]")
    assert wrong.returncode != 0 and "got 4000 at 2; need 0 <= id < 40" in wrong.stderr


def test_what_the_release_says_is_json(release: Release) -> None:
    text = (release.path / "release.json").read_text()
    assert json.loads(text)["options"]["max_sizes"] == "batch=2,length=9"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("width=3", "max_sizes of width; need dimensions of the program: batch, length, past"),
        ("batch=0", "max_sizes leave no size of batch"),
        ("batch", "max_sizes 'batch'; need name=size, separated by commas"),
        ("batch=two", "need name=size"),
    ],
)
def test_sizes_that_do_not_fit_are_told(sizes: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=message):
        edgec.compile(decoder(), [], "native", tmp_path / "r", options={"max_sizes": sizes})
    assert not (tmp_path / "r").exists()


# ------------------------------------------------------------------ wrong artifacts
@dataclasses.dataclass(frozen=True)
class Spoiled(Native):
    """One constant gets another first element on its way into the file."""

    constant: str = ""

    def emit(self, program: Program, folder: Path, recipe: str = "") -> Artifact:
        written = program.copy()
        values = program.constants[self.constant].encoding.decode().clone()
        values.view(-1)[0] += 1
        written.constants[self.constant] = Constant(self.constant, Dense(values))
        graphs = {n: g.replace(constants=written.constants) for n, g in written.graphs.items()}
        return super().emit(Program(graphs, written.constants), folder, recipe)


def first_of(target: Native, program: Program, folder: Path) -> str:
    """The node that the check blames."""
    target.emit(target.legalize(program), folder)
    cases = make_cases(program, {"batch": 2})
    found = fidelity(program, Native.load(folder), cases, again=opener(target))
    assert not found.passed and found.first is not None
    return found.first.node


def test_a_wrong_weight_is_named(tmp_path: Path) -> None:
    """Though the library gives nothing but its outputs."""
    node = first_of(Spoiled(constant="layer0.bias"), classifier(), tmp_path)
    assert node.endswith("= linear(%x, @layer0.weight, @layer0.bias)")


def test_a_wrong_weight_in_the_middle_is_named(tmp_path: Path) -> None:
    node = first_of(Spoiled(constant="w1.1"), residual(), tmp_path)
    assert "@w1.1" in node and "linear" in node


@dataclasses.dataclass(frozen=True)
class Approximate(Native):
    """gelu with tanh in place of erf: off by 1e-3 at most."""

    def emit(self, program: Program, folder: Path, recipe: str = "") -> Artifact:
        return super().emit(program.map_graphs(lambda g: g.map_nodes(_with_tanh)), folder, recipe)


def _with_tanh(node: Node) -> Node:
    return dataclasses.replace(node, op=Gelu("tanh")) if node.op.name == "gelu" else node


def test_a_wrong_op_is_named(tmp_path: Path) -> None:
    node = first_of(Approximate(), classifier(), tmp_path)
    assert node.startswith("%hidden: f32[batch, 64] = gelu")
