"""The container reader on files that a fuzzer made: the corpus replayed, and a bounded new run.

A run that finds something new worth keeping: `clang -fsanitize=fuzzer,address,undefined ...` as
below, then `-merge=1 tests/runtime/corpus NEW`; a crash goes into the corpus with its fix.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgec.errors import FormatError
from edgec.runtime.container_reader import parse_container
from edgec.runtime.sources import library_sources
from tests.runtime.fuzzing import fuzz
from tests.runtime.tiny_model import C_TESTS, compile_c
from tests.runtime.tools import need

CORPUS = Path(__file__).resolve().parent / "corpus"
FUZZ = C_TESTS / "fuzz_container.c"
MEMORY = "-fsanitize=address,undefined"


def corpus_files() -> list[Path]:
    files = sorted(CORPUS.iterdir())
    assert len(files) >= 10
    return files


def test_the_corpus_is_replayed(tmp_path: Path) -> None:
    need("gcc", "gcc")
    flags = ("-O1", "-g", "-pthread", MEMORY, "-fno-sanitize-recover=all")
    sources = [FUZZ, C_TESTS / "replay.c", *library_sources()]
    program = compile_c(["gcc"], tmp_path / "replay", sources, *flags)
    done = subprocess.run([program, *corpus_files()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{len(corpus_files())} files\n"


def test_python_reads_or_refuses_the_corpus() -> None:
    """Nothing but FormatError comes out, with and without the hash of the payload."""
    read = 0
    for file in corpus_files():
        for verify in (True, False):
            try:
                parse_container(file.read_bytes(), file.name, verify=verify)
                read += 1
            except FormatError:
                pass
    assert read


@pytest.mark.slow
def test_a_bounded_run_of_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    fuzz([FUZZ, *library_sources()], CORPUS, tmp_path, "-max_len=4096")
