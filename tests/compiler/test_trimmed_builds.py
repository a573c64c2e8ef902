"""Builds with fewer tokens: texts by each program's own tokenizer, tensors by their new ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import edgec
from edgec.cli import main
from edgec.compiler.samples import calibration_calls
from edgec.errors import ValidationError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, Constant, DType, Program, Range, State, TensorType, symbol
from edgec.metrics import Tensors, Texts
from edgec.passes import parse_pipeline
from edgec.release import Release
from edgec.sequences import Calls
from edgec.vocabulary import Vocabulary, changed
from tests.test_translate import marian

__all__ = ["marian"]  # a fixture
BATCH, SRC, PAST, V, E = symbol("batch"), symbol("src"), symbol("past"), 42, 16
TEXTS = ("open the window", "close the window", "save the file", "open 12 files")
OTHERS = ("print it", "close the document 34")


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def translator(marian: Path) -> Program:
    """Over one table for source, target and logits; writes tokens that suit source and past."""
    pool: dict[str, Constant] = {}
    ids = TensorType(DType.I64, (BATCH, SRC))
    sizes = {"batch": Range(1, 64), "src": Range(1, 64)}
    b = Builder.new("encode", [("input_ids", ids), ("attention_mask", ids)], pool, dict(sizes))
    table = b.constant(tensor(V, E), "table")
    mask = b.reshape(b.cast(b.input("attention_mask"), dtype=DType.F32), shape=(BATCH, SRC, 1))
    rows = b.mul(b.gather(table, b.input("input_ids")), mask)
    b.finish([b.tanh(b.reduce_sum(rows, axes=(1,)))], ["memory"])
    inputs = [
        ("token", TensorType(DType.I64, (BATCH, 1))),
        ("attention_mask", ids),
        ("cache", TensorType(DType.F32, (BATCH, PAST, E))),
        ("memory", TensorType(DType.F32, (BATCH, E))),
    ]
    s = Builder.new("step", inputs, pool, {**sizes, "past": Range(0, 15)})
    grown = s.concat(s.input("cache"), s.gather("@table", s.input("token")), axis=1)
    seen = s.add(s.reduce_sum(s.sin(grown), axes=(1,)), s.input("memory"))
    logits = s.linear(s.tanh(seen), "@table", s.constant(tensor(V, seed=1), "bias"))
    s.finish([logits, grown], ["logits", "grown"])
    s.graph.states = (State("cache", "grown"),)
    made = Program({"encode": b.graph, "step": s.graph}, pool).verify()
    made.metadata |= {
        "task": "translate",
        "tokenizer": {"files": {n: str(marian / n) for n in ("source.spm", "vocab.json")}},
        "generation": {"decoder_start": 41, "eos": 0, "pad": 41, "banned": [41], "max_length": 6},
    }
    return made


def written(program: Program, texts) -> list[str]:
    from edgec.metrics.predict import translator as of
    from edgec.runner import Runner

    return of(Runner.of_program(program)).translate(list(texts))


@pytest.fixture(scope="module")
def corpus(marian, tmp_path_factory) -> Path:
    """The texts, and what the translator writes for them."""
    path = tmp_path_factory.mktemp("corpus") / "texts.tsv"
    program = translator(marian)
    pairs = zip(TEXTS, written(program, TEXTS), strict=True)
    path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    return path


def releases(program: Program, corpus: Path, out: Path, **options) -> Release:
    spec = f"trim-vocabulary{{keep='{corpus}'}}"
    return edgec.compile(program, [spec, "quantize-weights{bits=8}"], "onnx", out, **options)


def test_a_translator_is_built_verified_and_translates(marian, corpus, tmp_path, capsys) -> None:
    program, out = translator(marian), tmp_path / "out"
    data = Texts((*TEXTS, *OTHERS), tuple(written(program, (*TEXTS, *OTHERS))))
    release = releases(program, corpus, out, data=data, metric="chrf")
    quality = release.manifest.quality
    assert release.manifest.fidelity.passed and quality.agreement == 1.0
    assert quality.original == pytest.approx(100.0)
    kept = release.metadata["vocabulary"]["kept"]
    assert len(kept) < V and "kept" not in release.metadata["tokenizer"]
    assert len(json.loads((out / "tokenizer" / "vocab.json").read_text())) == len(kept)
    assert (out / "tokenizer" / "source.spm").stat().st_size < (
        marian / "source.spm"
    ).stat().st_size
    assert release.verify().passed
    assert main(["translate", str(out), *TEXTS]) == 0
    assert capsys.readouterr().out.splitlines() == written(program, TEXTS)
    assert main(["translate", str(out), "an unseen text"]) == 0


def test_calibration_data_say_what_is_kept_and_calibrate_later_passes(marian, tmp_path) -> None:
    program = translator(marian)
    release = edgec.compile(
        program,
        ["trim-vocabulary", "gptq{bits=8,min_numel=64}"],
        "onnx",
        tmp_path / "out",
        data=Texts(TEXTS),
        metric="chrf",
        calibration=Texts(TEXTS),
    )
    assert release.manifest.quality.same_as_original == 1.0
    (trim, gptq) = release.manifest.passes[-2:]
    assert trim.modified and gptq.errors.keys() == {"table"}
    assert release.verify().passed


def test_passes_that_compare_with_the_original_see_the_same_tokens(marian) -> None:
    """Sequences of calls get new ids, and the teacher of distillation the same logits."""
    program = translator(marian)
    given = calibration_calls(program, Texts(TEXTS))
    specs = ["trim-vocabulary", "quantize-weights{bits=4,min_numel=64}"]
    trimmed, _ = parse_pipeline(specs).run(program, calibration=given)
    taught, records = parse_pipeline([*specs, "distill{steps=20}"]).run(program, calibration=given)
    assert records[-1].modified
    ids = changed(program, taught)
    assert ids is not None and isinstance(given, Calls) and given.sequences
    renumbered = ids.new_calls(program.graphs, given)
    assert len(renumbered.sequences) == len(given.sequences)
    lost = [distance(program, made, ids, renumbered["step"]) for made in (trimmed, taught)]
    assert lost[1] < lost[0]


def distance(original: Program, made: Program, ids: Vocabulary, calls) -> float:
    """Squared difference of the logits of kept tokens."""
    graph, total = original.graphs["step"], 0.0
    for call in calls:
        want = Interpreter(original).run(ids.old_call(graph, call), "step")
        got = Interpreter(made).run(call, "step")[0]
        total += float((got - ids.narrowed(graph, want)[0]).square().sum())
    return total


def test_a_recipe_looks_beside_itself(marian, corpus, tmp_path, monkeypatch) -> None:
    (tmp_path / "corpus.tsv").write_text(corpus.read_text())
    (tmp_path / "made.py").write_text("def model(): ...\n")
    from edgec.compiler.loading import Model

    program = translator(marian)
    monkeypatch.setattr("edgec.compiler.variants.load_model", lambda *_: Model(program, "tiny"))
    recipe = """
