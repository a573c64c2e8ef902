"""Models in the transformers layout: a directory, or a name of the hub, becomes a program."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgec.capture.functions import Function, capture_functions
from edgec.capture.hf import causal, sentences, seq2seq, single
from edgec.capture.hf.checkpoint import Loaded, load_model
from edgec.capture.hf.directory import local, locate, read_config
from edgec.capture.hf.kinds import (
    FEATURES,
    GENERATION,
    QUESTIONS,
    SENTENCES,
    TRANSLATION,
    Kind,
    architecture,
    plain_encoder,
)
from edgec.capture.hf.lengths import limited, longest_source, longest_target
from edgec.capture.hf.metadata import describe, require_tokenizer
from edgec.errors import CaptureError
from edgec.ir.program import Program

__all__ = ["load", "local"]

Cache = Literal["growing", "fixed"]


def load(
    source: str,
    cache: Cache = "growing",
    max_length: int | None = None,
    token_types: bool | None = None,
    need_tokenizer: bool = False,
    folder: Path | None = None,
) -> Program:
    """The program of a model in the transformers layout (config.json, safetensors, tokenizer).

    source          a directory, or else the name of a model on the Hugging Face hub; "hf:" in front
                    is optional
    cache           of decoders: "growing" by a position a step, or "fixed" at max_length positions
    max_length      longest sequence, at most (and by default) what the model's positions allow
    token_types     whether a text model takes token_type_ids (default: for question answering
                    where it can)
    need_tokenizer  refuse a directory without tokenizer files
    folder          where a relative directory begins; None: the working directory

    What the model is, its configuration says: sequence-to-sequence -> functions `encode` and
    `step`, causal language model -> `prefill` and `step`, otherwise `main`; a directory with
    modules.json is a sentence embedder. `metadata` of the program holds task, tokenizer files and
    generation settings. Raises FormatError for a damaged or incomplete directory, CaptureError for
    a model that cannot be captured.
    """
    if cache not in ("growing", "fixed"):
        raise CaptureError("hf", f"cache={cache!r}", "growing or fixed")
    _need_transformers()
    folder = locate(source, folder)
    if need_tokenizer:
        require_tokenizer(folder)
    parts = sentences.parts(folder)
    if parts is not None:
        return _embedder(folder, parts, max_length)
    config = read_config(folder)
    model_class, kind = architecture(config)
    optional = ("pooler.",) if kind.name == FEATURES.name else ()
    loaded = load_model(folder, config, model_class, optional)
    functions = _functions(loaded, kind, cache, max_length, token_types)
    about = describe(folder, config, kind, loaded.model)
    if "generation" in about:
        longest = limited(longest_target(loaded.model, folder), max_length)
        about["generation"]["max_length"] = min(about["generation"]["max_length"], longest)
    return capture_functions(functions, about)


def _need_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        do = "install edgec[hf]"
        raise CaptureError("hf", "no transformers package", "it to read such models", do) from error


def _functions(
    loaded: Loaded, kind: Kind, cache: Cache, max_length: int | None, token_types: bool | None
) -> dict[str, Function]:
    model, folder = loaded.model, loaded.folder
    if kind is TRANSLATION:
        if model.main_input_name != "input_ids":
            got = f"a sequence-to-sequence model of {model.main_input_name}"
            raise CaptureError(type(model).__name__, got, "one of text (input_ids)")
        target = limited(longest_target(model, folder), max_length)
        return seq2seq.functions(model, longest_source(model, folder), target, cache == "fixed")
    if kind is GENERATION:
        longest = limited(longest_target(model, folder), max_length)
        return causal.functions(model, longest, cache == "fixed")
    if cache == "fixed":
        raise CaptureError(type(model).__name__, "cache='fixed'", "a decoder")
    if token_types is None:
        token_types = kind is QUESTIONS and single.tells_sentences_apart(loaded)
    return {"main": single.function(loaded, kind, max_length, token_types)}


def _embedder(folder: Path, parts: list[tuple[str, Path]], max_length: int | None) -> Program:
    """A sentence embedder: the encoder of its first part, pooled."""
    home = parts[0][1]
    config = read_config(home)
    model_class = plain_encoder(config)
    loaded = load_model(home, config, model_class, ("pooler.",))
    inputs, dims = single.text_inputs(loaded, max_length, token_types=False)
    module = sentences.build(loaded.model, parts)
    main = Function(module, tuple(inputs.values()), dims, tuple(inputs), SENTENCES.outputs)
    about = describe(home, config, SENTENCES, loaded.model)
    about["max_tokens"] = sentences.max_tokens(home, dims[0][1].max)
    return capture_functions({"main": main}, about)
