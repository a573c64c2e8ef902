"""Tokenizers of fewer tokens: the same ids for the same text, and some for any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import FormatError
from edgec.pieces import sentencepiece_file
from edgec.pieces.pairs import steps
from edgec.pieces.subset import needed, size, subset
from edgec.tokenizer import FastTokenizer, MarianTokenizer

CHECKPOINT = Path(__file__).resolve().parents[2] / "models" / "translate" / "checkpoint"
CORPUS = (CHECKPOINT / "calibration.txt").read_text("utf-8").splitlines()
WORDS = sorted({word for text in CORPUS[:60] for word in text.split()})
few = settings(max_examples=25, deadline=None)


# ------------------------------------------------------------------ tokenizers of all kinds
@pytest.fixture(scope="module", params=["unigram", "bpe"])
def marian(request, tmp_path_factory) -> dict[str, bytes]:
    import sentencepiece

    folder = tmp_path_factory.mktemp("spm")
    (folder / "text").write_text("\n".join(CORPUS))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "m"),
        vocab_size=300,
        model_type=request.param,
        character_coverage=1.0,
        bos_id=-1,
        minloglevel=2,
    )
    model = (folder / "m.model").read_bytes()
    texts = [p.text for p in sentencepiece_file.pieces(model)]
    ids = {t: i for i, t in enumerate(texts)} | {">>de<<": len(texts), "<pad>": len(texts) + 1}
    ids = {t: len(ids) - 1 - i for t, i in ids.items()}  # no order of theirs is counted on
    return {"source.spm": model, "target.spm": model, "vocab.json": json.dumps(ids).encode()}


def fast(kind: str) -> dict[str, bytes]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer: Any
    options: dict[str, Any] = {
        "vocab_size": 600 if kind == "bytes" else 400,
        "special_tokens": special,
    }
    if kind == "wordpiece":
        made, trainer = Tokenizer(models.WordPiece(unk_token="[UNK]")), trainers.WordPieceTrainer
        made.pre_tokenizer, made.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    elif kind == "bytes":
        made, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    elif kind == "suffix":
        made = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
        trainer, options["end_of_word_suffix"] = trainers.BpeTrainer, "</w>"
        made.pre_tokenizer, made.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder()
    elif kind == "unigram":
        made, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        options["unk_token"] = "[UNK]"
    else:
        made, trainer = Tokenizer(models.WordLevel(unk_token="[UNK]")), trainers.WordLevelTrainer
        made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(CORPUS, trainer(**options))
    cls, sep = (made.token_to_id(t) for t in ("[CLS]", "[SEP]"))
    made.post_processor = processors.Sequence(
        [
            processors.TemplateProcessing(
                single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
            )
        ]
    )
    made.enable_padding(pad_id=0, pad_token="[PAD]", length=4)
    made.add_special_tokens(["<extra>"])
    made.no_padding() if kind == "bytes" else None
    return {"tokenizer.json": made.to_str().encode(), "special_tokens_map.json": b"{}"}


KINDS = ("wordpiece", "bytes", "suffix", "unigram", "words")


@pytest.fixture(scope="module", params=KINDS)
def files(request) -> dict[str, bytes]:
    return fast(request.param)


def load(given_files):
    if "vocab.json" in given_files:
        return MarianTokenizer(given_files)
    made = FastTokenizer(given_files["tokenizer.json"])
    made._fast.no_padding()
    return made


def check(given_files, texts, others):
    """Ids of `texts` are the old ones, renumbered; `others` survive as far as before."""
    before = load(given_files)
    used = {i for t in texts for i in before.encode(t)}
    kept = sorted(needed(given_files, used))
    made = subset(given_files, kept)
    after = load(made)
    assert used <= set(kept) and size(made) == len(kept) <= size(given_files)
    for text in texts:
        assert [kept[i] for i in after.encode(text)] == before.encode(text)
        assert after.decode(after.encode(text)) == before.decode(before.encode(text))
    for text in others:
        ids = after.encode(text)
        assert all(0 <= i < len(kept) for i in ids)
        if not words_only(given_files):
            assert after.decode(ids) == before.decode(before.encode(text))
    return kept, made


def words_only(given_files) -> bool:
    return b'"WordLevel"' in given_files.get("tokenizer.json", b"")


texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join), max_size=3)


@few
@given(texts, texts)
def test_text_has_the_same_tokens_and_other_text_has_some(marian, mine, others):
    check(marian, mine, others)


@few
@given(texts, texts)
def test_tokenizer_json_too(files, mine, others):
    check(files, mine, others)


def test_tokens_are_left_out(marian, files):
    kept, made = check(marian, ["open the window"], ["close"])
    assert len(kept) < size(marian)
    assert len(made["source.spm"]) < len(marian["source.spm"])
    kept, made = check(files, ["open the window"], ["close it"])
    assert len(kept) < size(files)
    assert len(made["tokenizer.json"]) < len(files["tokenizer.json"])


def test_special_tokens_stay(marian, files):
    kept = sorted(needed(marian, ()))
    ids = json.loads(marian["vocab.json"])
    assert {ids[t] for t in ("</s>", "<unk>", "<pad>", ">>de<<")} <= set(kept)
    new = load(subset(marian, kept))
    assert new.encode(">>de<< o")[0] == kept.index(ids[">>de<<"])
    kept = sorted(needed(files, ()))
    tree = json.loads(subset(files, kept)["tokenizer.json"])
    before = {t["content"]: t["id"] for t in json.loads(files["tokenizer.json"])["added_tokens"]}
    assert {t["content"]: kept[t["id"]] for t in tree["added_tokens"]} == before
    assert "<extra>" in before


def test_other_files_that_number_tokens_are_left_out_or_renumbered(files):
    config = {"added_tokens_decoder": {"3": {"content": "[SEP]"}, "9": {"content": "x"}}}
    extra = {"vocab.txt": b"a", "tokenizer_config.json": json.dumps(config).encode()}
    made = subset({**files, **extra}, sorted(needed(files, ())))
    assert set(made) == {"tokenizer.json", "special_tokens_map.json", "tokenizer_config.json"}
    found = json.loads(made["tokenizer_config.json"])["added_tokens_decoder"]
    assert found["3"] == {"content": "[SEP]"}


def test_all_tokens_are_the_same_tokenizer(files, marian):
    for given_files in (files, marian):
        made = subset(given_files, range(size(given_files)))
        before, after = load(given_files), load(made)
        assert [before.encode(t) for t in CORPUS] == [after.encode(t) for t in CORPUS]
    assert subset(marian, range(size(marian)))["source.spm"] == marian["source.spm"]


# ------------------------------------------------------------------ parts
def test_what_a_piece_is_merged_from():
    ranks = {("a", "b"): 1, ("ab", "c"): 2, ("b", "c"): 0, ("a", "bc"): 3}
    assert steps("abc", lambda a, b: ranks.get((a, b))) == {"a", "b", "c", "bc", "abc"}
    assert steps("aXc", lambda a, b: ranks.get((a, b))) == {"a", "X", "c"}
    assert steps([], lambda a, b: 0) == set()
    pairs = {("a", "##b"): 0}
    assert steps(["a", "##b"], lambda a, b: pairs.get((a, b)), "##") == {"a", "##b", "ab"}


def test_pieces_are_read_as_the_library_reads_them(marian):
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_proto=marian["source.spm"])
    found = sentencepiece_file.pieces(marian["source.spm"])
    assert [p.text for p in found] == [model.id_to_piece(i) for i in range(len(model))]
    scores = [model.get_score(i) for i in range(len(model))]
    assert [p.score for p in found] == pytest.approx(scores)
    kinds = [p.kind == 1 for p in found]
    assert kinds == [not (model.is_control(i) or model.is_unknown(i)) for i in range(len(model))]


@few
@given(st.data())
def test_a_damaged_model_is_told(marian, data):
    model = marian["source.spm"]
    cut = model[: data.draw(st.integers(1, len(model) - 1))]
    try:
        assert len(sentencepiece_file.pieces(cut)) <= len(sentencepiece_file.pieces(model))
    except FormatError as error:
        assert "no sentencepiece model" in str(error)


def test_files_of_no_kind_are_told():
    with pytest.raises(FormatError, match="need source"):
        needed({"vocab.txt": b""}, ())
    with pytest.raises(FormatError, match="no JSON"):
        size({"tokenizer.json": b"{"})
    with pytest.raises(FormatError, match="no usable model"):
        size({"tokenizer.json": b"{}"})
    named = {"source.spm": b"", "vocab.json": b"{}", "target_vocab.json": b"{}"}
    with pytest.raises(FormatError, match="target_vocab"):
        needed(named, ())


def test_the_reference_translator_keeps_its_corpus():
    names = ("source.spm", "target.spm", "vocab.json")
    given_files = {n: (CHECKPOINT / n).read_bytes() for n in names}
    kept, _ = check(given_files, CORPUS, ["Ein ganz anderer Text, 文字!", "zzyzx"])
    assert len(kept) < 3000
