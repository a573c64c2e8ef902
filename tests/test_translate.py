"""Decoding: greedy and beam search over a small program whose translations can be enumerated."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from edgec.errors import FormatError, ValidationError
from edgec.interpreter import Interpreter
from edgec.ir import Builder, DType, Program, Range, State, TensorType, symbol
from edgec.ops import elementwise  # noqa: F401 - registers the ops
from edgec.sequences import Replay
from edgec.tokenizer import MarianTokenizer, load_tokenizer
from edgec.translate import Decoder, Generation, Translator

V, EOS, PAD, START = 5, 0, 4, 3
BATCH, SRC, PAST = symbol("batch"), symbol("src"), symbol("past")
GENERATION = Generation(start=START, eos=EOS, pad=PAD, banned=(PAD,), max_length=4)


def program(seed: int) -> Program:
    """encode sums the source; step scores by the token, the history and that sum."""
    generator = torch.Generator().manual_seed(seed)
    ranges = {"batch": Range(1, 256), "src": Range(1, 16)}
    ids = TensorType(DType.I64, (BATCH, SRC))
    b = Builder.new("encode", [("input_ids", ids), ("attention_mask", ids)], {}, dict(ranges))
    seen = b.mul(b.input("input_ids"), b.input("attention_mask"))
    total = b.cast(b.reduce_sum(seen, axes=(1,), keep=True), dtype=DType.F32)
    encode = b.finish([total], ["cross_key_0"])
    pool = encode.constants
    cache = TensorType(DType.F32, (BATCH, PAST))
    inputs = [
        ("token", TensorType(DType.I64, (BATCH, 1))),
        ("attention_mask", ids),
        ("self_key_0", cache),
        ("cross_key_0", TensorType(DType.F32, (BATCH, 1))),
    ]
    b = Builder.new("step", inputs, pool, {**ranges, "past": Range(0, 15)})
    table = b.constant(torch.randn(V, V, generator=generator) * 2, "table")
    weight = b.constant(torch.randn(1, V, generator=generator), "weight")
    own = b.cast(b.input("token"), dtype=DType.F32)
    present = b.concat(b.input("self_key_0"), own, axis=1)
    history = b.reduce_sum(b.sin(present), axes=(1,), keep=True)
    source = b.sin(b.input("cross_key_0"))
    scores = b.reshape(b.gather(table, b.input("token"), axis=0), shape=(BATCH, V))
    logits = b.add(scores, b.mul(weight, b.add(history, source)))
    step = b.finish([logits, present], ["logits", "present_key_0"])
    step.states = (State("self_key_0", "present_key_0"),)
    return Program({"encode": encode, "step": step}, pool).verify()


def decoder(seed: int, generation: Generation = GENERATION) -> Decoder:
    made = program(seed)
    interpreter = Interpreter(made)
    return Decoder(made.graphs, lambda name, inputs: interpreter.run(inputs, name), generation)


def log_probability(seed: int, source: list[int], tokens: tuple[int, ...]) -> float:
    """Sum of log probabilities of `tokens` after START, computed without the decoder."""
    made = program(seed)
    table = made.constants["table"].encoding.decode()
    weight = made.constants["weight"].encoding.decode()[0]
    history, total, previous = 0.0, 0.0, START
    for token in tokens:
        history += float(torch.sin(torch.tensor(float(previous))))
        shift = history + float(torch.sin(torch.tensor(float(sum(source)))))
        total += float(torch.log_softmax(table[previous] + weight * shift, -1)[token])
        previous = token
    return total


def best_by_enumeration(seed: int, source: list[int]) -> tuple[int, ...]:
    words = [t for t in range(V) if t not in (EOS, PAD)]
    ended = [(*w, EOS) for n in range(4) for w in itertools.product(words, repeat=n)]
    return max(ended, key=lambda t: log_probability(seed, source, t) / len(t))


@pytest.mark.parametrize("seed", range(6))
def test_a_beam_as_wide_as_the_tree_finds_the_best_sentence(seed: int) -> None:
    source = [1, 2, 1]
    best = best_by_enumeration(seed, source)
    assert decoder(seed).beam(source, beams=81) == list(best[:-1])


@pytest.mark.parametrize("seed", range(6))
def test_greedy_takes_the_most_probable_token_at_each_step(seed: int) -> None:
    source = [2, 2]
    tokens: tuple[int, ...] = ()
    while len(tokens) < 4 and (not tokens or tokens[-1] != EOS):
        options = [t for t in range(V) if t != PAD]
        tokens = max(
            ((*tokens, t) for t in options), key=lambda t: log_probability(seed, source, t)
        )
    assert decoder(seed).greedy([source]) == [[t for t in tokens if t != EOS]]


def test_rows_of_a_batch_do_not_influence_each_other() -> None:
    sources = [[1], [2, 1, 2], [1, 1], [2, 2, 2, 1]]
    for seed in range(4):
        together = decoder(seed).greedy(sources)
        assert together == [decoder(seed).greedy([s])[0] for s in sources]


def test_a_beam_of_one_is_greedy() -> None:
    for seed in range(6):
        assert [decoder(seed).beam([1, 2], beams=1)] == decoder(seed).greedy([[1, 2]])


def test_banned_and_forced_tokens() -> None:
    settings = Generation(START, EOS, PAD, banned=(PAD, EOS), forced_bos=2, max_length=3)
    for seed in range(4):
        (row,) = decoder(seed, settings).greedy([[1]])
        assert row[0] == 2 and len(row) == 3 and EOS not in row


def test_a_source_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"17 tokens; need at most 16; split the text"):
        decoder(0).greedy([[1] * 17])


def test_a_program_without_encode_and_step_is_refused() -> None:
    with pytest.raises(ValidationError, match="need encode and step"):
        Decoder({"main": program(0).graphs["step"]}, lambda name, inputs: [], GENERATION)


def test_generation_settings_must_be_complete() -> None:
    with pytest.raises(ValidationError, match="without decoder_start, pad"):
        Generation.of({"generation": {"eos": 0}})


class Letters:
    """a, b -> 1, 2 and back."""

    def encode(self, text: str) -> list[int]:
        return [1 + "ab".index(c) for c in text]

    def decode(self, ids) -> str:
        return "".join("?ab!#"[i] for i in ids)

    def knows(self, text: str) -> bool:
        return True


def test_translations_come_back_in_the_order_of_the_texts() -> None:
    texts = ["abab", "a", "bb", "aba", "b"]
    translator = Translator(decoder(1), Letters())
    one_by_one = [translator.translate([t])[0] for t in texts]
    assert translator.translate(texts, batch=2) == one_by_one
    assert translator.translate(texts, beams=2) == [
        translator.translate([t], beams=2)[0] for t in texts
    ]


def test_batches_and_beams_keep_to_the_greatest_batch() -> None:
    made = decoder(3)
    made.max_batch = 2
    sizes = []
    greedy = made.greedy
    made.greedy = lambda sources: sizes.append(len(sources)) or greedy(sources)  # type: ignore
    Translator(made, Letters()).translate(["b", "ab", "aa", "bab", "a"])
    assert sizes == [2, 2, 1]
    with pytest.raises(ValidationError, match="got 3 beams; need at most 2"):
        made.beam([1, 2], 3)


def test_a_blank_text_has_a_blank_translation() -> None:
    translator = Translator(decoder(1), Letters())
    (one,) = translator.translate(["ab"])
    assert translator.translate(["", "ab", "  "]) == ["", one, ""]
    assert translator.translate(["", ""]) == ["", ""]


def test_texts_that_are_too_long_are_named() -> None:
    texts = ["a" * 16, "", "a" * 17, "b" * 40]
    named = r"text 3 \('a+'\.\.\.\), text 4 \('b+'\.\.\.\) of up to 40 tokens; need at most 16"
    with pytest.raises(ValidationError, match=named):
        Translator(decoder(0), Letters()).translate(texts)


# ------------------------------------------------------------------ tokenizers
@pytest.mark.parametrize("seed", range(4))
def test_a_forced_translation_replays_what_greedy_search_does(seed: int) -> None:
    found, sources = decoder(seed), [[1, 2, 0], [2, 0], [1, 1, 1, 0]]
    rows = found.greedy(sources)
    sequence = found.forced(list(zip(sources, rows, strict=True)))
    made = program(seed)
    interpreter = Interpreter(made)
    calls = Replay(made.graphs).run(sequence, lambda name, x: interpreter.run(x, name))
    steps = [(call, outputs[0]) for call, outputs in calls if call.function == "step"]
    assert len(steps) == min(max(map(len, rows)) + 1, GENERATION.max_length)
    for position, (call, logits) in enumerate(steps):
        counts = [True] * len(rows) if call.rows is None else call.rows.tolist()
        assert counts == [position <= len(row) for row in rows]
        best = logits[:, :PAD].argmax(-1).tolist()
        wanted = [[*row, EOS][position] if c else None for row, c in zip(rows, counts, strict=True)]
        assert [b if c else None for b, c in zip(best, counts, strict=True)] == wanted


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sentencepiece

    folder = tmp_path_factory.mktemp("marian")
    text = folder / "text"
    text.write_text("".join(f"open the file {i}\nclose a window {i}\n" for i in range(200)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "source"), vocab_size=40, eos_id=0, unk_id=1,
        bos_id=-1, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "source.model").rename(folder / "source.spm")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    ids = {pieces.id_to_piece(i): i for i in range(40)} | {">>de<<": 40, "<pad>": 41}
    (folder / "vocab.json").write_text(json.dumps(ids))
    return folder


def files(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in ("source.spm", "vocab.json")}


def test_marian_text_survives_the_round_trip(marian: Path) -> None:
    tokenizer = load_tokenizer(files(marian))
    assert isinstance(tokenizer, MarianTokenizer)
    ids = tokenizer.encode("close the window 12")
    assert ids[-1] == 0 and tokenizer.decode([*ids, 41]) == "close the window 12"


def test_a_language_prefix_is_one_token(marian: Path) -> None:
    tokenizer = load_tokenizer(files(marian))
    assert tokenizer.encode(">>de<< open") == [40, *tokenizer.encode("open")]


def test_a_text_without_any_known_piece_is_noticed(marian: Path) -> None:
    tokenizer = load_tokenizer(files(marian))
    assert tokenizer.knows("close it") and tokenizer.knows(">>de<< 文字 close")
    assert not any(map(tokenizer.knows, ("文字", ">>de<< 文字", " ", "")))


@pytest.mark.parametrize("unigram", [False, True])
def test_a_fast_tokenizer_notices_it_too(tmp_path: Path, unigram: bool) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "open", "close"]
    vocabulary = {w: i for i, w in enumerate(words)}
    model = (
        models.Unigram([(w, -float(i)) for i, w in enumerate(words)], unk_id=0)
        if unigram
        else models.WordLevel(vocabulary, unk_token="<unk>")
    )
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer({"tokenizer.json": tmp_path / "tokenizer.json"})
    assert tokenizer.knows("文字 open") and not tokenizer.knows("文字")


def test_damaged_tokenizer_files_are_named(marian: Path, tmp_path: Path) -> None:
    broken = tmp_path / "source.spm"
    broken.write_bytes((marian / "source.spm").read_bytes()[:100])
    with pytest.raises(FormatError, match=r"source\.spm"):
        load_tokenizer({**files(marian), "source.spm": broken})
    for spoiled in ("[1, 2", "[1]", '{"</s>": 1}', '{"</s>": "1", "<unk>": 2}', "[" * 99999):
        (tmp_path / "vocab.json").write_text(spoiled)
        with pytest.raises(FormatError, match=r"vocab\.json"):
            load_tokenizer({**files(marian), "vocab.json": tmp_path / "vocab.json"})
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        load_tokenizer({"tokenizer.json": tmp_path / "tokenizer.json"})
    with pytest.raises(FormatError, match=r"missing vocab\.json"):
        load_tokenizer({**files(marian), "vocab.json": tmp_path / "none" / "vocab.json"})
    with pytest.raises(FormatError, match="tokenizer files none"):
        load_tokenizer({})
