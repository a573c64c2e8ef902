"""NAME.tokens: the tokenizer of a program, for src/tokenizer.c."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import edgec
from edgec.errors import FormatError, UnsupportedError
from edgec.ir import Program
from edgec.runner import tokenizer_files
from edgec.runtime.container import Entry, Kind
from edgec.runtime.container_writer import write_container
from edgec.targets.native.token_tables import Vocabulary, tables
from edgec.tokenizer import kept_tokens, read_tokenizer

_SPECIAL = ("</s>", "<unk>", "<pad>", "<s>")  # write nothing, as in edgec.tokenizer


def write_tokens(program: Program, name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Write NAME.tokens where the program has a tokenizer for it: names of files, notes.

    A program with another tokenizer gets a note: its text stays with the caller. Raises FormatError
    for files that are damaged or missing.
    """
    if not tokenizer_files(program.metadata):
        return [], []
    try:
        entries = tokens_of(program)
    except UnsupportedError as error:
        return [], [f"no {name}.tokens, text stays with the caller: {error}"]
    made = f"{name}.tokens"
    written = write_container(
        folder / made, Kind.TOKENS, entries, name, f"edgec {edgec.__version__}"
    )
    return [made], [f"{made}: the tokenizer for C, {written.file_bytes} bytes"]


def tokens_of(program: Program) -> list[Entry]:
    """The file's entries.

    Raises UnsupportedError for tokenizers that the runtime does not read, FormatError for damaged
    or missing files.
    """
    files = tokenizer_files(program.metadata)
    if not {"source.spm", "vocab.json"} <= files.keys():
        got = f"tokenizer files {', '.join(sorted(files))}"
        raise UnsupportedError("native", got, "source.spm with vocab.json")
    content = read_tokenizer(files, kept_tokens(program.metadata))
    ids = _vocabulary(content["vocab.json"])
    special = frozenset(ids[t] for t in _SPECIAL if t in ids)
    target = content.get("target.spm", content["source.spm"])
    entries = tables(Vocabulary(ids, special), content["source.spm"], target)
    return [*entries, *_generation(program, ids)]


def _vocabulary(data: bytes) -> dict[str, int]:
    try:
        ids: dict[str, int] = json.loads(data)
        usable = {"</s>", "<unk>"} <= ids.keys()
        usable = usable and all(type(i) is int and 0 <= i < 2**30 for i in ids.values())
    except (ValueError, AttributeError, RecursionError):
        usable = False
    if not usable:
        raise FormatError("vocab.json", "no usable vocabulary", "JSON {piece: id}")
    return ids


def _generation(program: Program, ids: Mapping[str, int]) -> list[Entry]:
    """Ids of the tokenizer (unknown, end) and of `edgec_generation`; tokens never generated."""
    stated: Mapping[str, Any] = program.metadata.get("generation") or {}
    keys = ("decoder_start", "eos", "pad", "forced_bos")
    chosen = [-1 if stated.get(key) is None else int(stated[key]) for key in keys]
    source, past = _greatest(program, "encode", "src"), _greatest(program, "step", "past")
    most = int(stated.get("max_length") or 128)
    most = min(most, past) if past >= 0 else most
    values = [ids["<unk>"], ids["</s>"], *chosen, source, most]
    banned = list(stated.get("banned") or ())
    return [
        Entry.of("generation", np.array(values, np.int32)),
        Entry.of("banned", np.array(banned, np.int32)),
    ]


def _greatest(program: Program, function: str, dim: str) -> int:
    """The greatest size of a dimension, -1 where there is none."""
    graph = program.graphs.get(function)
    return graph.dims[dim].max if graph and dim in graph.dims else -1