model = "made:model"
[evaluation]
data = "corpus.tsv"
metric = "chrf"
[build.plain]
[build.trimmed]
passes = ["trim-vocabulary{keep='corpus.tsv'}"]
"""
    (tmp_path / "recipe.toml").write_text(recipe)
    assert main(["build", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out")]) == 0
    plain, trimmed = (Release.load(tmp_path / "out" / n) for n in ("plain", "trimmed"))
    assert trimmed.manifest.quality.value == plain.manifest.quality.value == pytest.approx(100.0)
    assert trimmed.bytes < plain.bytes


# ------------------------------------------------------------------ one function, tensors
def scores() -> Program:
    """main(ids) -> a score for each of 40 tokens."""
    ids = TensorType(DType.I64, (BATCH, SRC))
    b = Builder.new("main", [("ids", ids)], {}, {"batch": Range(1, 8), "src": Range(1, 16)})
    table = b.constant(tensor(40, E), "table")
    rows = b.gather(table, b.input("ids"))
    graph = b.finish([b.linear(b.tanh(rows), table, None)], ["logits"])
    return Program({"main": graph}, graph.constants).verify()


@pytest.fixture
def ids_file(tmp_path) -> Path:
    path = tmp_path / "ids.json"
    path.write_text(json.dumps(list(range(0, 40, 3))))
    return path


def test_tensors_are_renumbered_and_logits_compared_for_kept_tokens(ids_file, tmp_path) -> None:
    calls = tuple(("main", (torch.tensor([[0, 3 * i, 39]]),)) for i in range(5))
    spec = f"trim-vocabulary{{keep='{ids_file}'}}"
    for data in (Tensors(calls), None):
        release = edgec.compile(
            scores(), [spec], "onnx", tmp_path / "out", data=data, metric="cosine", force=True
        )
        quality = release.manifest.quality
        assert release.verdict == "ACCEPT", release.manifest.reasons
        assert quality.value == pytest.approx(1.0, abs=1e-6)
        assert release.manifest.passes[-1].deviation_max_ratio in (None, pytest.approx(0, abs=1e-6))
        assert release.verify().passed
    got = release.run(torch.tensor([[0, 1, 13]]))
    want = Interpreter(scores()).run([torch.tensor([[0, 3, 39]])])[0]
    torch.testing.assert_close(got, want[..., list(range(0, 40, 3))])


def test_samples_of_ones_own_are_renumbered(ids_file, tmp_path) -> None:
    spec = f"trim-vocabulary{{keep='{ids_file}'}}"
    samples = {"main": [[torch.tensor([[3, 6]])], [torch.tensor([[4, 6]])]]}
    release = edgec.compile(scores(), [spec], "onnx", tmp_path / "out", samples=samples)
    assert release.verdict == "ACCEPT", release.manifest.reasons
    labels = [c.label for c in release.manifest.fidelity.checked]
    assert labels[0] == "example" and "example 2" not in labels


def test_data_with_tokens_that_were_left_out_are_told(ids_file, tmp_path) -> None:
    data = Tensors((("main", (torch.tensor([[3]]),)), ("main", (torch.tensor([[4]]),))))
    spec = f"trim-vocabulary{{keep='{ids_file}'}}"
    with pytest.raises(ValidationError, match="samples 1 with tokens that were left out"):
        edgec.compile(scores(), [spec], "onnx", tmp_path / "out", data=data, metric="cosine")


def test_texts_without_references_do_not_say_what_a_translator_writes(marian, tmp_path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    with pytest.raises(edgec.errors.PassError, match="source and reference, split by a tab"):
        releases(translator(marian), tmp_path / "texts.txt", tmp_path / "out")
    (tmp_path / "empty.tsv").write_text("\n")
    with pytest.raises(edgec.errors.PassError, match="without a line"):
        releases(translator(marian), tmp_path / "empty.tsv", tmp_path / "out")
    (tmp_path / "one.tsv").write_text("open the window\n")
    with pytest.raises(edgec.errors.PassError, match="other lines; need source and reference"):
        releases(translator(marian), tmp_path / "one.tsv", tmp_path / "out")


def test_an_embedder_of_texts_is_evaluated_with_both_tokenizers(tmp_path) -> None:
    """A tokenizer.json: texts have other ids in the build, and the same outputs."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *dict.fromkeys(" ".join((*TEXTS, *OTHERS)).split()), *"abcdefghijkl"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    ids = TensorType(DType.I64, (BATCH, SRC))
    sizes = {"batch": Range(1, 8), "src": Range(1, 16)}
    b = Builder.new("main", [("input_ids", ids), ("attention_mask", ids)], {}, sizes)
    rows = b.gather(b.constant(tensor(len(words) + 3, E), "table"), b.input("input_ids"))
    seen = b.reshape(b.cast(b.input("attention_mask"), dtype=DType.F32), shape=(BATCH, SRC, 1))
    graph = b.finish([b.reduce_mean(b.mul(rows, seen), axes=(1,))], ["embedding"])
    program = Program({"main": graph}, graph.constants).verify()
    program.metadata["tokenizer"] = {"files": {"tokenizer.json": str(tmp_path / "tokenizer.json")}}
    (tmp_path / "keep.txt").write_text("\n".join(TEXTS))
    spec = f"trim-vocabulary{{keep='{tmp_path / 'keep.txt'}'}}"
    release = edgec.compile(
        program, [spec], "onnx", tmp_path / "out", data=Texts(TEXTS), metric="cosine"
    )
    assert release.verdict == "ACCEPT", release.manifest.reasons
    assert release.manifest.quality.value == pytest.approx(1.0)
    assert release.metadata["vocabulary"]["original"] == len(words) + 3
    assert len(release.metadata["vocabulary"]["kept"]) == 1 + len(set(" ".join(TEXTS).split()))
    assert release.verify().passed
