"""What a checkpoint is for: read off transformers' own tables of architectures."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any

from edgec.errors import CaptureError


@dataclass(frozen=True)
class Kind:
    """A use of a model.

    table     transformers' table of the architectures that serve it
    name      transformers' name of the use
    task      ours, by which quality is measured
    outputs   results that the one function of such a model returns, where it has one function
    """

    table: str
    name: str
    task: str
    outputs: tuple[str, ...] = ("logits",)


TRANSLATION = Kind("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM", "text2text-generation", "translate")
GENERATION = Kind("MODEL_FOR_CAUSAL_LM", "text-generation", "causal-lm")
QUESTIONS = Kind(
    "MODEL_FOR_QUESTION_ANSWERING", "question-answering", "none", ("start_logits", "end_logits")
)
FEATURES = Kind("MODEL", "feature-extraction", "none", ("last_hidden_state", "pooler_output"))
SENTENCES = Kind("MODEL", "sentence-similarity", "embed", ("embedding",))
# The first table that lists an architecture counts.
KINDS = (
    TRANSLATION,
    GENERATION,
    Kind("MODEL_FOR_SEQUENCE_CLASSIFICATION", "text-classification", "classify"),
    Kind("MODEL_FOR_TOKEN_CLASSIFICATION", "token-classification", "none"),
    QUESTIONS,
    Kind("MODEL_FOR_MASKED_LM", "fill-mask", "none"),
    Kind("MODEL_FOR_IMAGE_CLASSIFICATION", "image-classification", "classify"),
    Kind("MODEL_FOR_CTC", "automatic-speech-recognition", "none"),
    Kind("MODEL_FOR_AUDIO_CLASSIFICATION", "audio-classification", "classify"),
    FEATURES,
    dataclasses.replace(FEATURES, table="MODEL_FOR_TEXT_ENCODING"),
)


def architecture(config: Any) -> tuple[Any, Kind]:
    """The model class that a configuration asks for, and its kind.

    Without `architectures` it is the plain encoder of the model type. Raises CaptureError for an
    architecture that transformers does not have, or that serves no kind above.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    names = getattr(config, "architectures", None) or []
    name = names[0] if names else _plain(config)
    for kind in KINDS:
        table = getattr(modeling_auto, f"{kind.table}_MAPPING_NAMES")
        if name in _classes(table):
            if kind is FEATURES and getattr(config, "is_encoder_decoder", False):
                need = "a class with an output layer, such as ...ForConditionalGeneration"
                raise CaptureError("config.json", f"{name}, an encoder and a decoder", need)
            return getattr(transformers, name), kind
    need = "one of: " + ", ".join(dict.fromkeys(k.name for k in KINDS))
    near = [n for n in difflib.get_close_matches(name, _all_classes(), 1) if n != name]
    do = f"did config.json mean {near[0]}?" if near and not hasattr(transformers, name) else ""
    raise CaptureError("config.json", f"the architecture {name}", need, do)


def plain_encoder(config: Any) -> Any:
    """The encoder of a model type, without a head. Raises CaptureError where there is none."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

    alone = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type)
    if getattr(config, "is_encoder_decoder", False) and isinstance(alone, str):
        return getattr(transformers, alone)
    return getattr(transformers, _plain(config))


def _plain(config: Any) -> str:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    name = MODEL_MAPPING_NAMES.get(config.model_type)
    if name is None:
        got = f"no architectures for model_type {config.model_type!r}"
        raise CaptureError("config.json", got, "the class that was saved")
    return name if isinstance(name, str) else name[0]


def _classes(table: Any) -> set[str]:
    found: set[str] = set()
    for value in table.values():
        found |= {value} if isinstance(value, str) else set(value)
    return found


def _all_classes() -> set[str]:
    from transformers.models.auto import modeling_auto

    tables = (getattr(modeling_auto, f"{k.table}_MAPPING_NAMES") for k in KINDS)
    return set().union(*map(_classes, tables))
