"""The C program of the documentation translates as `edgec translate` does."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgec.compiler.loading import load_model
from edgec.ir import Program
from edgec.passes import CLEANUP, parse_pipeline
from edgec.runner import tokenizer_files
from edgec.target import Artifact
from edgec.targets.native import Native
from edgec.tokenizer import load_tokenizer
from edgec.translate import Decoder, Generation, Translator
from tests.runtime.tools import need, need_zig
from tests.targets.native.small import emit, small

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "targets/native/README.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "runtime/examples/translate.c"
HELD_OUT = ROOT / "models/translate/checkpoint/heldout.tsv"
ODD = (
    "  cannot\topen   file ",
    "\u65e5\u672c \U0001f600 file",
    "e\u0301t\u00e9",
    "%s: %d \u00ab\u00bb",
    "a" * 90,
)


@dataclass(frozen=True)
class Built:
    """The translator in `folder`/release/model, and the program beside it."""

    folder: Path
    program: Program
    artifact: Artifact

    @property
    def model(self) -> Path:
        return self.folder / "release/model"

    def in_c(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["./translate", text], cwd=self.model, capture_output=True, text=True, timeout=60
        )

    def in_python(self, texts: Sequence[str], batch: int) -> list[str]:
        metadata = self.program.metadata
        run = Native.load(self.model).run
        decoder = Decoder(self.program.graphs, run, Generation.of(metadata))
        tokenizer = load_tokenizer(tokenizer_files(metadata))
        return Translator(decoder, tokenizer).translate(texts, batch=batch)


def documented_command() -> list[str]:
    """The steps of the command in the README."""
    found = re.findall(r"^<!-- command: translate -->\n```sh\n(.*?)\n```$", README, re.M | re.S)
    assert len(found) == 1
    return [step.strip() for step in found[0].replace("\\\n", "").split("&&")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The model as `edgec build` writes it, then the documented commands from there on."""
    need("cc", "gcc")
    folder = tmp_path_factory.mktemp("translation")
    program = load_model(f"hf:{ROOT / 'models/translate/checkpoint'}").program
    program, _ = parse_pipeline(CLEANUP).run(program)
    (folder / "release/model").mkdir(parents=True)
    artifact = emit(program, folder / "release/model", name="translate")
    (folder / "runtime").symlink_to(ROOT / "runtime")
    compile_ = documented_command()[1]
    done = subprocess.run(["sh", "-c", compile_], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Built(folder, program, artifact)


def held_out() -> list[str]:
    return [line.split("\t")[0] for line in HELD_OUT.read_text(encoding="utf-8").splitlines()]


def test_the_readme_has_the_whole_program() -> None:
    assert f"```c\n{EXAMPLE.read_text(encoding='utf-8')}```\n" in README


def test_the_documented_command_builds_and_translates() -> None:
    build, compile_, enter, translate = documented_command()
    assert build.startswith("edgec build hf:models/translate/checkpoint --target native ")
    assert compile_.startswith("cc ") and enter == "cd release/model"
    assert translate == './translate "cannot open file"'


def test_the_tokenizer_ships_and_counts(built: Built) -> None:
    size = (built.model / "translate.tokens").stat().st_size
    assert {"translate.tokens", "edgec/tokenizer.h"} <= set(built.artifact.files)
    assert f"translate.tokens: the tokenizer for C, {size} bytes" in built.artifact.notes


def test_sentences_are_translated_as_in_python(built: Built) -> None:
    texts = [*held_out()[::18], *ODD]
    assert len(texts) > 50
    assert [built.in_c(t).stdout.removesuffix("\n") for t in texts] == built.in_python(texts, 1)


@pytest.mark.slow
def test_the_held_out_set_is_translated_as_in_python(built: Built) -> None:
    texts = held_out()
    assert [built.in_c(t).stdout.removesuffix("\n") for t in texts] == built.in_python(texts, 16)


@pytest.mark.slow
def test_javascript_translates_as_c_does(built: Built, tmp_path: Path) -> None:
    need_zig()
    emit(built.program, tmp_path, ("wasm32-unknown-unknown",), name="translate")
    shutil.copyfile(EXAMPLE.with_name("translate_text.mjs"), tmp_path / "translate_text.mjs")
    command = [need("node", "nodejs"), str(tmp_path / "translate_text.mjs")]
    texts = [*held_out()[::150], *ODD, " "]
    made = [
        subprocess.run([*command, t], capture_output=True, text=True, timeout=60) for t in texts
    ]
    assert [m.stderr for m in made] == [""] * len(texts)
    assert [m.stdout for m in made] == [built.in_c(t).stdout for t in texts]
    refused = subprocess.run([*command, "file " * 300], capture_output=True, text=True, timeout=60)
    assert "EDGEC_TOO_LONG: [tokenize] got a text of " in refused.stderr


def test_blank_and_unusable_texts(built: Built) -> None:
    blank, long = built.in_c(" "), built.in_c("file " * 300)
    assert (blank.returncode, blank.stdout) == (0, "\n")
    assert long.returncode == 1
    assert "need at most 256; split the text" in long.stdout


def test_a_model_without_a_tokenizer_has_no_tokens(tmp_path: Path) -> None:
    artifact = emit(small(), tmp_path)
    assert not any("token" in text for text in (*artifact.files, *artifact.notes))


def test_text_of_other_tokenizers_stays_with_the_caller(tmp_path: Path) -> None:
    program = small()
    (tmp_path / "tokenizer.json").write_text("{}")
    program.metadata["tokenizer"] = {"files": {"tokenizer.json": str(tmp_path / "tokenizer.json")}}
    (tmp_path / "made").mkdir()
    artifact = emit(program, tmp_path / "made")
    assert not any("token" in name for name in artifact.files)
    (note,) = (n for n in artifact.notes if "token" in n)
    assert note.startswith(
        "no small.tokens, text stays with the caller: [native] got tokenizer files"
    )
