"""What becomes of tokenizers that cannot be written as NAME.tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.errors import FormatError
from edgec.targets.native.tokens import write_tokens
from tests.runtime.tokenizer_models import CHECKPOINT, NAMES, program_of, train


def test_damaged_tokenizers_are_refused_when_the_file_is_written(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in NAMES}
    for name, path in paths.items():
        path.write_bytes((CHECKPOINT / name).read_bytes())
    paths["source.spm"].write_bytes((CHECKPOINT / "source.spm").read_bytes()[:-3])
    with pytest.raises(FormatError, match="no sentencepiece model"):
        write_tokens(program_of(paths), "model", tmp_path)
    paths["source.spm"].unlink()
    with pytest.raises(FormatError, match=r"missing source.spm"):
        write_tokens(program_of(paths), "model", tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"model_type": "char"}, "got model type 4; need unigram or BPE"),
        ({"treat_whitespace_as_suffix": True}, "got spaces as suffixes"),
    ],
)
def test_models_that_the_runtime_does_not_read_get_a_note(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    (tmp_path / "source.spm").write_bytes(train(vocab_size=200, **options))
    (tmp_path / "vocab.json").write_text('{"</s>": 0, "<unk>": 1}')
    paths = {name: tmp_path / name for name in ("source.spm", "vocab.json")}
    made, (note,) = write_tokens(program_of(paths), "model", tmp_path)
    assert not made
    assert note.startswith("no model.tokens, text stays with the caller: ")
    assert text in note
