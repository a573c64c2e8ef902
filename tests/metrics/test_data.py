"""Evaluation data: read from files, kept as evidence, damage told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgec.errors import FormatError, RecipeError, ValidationError
from edgec.metrics import Tensors, Texts, predict, read_data
from edgec.metrics.data import Evidence, load_evidence, save_evidence
from edgec.runner import Runner
from tests.programs import classifier


def read(path: Path) -> Texts | Tensors:
    return read_data(path, "main", ["x"])


def test_pairs_and_sources_are_read(tmp_path) -> None:
    (tmp_path / "pairs.tsv").write_text("one\teins\n\ntwo\tzwei\n", "utf-8")
    assert read(tmp_path / "pairs.tsv") == Texts(("one", "two"), ("eins", "zwei"))
    (tmp_path / "lines.txt").write_text("one\n\nzwölf\n", "utf-8")
    assert read(tmp_path / "lines.txt") == Texts(("one", "zwölf"))
    assert read(tmp_path / "pairs.tsv").first(1) == Texts(("one",), ("eins",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"one\teins\nno tab\nx\ty\tz\n", r"lines \[2, 3\] of 3"),
        ("a.tsv", b"\n\none\teins\n\nno tab\n", r"lines \[5\] of 5"),
        ("a.tsv", b"\n", "no lines"),
        ("a.tsv", b"one\t \n", r"lines \[1\]"),
        ("a.txt", b"", "no lines"),
        ("a.txt", b"\xff\xfe\x00", "UTF-8"),
        ("a.safetensors", b"junk", "damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, message) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": torch.zeros(0, 64)}, r"\[0\] samples; need at least one"),
        ({"x": torch.tensor(1.0)}, r"\[0\] samples; need at least one"),
        ({"x": torch.zeros(2, 64), "labels": torch.zeros(3).long()}, "one count for all"),
        ({"x": torch.zeros(2, 64), "labels": torch.zeros(2)}, "labels of float32; need whole"),
        ({"x": torch.tensor([[1.0, torch.nan]])}, "NaN in x; need numbers"),
        ({"y": torch.zeros(2, 64)}, "tensors y; need x"),
    ],
)
def test_tensors_that_are_no_samples(tmp_path, tensors, message) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match=message):
        read(tmp_path / "a.safetensors")


def test_only_the_end_of_a_line_ends_a_text(tmp_path) -> None:
    (tmp_path / "a.txt").write_bytes("one\u2028line\x0bonly\r\ntwo".encode())
    assert read(tmp_path / "a.txt") == Texts(("one\u2028line\x0bonly", "two"))


def test_other_files_are_refused(tmp_path) -> None:
    with pytest.raises(RecipeError, match="need a file that exists"):
        read(tmp_path / "a.tsv")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(RecipeError, match=r"\.tsv, \.txt or \.safetensors"):
        read(tmp_path / "a.csv")


def test_tensors_become_one_call_per_sample(tmp_path) -> None:
    x = torch.randn(3, 64)
    save_file({"x": x, "labels": torch.tensor([1, 2, 3])}, tmp_path / "a.safetensors")
    data = read(tmp_path / "a.safetensors")
    assert isinstance(data, Tensors)
    assert [f for f, _ in data.calls] == ["main"] * 3
    assert torch.equal(torch.cat([i[0] for _, i in data.calls]), x)
    labels = data.first(2).labels
    assert labels is not None and labels.tolist() == [1, 2]


def test_evidence_repeats_the_measurement(tmp_path) -> None:
    texts = Texts(("ä", "b"), ("c", "d"))
    save_evidence(tmp_path / "t", texts, ["o", "p"], ["q", "r"], ["s"])
    assert load_evidence(tmp_path / "t") == Evidence(texts, ["o", "p"], ["q", "r"], ["s"])
    calls = (("encode", (torch.randn(1, 2),)), ("step", (torch.arange(3), torch.randn(2))))
    data = Tensors(calls, torch.tensor([4, 5]))
    original = [torch.randn(3), torch.randn(2, 2)]
    got = [t + 1 for t in original]
    save_evidence(tmp_path / "n", data, original, got, [])
    evidence = load_evidence(tmp_path / "n")
    again = evidence.data
    assert isinstance(again, Tensors) and again.labels is not None
    assert evidence.interpreted == []
    assert [f for f, _ in again.calls] == ["encode", "step"]
    before, after = ([t for _, i in c for t in i] for c in (calls, again.calls))
    assert all(map(torch.equal, before, after))
    for kept, wanted in ((evidence.original, original), (evidence.got, got)):
        assert all(torch.equal(torch.as_tensor(a), b) for a, b in zip(kept, wanted, strict=True))


def test_evidence_of_texts_whose_predictions_are_tensors(tmp_path) -> None:
    texts = Texts(("ä", "b"), None)
    original, got = [torch.randn(3), torch.randn(2)], [torch.randn(3), torch.randn(2)]
    save_evidence(tmp_path, texts, original, got, [])
    found = load_evidence(tmp_path)
    assert found.data == texts and found.interpreted == []
    for kept, wanted in ((found.original, original), (found.got, got)):
        assert all(torch.equal(torch.as_tensor(a), b) for a, b in zip(kept, wanted, strict=True))
    save_evidence(tmp_path, Texts(("a", "b", "c")), original, got, [])
    with pytest.raises(FormatError, match="damaged: no 'original/2'"):
        load_evidence(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"sources": 3}', b"[1]"])
def test_damaged_evidence_is_refused(tmp_path, content) -> None:
    (tmp_path / "samples.json").write_bytes(content)
    with pytest.raises(FormatError, match="damaged"):
        load_evidence(tmp_path)


def test_predictions_are_the_first_output_or_all_of_them() -> None:
    program = classifier()
    x = torch.randn(1, 64)
    data = Tensors((("main", (x,)),))
    (first,) = predict(Runner.of_program(program), data)
    (whole,) = predict(Runner.of_program(program), data, whole=True)
    assert torch.equal(torch.as_tensor(first), program.run(x))
    assert torch.equal(torch.as_tensor(whole), program.run(x).reshape(-1))


def test_texts_need_a_model_of_text() -> None:
    with pytest.raises(ValidationError, match="a tokenizer and one function"):
        predict(Runner.of_program(classifier()), Texts(("a",)))
