"""`edgec translate`: lines in and lines out, and what is said about texts that cannot work."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgec as package
from edgec.cli import main
from tests.cli.harness import edgec, one_line, only_error
from tests.test_translate import EOS, PAD, START, marian, program

__all__ = ["marian"]  # a fixture


@pytest.fixture(scope="module")
def release(marian, tmp_path_factory, reference_target) -> Path:
    """A translator of at most 16 pieces, by the interpreter."""
    made = program(0)
    files = {n: str(marian / n) for n in ("source.spm", "vocab.json")}
    made.metadata |= {
        "task": "translate",
        "tokenizer": {"files": files},
        "generation": {"decoder_start": START, "eos": EOS, "pad": PAD, "max_length": 4},
    }
    out = tmp_path_factory.mktemp("translate") / "out"
    package.compile(made, [], "reference", out)
    return out


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_texts_are_translated(release, capsys) -> None:
    assert main(["translate", str(release), "open the file", "close a window"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2 and captured.err == ""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_comes_out_for_each_line(release, capsys, monkeypatch, end) -> None:
    assert main(["translate", str(release), "open the file", "close"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    feed(monkeypatch, end.join(["", "open the file", " ", "close", "", ""]).encode())
    assert main(["translate", str(release)]) == 0
    assert capsys.readouterr().out.split("\n") == ["", first, "", second, "", ""]


def test_without_any_text_there_is_nothing_to_do(release, capsys, monkeypatch) -> None:
    feed(monkeypatch, b"")
    assert main(["translate", str(release)]) == 2
    assert "no text" in one_line(capsys)
    monkeypatch.setattr("sys.stdin", None)
    assert main(["translate", str(release)]) == 2
    assert "no text" in one_line(capsys)
    assert main(["translate", str(release), "open", " "]) == 2
    assert "empty text 2" in one_line(capsys)


def test_a_text_of_unknown_pieces_is_named(release, capsys) -> None:
    assert main(["translate", str(release), "open", "文字"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.split("\n")) == 3
    (line,) = [text for text in captured.err.splitlines() if "text 2" in text]
    assert line == "warning: text 2 ('文字'): the model's vocabulary has no piece of it"


def test_a_text_that_is_too_long_is_named(release, capsys, monkeypatch) -> None:
    feed(monkeypatch, b"open\n\n" + b"close a window " * 9 + b"\n")
    assert main(["translate", str(release)]) == 2
    line = one_line(capsys)
    assert "text 3 ('close a window" in line and "need at most 16 tokens; split the text" in line


def test_lines_that_are_no_text_are_named(release, capsys, monkeypatch) -> None:
    feed(monkeypatch, b"open\nclose \xff\n")
    assert main(["translate", str(release)]) == 2
    assert "[standard input] got bytes that are no text in line 2" in one_line(capsys)


def test_arguments_that_are_no_text_are_refused(release) -> None:
    for arguments in (["translate", release, b"\xff"], ["inspect", b"a\xff"], [b"\xff"]):
        done = edgec(*map(bytes, map(_encoded, arguments)))
        assert done.returncode == 2
        assert "[command line] got bytes that are no text" in only_error(done.stderr)


def _encoded(argument: object) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


def test_output_that_the_terminal_cannot_show_is_escaped(release, tmp_path) -> None:
    shutil.copytree(release, tmp_path / "没有")
    done = edgec("verify", str(tmp_path / "没有"), "-q", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\u6ca1\\u6709" in done.stdout


def test_a_full_device_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgec", "list", "metrics"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert "No space left on device" in only_error(done.stderr.decode())


def test_another_model_is_no_translator(built, capsys) -> None:
    assert main(["translate", str(built), "hello"]) == 2
    assert "generation settings" in one_line(capsys)
