"""The reference translator, built as the README says: what the main command must show."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgec.release import Release
from edgec.release.summary import Row, Summary, load_summary
from edgec.report.samples import changes_of, read_texts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models/translate"
# CPU seconds of all threads together: less than the three minutes that the build may take.
CPU_SECONDS = 180
MEMORY_BYTES = 3e9


@dataclass(frozen=True)
class Built:
    """A finished build: where, its table, and the CPU seconds of its process."""

    folder: Path
    summary: Summary
    cpu_s: float

    @property
    def rows(self) -> Mapping[str, Row]:
        return {r.name: r for r in self.summary.variants}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    import resource

    folder = tmp_path_factory.mktemp("main") / "release"
    command = [sys.executable, "-m", "edgec", "build", str(MODEL / "recipe.toml")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, "--out", str(folder), "-q"], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    spent = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return Built(folder, load_summary(folder), spent)


def test_every_variant_is_accepted(built: Built) -> None:
    assert {n: r.verdict for n, r in built.rows.items()} == dict.fromkeys(
        ("fp32", "int8", "int4"), "ACCEPT"
    )
    assert built.summary.default == "int4"


def test_int8_is_a_quarter_and_loses_next_to_nothing(built: Built) -> None:
    assert built.rows["int8"].ratio <= 0.27
    assert built.rows["int8"].drop <= 0.3


def test_int4_is_a_sixth_and_says_its_score(built: Built) -> None:
    assert built.rows["int4"].ratio <= 0.17
    assert built.rows["int4"].figures["bleu"] == built.rows["int4"].value > 32


@pytest.mark.parametrize("name", ["fp32", "int8", "int4"])
def test_the_artifact_says_what_the_interpreter_says(built: Built, name: str) -> None:
    quality = Release.load(built.folder / name).manifest.quality
    assert quality.agreement_samples == 200
    assert quality.agreement is not None and quality.agreement >= 0.99
    assert quality.min_agreement == 0.99
    evidence = json.loads((built.folder / name / "evidence/quality/samples.json").read_bytes())
    pairs = zip(evidence["got"][:200], evidence["interpreted"], strict=True)
    assert sum(a == b for a, b in pairs) == round(200 * quality.agreement)


def test_the_report_shows_the_changed_texts(built: Built) -> None:
    texts = read_texts(built.folder / "int4")
    assert texts is not None
    changes = changes_of(texts)
    assert changes.same < changes.samples == 936
    shown = html.unescape((built.folder / "int4" / "report.html").read_text("utf-8"))
    assert all(example.source in shown for example in changes.worst)


@pytest.mark.parametrize(("name", "bits"), [("fp32", 32), ("int8", 8), ("int4", 4)])
def test_the_shared_embedding_is_stored_once(built: Built, name: str, bits: int) -> None:
    """Both graphs, and within one the look-up and the output layer, read the same bytes."""
    import onnx

    places = set()
    for path in sorted((built.folder / name / "model").glob("*.onnx")):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            place = {e.key: e.value for e in tensor.external_data}
            if int(place.get("length", len(tensor.raw_data))) >= 8000 * 256 * bits // 8:
                places.add((place["location"], place["offset"]))
    assert len(places) == 1


def test_time_and_memory(built: Built) -> None:
    assert built.cpu_s < CPU_SECONDS
    assert built.summary.peak_bytes is not None
    assert built.summary.peak_bytes < MEMORY_BYTES


def test_the_release_translates_and_holds_on_its_own(built: Built, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    built.folder.rename(moved)
    try:
        for command in (["translate", str(moved), "cannot open file"], ["verify", str(moved)]):
            run = [sys.executable, "-m", "edgec", *command]
            done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            if command[0] == "translate":
                assert "nicht geöffnet werden" in done.stdout
    finally:
        moved.rename(built.folder)


def test_the_readme_shows_what_the_build_shows(built: Built) -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    for name, row in built.rows.items():
        line = next(text for text in lines if re.match(rf"\| {name}\b", text))
        cells = [c.strip() for c in line.strip("|").split("|")]
        assert cells[1] == f"{row.model_bytes / 1e6:.2f} MB"
        assert cells[2] == f"{row.ratio:.3f}"
        assert cells[6] == f"{100 * (row.agreement or 0):.0f} %"
        # Another processor may translate single sentences differently.
        assert float(cells[4]) == pytest.approx(row.value, abs=0.15)
