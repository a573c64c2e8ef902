"""trim-vocabulary: fewer tokens everywhere, and the same for those that are left."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import edgec
from edgec.errors import PassError
from edgec.interpreter import Interpreter, flatten
from edgec.ir import Builder, DType, Program, Range, TensorType
from edgec.passes import CLEANUP, parse_pass, parse_pipeline
from edgec.passes.trim_vocabulary import TrimVocabulary
from edgec.passes.vocabulary_use import token_tables
from edgec.targets.onnx import Onnx
from edgec.transform import differs
from edgec.vocabulary import Vocabulary, changed
from tests.architectures import ZOO
from tests.programs import BATCH, LENGTH, VOCABULARY, WIDTH, decoder, embedder

KEPT = (1, 2, 3, 5, 8, 13, 21, 34, 39)


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def keep(tmp_path):
    """A file of ids, as an option."""

    def write(ids=KEPT, name="ids.json"):
        path = tmp_path / name
        path.write_text(ids if isinstance(ids, str) else json.dumps(list(ids)))
        return str(path)

    return write


def apply(given: Program, *more, calibration=None, samples=None, **options):
    """Through the pipeline, so that every contract of a pass is checked on the way."""
    pipeline = parse_pipeline([TrimVocabulary(**options), *more])
    return pipeline.run(given, samples, calibration=calibration)


def old(ids):
    return torch.tensor(KEPT)[ids]


def kept_ids(given):
    found = Vocabulary.of(given)
    assert found is not None
    return found.kept


def new_ids(seed, *shape):
    return torch.randint(0, len(KEPT), shape, generator=torch.Generator().manual_seed(seed))


def step_inputs(token, seed=0):
    return [token, tensor(2, 5, WIDTH, seed=seed), tensor(2, 3, WIDTH, seed=seed + 1)]


# ------------------------------------------------------------------ what is computed
def test_tables_and_logits_of_all_functions_lose_the_other_tokens(keep):
    before = decoder()
    after, (record,) = apply(before, keep=keep())
    assert after.constants["table"].type.shape == (9, WIDTH)
    assert after.nbytes == 9 * WIDTH * 4 and record.notes == ("9 of 40 tokens are kept",)
    ids = new_ids(1, 2, 4)
    torch.testing.assert_close(
        Interpreter(after).run([ids], "encode"), Interpreter(before).run([old(ids)], "encode")
    )
    token = new_ids(2, 2, 1)
    got = Interpreter(after).run(step_inputs(token), "step")
    want = Interpreter(before).run(step_inputs(old(token)), "step")
    torch.testing.assert_close(got[0], want[0][:, list(KEPT)])
    torch.testing.assert_close(got[1], want[1])
    assert after.graphs["step"].output_types()[0].shape == (BATCH, 9)
    assert after.graphs["step"].signature().count("f32[batch, 9]") == 1


def test_the_emitted_file_computes_the_same(keep, tmp_path):
    after, _ = apply(decoder(), "quantize-weights{bits=8}", keep=keep())
    target = Onnx()
    target.emit(target.legalize(after), tmp_path)
    inputs = step_inputs(new_ids(2, 2, 1))
    got = target.load(tmp_path).run("step", inputs)
    torch.testing.assert_close(list(got), list(Interpreter(after).run(inputs, "step")))


def test_the_metadata_say_what_the_ids_were(keep):
    before = decoder()
    before.metadata["generation"] = {
        "eos": 13, "pad": 39, "decoder_start": 39, "banned": [4, 39], "all_eos": [13, 21],
        "max_length": 7,
    }  # fmt: skip
    after, _ = apply(before, keep=keep(KEPT[:-1]))
    assert after.metadata["vocabulary"] == {
        "original": VOCABULARY,
        "kept": list(KEPT),  # 39 is needed to decode
        "inputs": {"encode": ["ids"], "step": ["token"]},
        "outputs": {"step": {"logits": 1}},
    }
    assert after.metadata["generation"] == {
        "eos": 5, "pad": 8, "decoder_start": 8, "banned": [8], "all_eos": [5, 6], "max_length": 7,
    }  # fmt: skip
    assert json.loads(json.dumps(after.metadata)) == after.metadata


def head(b, x):
    """Everything that an output layer of its own may be followed by."""
    w, bias = b.constant(tensor(40, WIDTH, seed=4), "head"), b.constant(tensor(40), "bias")
    y = b.linear(b.tanh(x), w, bias)
    y = b.mul(b.add(y, b.constant(tensor(1, 40, seed=5), "more")), b.scalar(2.0, DType.F32))
    y = b.permute(b.reshape(y, shape=(BATCH, 1, LENGTH, 40)), order=(0, 3, 1, 2))
    y = b.reshape(
        b.add(y, b.constant(tensor(40, 1, 1, seed=6), "shift")), shape=(BATCH, 40, LENGTH)
    )
    y = b.permute(y, order=(0, 2, 1))
    return b.slice(y, axis=1, start=0, stop=1, step=1)


def tagger(ends=lambda b, y: [y]) -> Program:
    """main(ids) -> scores, of a table and an output layer, masked where an id is 3."""
    ids = TensorType(DType.I64, (BATCH, LENGTH))
    sizes = {"batch": Range(1, 8), "length": Range(1, 16)}
    b = Builder.new("main", [("ids", ids)], {}, sizes)
    seen = b.cast(b.ne(b.input("ids"), b.scalar(3, DType.I64)), dtype=DType.F32)
    x = b.gather(
        b.constant(tensor(40, WIDTH), "table"), b.reshape(b.input("ids"), shape=(BATCH, LENGTH))
    )
    x = b.mul(x, b.reshape(seen, shape=(BATCH, LENGTH, 1)))
    graph = b.finish(ends(b, head(b, x)))
    return Program({"main": graph}, graph.constants).verify()


def test_output_layers_of_their_own_are_followed(keep):
    before = tagger()
    after, _ = apply(before, keep=keep())
    for name, shape in (
        ("head", (9, WIDTH)),
        ("bias", (9,)),
        ("more", (1, 9)),
        ("shift", (9, 1, 1)),
    ):
        assert after.constants[name].type.shape == shape
    ids = new_ids(0, 3, 6)
    (got,), (want,) = Interpreter(after).run([ids]), Interpreter(before).run([old(ids)])
    torch.testing.assert_close(got, want[..., list(KEPT)])


def test_a_choice_of_tokens_is_one_of_the_new_ids(keep):
    def ends(b, y):
        best = b.argmax(b.softmax(y, axis=-1), axis=-1)
        return [best, b.reduce_max(y, axes=(2,)), b.reduce_sum(y, axes=(0,), keep=True)]

    before = tagger(ends)
    everything = [i for i in range(40) if i != 38]
    after, _ = apply(before, keep=keep(everything))
    ids = torch.tensor([[3, 1, 5]])
    got, want = Interpreter(after).run([ids]), Interpreter(before).run([ids])
    assert [everything[i] for i in got[0].flatten()] == want[0].flatten().tolist()
    torch.testing.assert_close(got[2], want[2][..., everything])


@pytest.mark.parametrize("name", ["lt", "le", "gt", "ge", "eq", "ne"])
@pytest.mark.parametrize("turned", [False, True])
def test_comparisons_with_ids_stay_what_they_were(keep, name, turned):
    ids = TensorType(DType.I64, (LENGTH,))
    for number in (0, 1, 4, 8, 20, 39):
        b = Builder.new("main", [("ids", ids)], {}, {"length": Range(1, 64)})
        pair = [b.input("ids"), b.scalar(number, DType.I64)]
        told = getattr(b, name)(*(pair[::-1] if turned else pair))
        graph = b.finish([b.gather(b.constant(tensor(40, 4), "table"), b.input("ids")), told])
        before = Program({"main": graph}, graph.constants).verify()
        after, _ = apply(before, keep=keep())
        kept = torch.tensor(kept_ids(after))  # eq and ne keep their number
        got = Interpreter(after).run([torch.arange(len(kept))])
        torch.testing.assert_close(got, Interpreter(before).run([kept]))


def test_what_else_reads_a_constant_keeps_all_of_it(keep):
    def ends(b, y):
        return [y, b.reduce_sum(b.constant(tensor(40), "bias"), axes=(0,))]

    before = tagger(ends)
    after, _ = apply(before, keep=keep())
    ids = new_ids(0, 2, 3)
    got, want = Interpreter(after).run([ids]), Interpreter(before).run([old(ids)])
    torch.testing.assert_close(got[1], want[1])
    assert got[0].shape[-1] == 9


@pytest.mark.parametrize(
    "name", ["roberta", *(pytest.param(n, marks=pytest.mark.slow) for n in ZOO)]
)
def test_public_architectures_compute_the_same(name):
    module, inputs, dynamic_shapes = ZOO[name]()
    before = edgec.capture(module, inputs, dynamic_shapes)
    before, _ = parse_pipeline(CLEANUP).run(before)
    tables = token_tables(before)
    most = max(tables.values(), default=0)
    call = [torch.as_tensor(t) for t in flatten(before.main, inputs)]
    chosen = tuple(n for n, rows in tables.items() if rows == most)
    after, (record,) = apply(before, calibration={"main": [call]}, table=chosen)
    ids = changed(before, after)
    assert (ids is not None) == record.modified
    if ids is None:
        assert "nothing to do" in record.notes[0]
        return
    assert len(ids.kept) < most and set(ids.kept) >= set(call[0].flatten().tolist())
    got = Interpreter(after).run(ids.new_call(before.main, call) or ())
    want = ids.narrowed(before.main, Interpreter(before).run(call))
    torch.testing.assert_close(list(got), list(want))


# ------------------------------------------------------------------ with what follows
def test_calibration_data_and_samples_are_renumbered(keep):
    """gptq after it rounds as it does with the same data, renumbered by hand."""
    before = tagger()
    calls = [[old(new_ids(s, 3, 6))] for s in range(4)]
    lost = [[torch.full((1, 2), 7)]]
    spec = "gptq{bits=4,min_numel=64,group=8}"
    after, (trim, rounded) = apply(
        before, spec, keep=keep(), calibration={"main": calls}, samples={"main": calls + lost}
    )
    alone, _ = apply(before, keep=keep())
    data = {"main": [[new_ids(s, 3, 6)] for s in range(4)]}
    want, _ = parse_pipeline([spec]).run(alone, calibration=data)
    assert not differs(after, want)
    assert trim.deviation.max_ratio < 1e-6 and trim.deviation.cosine > 1 - 1e-6
    assert 0 < rounded.deviation.max_ratio < 0.5
    _, (trim,) = apply(before, keep=keep(), samples={"main": lost})
    assert trim.deviation is None
    assert trim.notes[-1] == "outputs not compared, the samples have tokens that were left out"


def test_tokens_of_calibration_data_are_kept():
    calls = {
        "encode": [[torch.tensor([[4, 9], [9, 4]])]],
        "step": [step_inputs(torch.tensor([[7], [4]]))],
    }
    after, _ = apply(decoder(), calibration=calls)
    assert after.metadata["vocabulary"]["kept"] == [4, 7, 9]
    with pytest.raises(PassError, match="no data"):
        apply(decoder())


def test_trimming_twice_is_trimming_once(keep):
    before = tagger()
    twice, records = apply(before, TrimVocabulary(keep=keep([1, 2, 5], "b.json")), keep=keep())
    once, _ = apply(before, keep=keep([2, 3, 13], "c.json"))
    assert kept_ids(twice) == kept_ids(once) == (2, 3, 13)
    assert not differs(twice, once)
    assert changed(before, twice) == Vocabulary.of(twice) and changed(twice, twice) is None
    assert records[1].notes == ("3 of 9 tokens are kept",)


def test_the_original_of_later_passes_has_the_same_tokens(keep):
    made = TrimVocabulary(keep=keep())
    before = tagger()
    after, _ = parse_pipeline([made]).run(before)
    assert not differs(made.reference(before, after), after)


def test_factors_of_a_table_are_trimmed_too(keep):
    before, _ = parse_pipeline(["factorize-embeddings{rank=8}"]).run(decoder())
    after, _ = apply(before, keep=keep())
    assert after.constants["table.codes"].type.shape == (9, 8)
    token = new_ids(2, 2, 1)
    got = Interpreter(after).run(step_inputs(token), "step")[0]
    want = Interpreter(before).run(step_inputs(old(token)), "step")[0]
    torch.testing.assert_close(got, want[:, list(KEPT)])


# ------------------------------------------------------------------ mistakes
def refused(given: Program, **options):
    with pytest.raises(PassError) as caught:
        apply(given, **options)
    assert str(caught.value).startswith("[trim-vocabulary]")
    return str(caught.value)


def reading(read, high=40) -> Program:
    """main(ids) of a table and of something else that reads the ids."""
    b = Builder.new(
        "main", [("ids", TensorType(DType.I64, (LENGTH,)))], {}, {"length": Range(1, 9)}
    )
    t = b.constant(tensor(high, 4), "table")
    graph = b.finish([b.gather(t, b.input("ids")), *read(b, b.input("ids"), t)])
    return Program({"main": graph}, graph.constants).verify()


def test_ids_and_tables_that_something_else_reads_are_refused(keep):
    options = {"keep": keep()}
    told = refused(reading(lambda b, ids, t: [b.add(ids, ids)]), **options)
    assert "main: %ids, which holds token ids, is read by add" in told
    told = refused(reading(lambda b, ids, t: [b.reduce_sum(t, axes=(0,))]), **options)
    assert "@table is read by reduce_sum" in told
    told = refused(reading(lambda b, ids, t: [b.gather(t, b.iota(size=4))]), **options)
    assert "@table is read at %iota, which is no input" in told
    two = reading(lambda b, ids, t: [b.gather(b.constant(tensor(50, 4), "other"), ids)])
    assert "tables @table of 40 rows, @other of 50 rows" in refused(two, **options)
    told = refused(two, table=("table",), **options)
    assert "%ids is read by a gather of @other too" in told


def test_logits_that_cannot_be_followed_are_refused(keep):
    def tied(read):
        def made(b, ids, t):
            return [read(b, b.linear(b.gather(t, ids), t, None))]

        return reading(made)

    options = {"keep": keep()}
    told = refused(tied(lambda b, y: b.reshape(y, shape=(LENGTH * 40,))), **options)
    assert "of one element a token, is read by reshape" in told
    told = refused(
        tied(lambda b, y: b.add(y, b.full(shape=(40,), value=1.0, dtype=DType.F32))), **options
    )
    assert "meets the logits and is no plain constant" in told
    bigrams = reading(lambda b, ids, t: [b.gather(b.constant(tensor(40, 40), "pairs"), ids)])
    assert "output output1: f32[length, 40] comes from no matrix" in refused(bigrams, **options)


def test_tables_that_are_compressed_or_unknown_are_refused(keep):
    rounded, _ = parse_pipeline(["quantize-weights"]).run(decoder())
    told = refused(rounded, keep=keep())
    assert told.endswith("put this pass before compression; passes that ran before: none")
    told = refused(decoder(), keep=keep(), table=("tabel",))
    assert "got table=tabel; need tables that are read at inputs: table" in told


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        ("[1, 2, 40, -1]", "a.json", "token ids -1, 40; need ids from 0 to 39"),
        ("[]", "a.json", "no list of whole numbers"),
        ('{"a": 1}', "a.json", "no list of whole numbers"),
        ("[1, 2.5]", "a.json", "no list of whole numbers"),
        ("[1, 2", "a.json", "no list of whole numbers"),
        ("open the door", "a.txt", "keep=a.txt for a program without a tokenizer"),
    ],
)
def test_wrong_files_are_told(keep, content, name, told):
    assert told in refused(decoder(), keep=keep(content, name))


def test_a_file_that_is_missing_or_no_text_is_told(tmp_path):
    assert "keep=none.json: No such file" in refused(decoder(), keep=str(tmp_path / "none.json"))
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    assert "bytes that are no text" in refused(decoder(), keep=str(tmp_path / "bytes.json"))


def test_files_are_looked_up_beside_the_recipe(keep, tmp_path):
    keep()
    pipeline = replace(parse_pipeline(["trim-vocabulary{keep='ids.json'}"]), folder=tmp_path)
    after, _ = pipeline.run(decoder())
    assert after.constants["table"].type.shape == (9, WIDTH)


def test_nothing_to_do(keep):
    before = decoder()
    after, (record,) = apply(before, keep=keep(range(40)))
    assert record.notes == ("nothing to do: all of the 40 tokens are needed",)
    assert not differs(before, after)
    _, (record,) = apply(embedder(), keep=keep())  # read at ids + 2
    assert record.notes == ("nothing to do: no table is read at inputs that could be token ids",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("keep='a.csv'", "keep=a.csv, need a file .txt, .tsv or .json"),
        ("min_count=0", "min_count=0, need min_count >= 1"),
    ],
)
def test_wrong_options_are_told(text, told):
    with pytest.raises(PassError, match=told):
        parse_pass(f"trim-vocabulary{{{text}}}")


def test_text_and_the_argument(keep):
    spec = "trim-vocabulary{keep='texts.tsv',min_count=3}"
    assert str(parse_pass(spec)) == spec and not parse_pass(spec).needs_calibration
    assert parse_pass("trim-vocabulary").needs_calibration
    before = tagger()
    text = before.text()
    first, second = (apply(before, keep=keep())[0] for _ in range(2))
    assert not differs(first, second) and before.text() == text and before.metadata == {}
