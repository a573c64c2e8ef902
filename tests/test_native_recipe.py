"""The reference translator as C libraries, by the recipe that ships: what it must show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgec.release import Release
from edgec.release.summary import load_summary
from tests.runtime.tools import need

pytestmark = pytest.mark.slow

RECIPE = Path(__file__).parents[1] / "models/translate/native.toml"
LIBRARY_BYTES = 400_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("cc", "gcc")
    folder = tmp_path_factory.mktemp("native") / "release"
    command = [sys.executable, "-m", "edgec", "build", str(RECIPE), "--out", str(folder), "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_variant_keeps_what_it_promises(built: Path) -> None:
    rows = {r.name: r for r in load_summary(built).variants}
    assert {n: r.verdict for n, r in rows.items()} == dict.fromkeys(
        ("fp32", "int8", "int4"), "ACCEPT"
    )
    assert rows["int8"].ratio <= 0.27 and rows["int8"].drop <= 0.3
    assert rows["int4"].ratio <= 0.17 and float(rows["int4"].figures["bleu"]) > 38


@pytest.mark.parametrize("name", ["fp32", "int8", "int4"])
def test_a_variant_says_what_the_interpreter_says(built: Path, name: str) -> None:
    quality = Release.load(built / name).manifest.quality
    assert quality.agreement_samples == 200
    assert quality.agreement is not None and quality.agreement >= 0.99
    (library,) = (built / name / "model/lib").glob("*/libtranslate.so")
    assert library.stat().st_size <= LIBRARY_BYTES
