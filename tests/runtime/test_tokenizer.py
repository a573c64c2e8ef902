"""The C tokenizer gives the tokens and texts of the sentencepiece library, whatever it is given."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.pieces.subset import needed, subset
from edgec.runtime.sources import library_sources
from edgec.targets.native.tokens import write_tokens
from edgec.tokenizer import MarianTokenizer
from tests.runtime.fuzzing import fuzz
from tests.runtime.tiny_model import C_TESTS, compile_c, write_weights
from tests.runtime.tokenizer_library import Failure, Tokenizer, build_library
from tests.runtime.tokenizer_models import (
    CHECKPOINT,
    NAMES,
    TRAINED,
    Files,
    program_of,
    reference,
    sentences,
    swapped,
    trained,
    written,
)
from tests.runtime.tools import need

DEBUG = ("-O1", "-g", "-pthread")
MEMORY = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

# What tokenizers stumble over: other spaces, composed and combined marks, wide and joined forms,
# the space symbol itself, controls, characters of two units, pieces of the models in TRAINED.
HARD = [
    *" \t\n\x00\x1f\u00a0\u2009\u3000\u200b\ufeff\u2581",
    *"a\u00e4\u0308\u0301\u00df\u1e9e\uff21\ufb01\u2460\u337f\ufdfa\u65e5\U0001f600\ufffd\ue000",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    *("...", "....", "the", "ab", "<sep>", "<s e>", "<mask>", "<unk>", "</s>", "<pad>", "<0x41>"),
]
WORDS = " ".join(sentences()).split()
TEXTS = st.one_of(
    st.text(max_size=20),
    st.lists(st.one_of(st.sampled_from(HARD), st.sampled_from(WORDS)), max_size=25).map("".join),
    st.lists(st.sampled_from([*HARD, *WORDS]), max_size=12).map(" ".join),
    st.tuples(
        st.sampled_from([">>de<<", ">>de<< ", ">> de<<", ">><<", ">>a<<b<<", ">>\u65e5<<\u3000"]),
        st.text(max_size=5),
    ).map("".join),
)


@dataclass(frozen=True)
class Pair:
    """The same tokenizer twice."""

    expected: MarianTokenizer
    got: Tokenizer
    ids: tuple[int, ...]

    @staticmethod
    def of(files: Files, library: ctypes.CDLL) -> Pair:
        expected = MarianTokenizer(files.content())
        known = tuple(sorted(expected._pieces))
        return Pair(expected, Tokenizer(library, files.tokens), known)

    def check_decoding(self, ids: Sequence[int]) -> None:
        assert self.got.decode(list(ids)) == self.expected.decode(ids)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    need("gcc", "gcc")
    return build_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module", params=["reference", *TRAINED])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp(request.param)
    return reference(folder) if request.param == "reference" else trained(request.param, folder)


@pytest.fixture(scope="module")
def pair(files: Files, library: ctypes.CDLL) -> Iterator[Pair]:
    made = Pair.of(files, library)
    yield made
    made.got.close()


@pytest.fixture(scope="module")
def back(
    files: Files, library: ctypes.CDLL, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """With source and target exchanged."""
    made = Pair.of(swapped(files, tmp_path_factory.mktemp("swapped")), library)
    yield made
    made.got.close()


@pytest.fixture(scope="module")
def simple(library: ctypes.CDLL, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return reference(tmp_path_factory.mktemp("simple"))


def test_sentences_become_the_tokens_of_the_library(pair: Pair) -> None:
    for text in sentences()[::4]:
        assert pair.got.encode(text) == pair.expected.encode(text), text
        pair.check_decoding(pair.expected.target(text))


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_any_text_becomes_the_tokens_of_the_library(pair: Pair, back: Pair, text: str) -> None:
    for side in (pair, back):
        ids = side.expected.encode(text)
        assert side.got.encode(text) == ids
        side.check_decoding(ids)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_tokens_become_the_text_of_the_library(
    pair: Pair, back: Pair, data: st.DataObject
) -> None:
    for side in (pair, back):
        ids = st.one_of(st.sampled_from(side.ids), st.integers(-3, len(side.ids) + 9))
        side.check_decoding(data.draw(st.lists(ids, max_size=12)))


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(text=TEXTS)
def test_many_texts_become_the_tokens_of_the_library(pair: Pair, back: Pair, text: str) -> None:
    for side in (pair, back):
        assert side.got.encode(text) == side.expected.encode(text)


def test_a_vocabulary_of_fewer_tokens(library: ctypes.CDLL, tmp_path: Path) -> None:
    """As `trim-vocabulary` leaves it: the ids are the new ones."""
    paths = {name: CHECKPOINT / name for name in NAMES}
    content = {name: path.read_bytes() for name, path in paths.items()}
    whole = MarianTokenizer(content)
    texts = sentences()[:40]
    kept = sorted(needed(content, {i for text in texts for i in whole.encode(text)}))
    got = Tokenizer(library, written(paths, tmp_path, kept).tokens)
    expected = MarianTokenizer(subset(content, kept))
    assert len(kept) < 2000
    for text in sentences()[:80]:
        ids = expected.encode(text)
        assert got.encode(text) == ids
        assert got.decode(ids) == expected.decode(ids)
    assert [kept[i] for i in got.encode(texts[0])] == whole.encode(texts[0])


def test_what_is_generated(library: ctypes.CDLL, tmp_path: Path) -> None:
    """Banned tokens are left out, a forced one comes first, the first of equals is taken."""
    paths = {name: CHECKPOINT / name for name in NAMES}
    rules = {"decoder_start": 3, "eos": 0, "banned": [1, 4], "forced_bos": 2}
    assert write_tokens(program_of(paths, generation=rules), "model", tmp_path)[0]
    tokenizer = Tokenizer(library, tmp_path / "model.tokens")
    assert tokenizer.choose([0.0, 9.0, 1.0, 7.0, 8.0, 7.0], 1) == 3
    assert tokenizer.choose([0.0, 9.0, 1.0, 7.0, 8.0, 7.0], 0) == 2
    assert tokenizer.choose([float("-inf")] * 3, 5) == 0
    assert tokenizer.choose([], 5) == -1


# ------------------------------------------------------------------ failures
def test_bytes_that_are_no_utf8_are_refused(library: ctypes.CDLL, simple: Files) -> None:
    tokenizer = Tokenizer(library, simple.tokens)
    for bad in (b"a\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x96", b"\x80"):
        with pytest.raises(
            Failure, match=r"EDGEC_BAD_TEXT \[tokenize\] got byte \d of 0x\w+; need"
        ):
            tokenizer.encode(bad)
    assert tokenizer.encode("") == [0]


def test_texts_that_do_not_fit_are_refused(library: ctypes.CDLL, simple: Files) -> None:
    tokenizer = Tokenizer(library, simple.tokens, max_bytes=32)
    ids = tokenizer.encode("open the file")
    assert tokenizer.encode("open the file", capacity=len(ids)) == ids
    with pytest.raises(Failure, match=f"of {len(ids)} tokens; need at most {len(ids) - 1}"):
        tokenizer.encode("open the file", capacity=len(ids) - 1)
    with pytest.raises(Failure, match="more than 32 bytes in its normal form"):
        tokenizer.encode("a" * 30)
    text = tokenizer.decode(ids)
    assert tokenizer.decode(ids, capacity=len(text.encode()) + 1) == text == "open the file"
    with pytest.raises(Failure, match=r"EDGEC_TOO_LONG .* room for 13 bytes; need 14"):
        tokenizer.decode(ids, capacity=13)


def test_other_files_are_refused(library: ctypes.CDLL, simple: Files, tmp_path: Path) -> None:
    write_weights(tmp_path / "weights")
    (tmp_path / "cut").write_bytes(simple.tokens.read_bytes()[:-64])
    damaged = bytearray(simple.tokens.read_bytes())
    damaged[-70] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    for name, text in {
        "weights": "EDGEC_DAMAGED .* of another kind",
        "cut": "EDGEC_TRUNCATED",
        "damaged": "EDGEC_DAMAGED .* another hash",
        "missing": "EDGEC_CANNOT_OPEN",
    }.items():
        with pytest.raises(Failure, match=text):
            Tokenizer(library, tmp_path / name)
    with pytest.raises(Failure, match=r"EDGEC_BAD_OPTION \[max_bytes\] got -1"):
        Tokenizer(library, simple.tokens, max_bytes=-1)


# ------------------------------------------------------------------ under sanitizers
@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("gcc", "gcc")
    sources = [C_TESTS / "test_tokenizer.c", C_TESTS / "fuzz_tokenizer.c", *library_sources()]
    out = tmp_path_factory.mktemp("program") / "tokenizer"
    return compile_c(["gcc"], out, sources, *DEBUG, *MEMORY)


def run(*words: Path, seconds: int = 300) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_texts_under_the_sanitizers(program: Path, files: Files, tmp_path: Path) -> None:
    python = MarianTokenizer(files.content())
    lines = [*sentences()[::20], *(h for h in HARD if not set(h) & set("\n\0")), "x" * 2000]
    (tmp_path / "texts").write_text("".join(f"{line}\n" for line in lines))
    shown = run(program, files.tokens, tmp_path / "texts").split("\n")
    ids = [python.encode(line) for line in lines]
    assert shown[:-1:2] == [" ".join(map(str, i)) for i in ids]
    assert shown[1::2] == [python.decode(i) for i in ids]


@pytest.mark.parametrize("name", ["unigram", "unigram_folded", "bpe_bytes"])
def test_damaged_files_under_the_sanitizers(program: Path, name: str, tmp_path: Path) -> None:
    """Cut, and with flipped bits behind hashes that fit."""
    run(program, trained(name, tmp_path).tokens)


@pytest.mark.slow
def test_a_bounded_run_of_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in ("unigram", "bpe_bytes"):
        (tmp_path / name).mkdir()
        made = trained(name, tmp_path / name).tokens
        (corpus / name).write_bytes(made.read_bytes())
    fuzz([C_TESTS / "fuzz_tokenizer.c", *library_sources()], corpus, tmp_path)
