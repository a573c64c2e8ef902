"""Models of one function, `main`: encoders, classifiers, question answering, images, speech.

text     input_ids i64[batch, seq], attention_mask i64[batch, seq] (where the model takes one),
         token_type_ids i64[batch, seq] (for sentence pairs)
image    pixel_values f32[batch, C, height, width], of the size that the model was made for
speech   input_values f32[batch, samples]
         -> the outputs of the kind, in its order
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from edgec.capture.functions import Function
from edgec.capture.hf import sizes
from edgec.capture.hf.checkpoint import Loaded
from edgec.capture.hf.directory import read_json
from edgec.capture.hf.kinds import Kind
from edgec.capture.hf.lengths import limited, longest_source
from edgec.capture.sparse_models import sparse_models
from edgec.errors import CaptureError, FormatError

MAX_SECONDS = 30  # of speech, where the model itself names no limit


class Call(nn.Module):
    """`model` with its tensors by name, and the wanted outputs."""

    def __init__(self, model: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        out = self.model(**dict(zip(self.inputs, tensors, strict=True)), return_dict=True)
        return tuple(out[name] for name in self.outputs)


def function(
    loaded: Loaded, kind: Kind, max_length: int | None = None, token_types: bool = False
) -> Function:
    """The function `main` of a model.

    Raises CaptureError for models that want other inputs or do not give the outputs of their kind.
    """
    model = loaded.model
    build = _INPUTS.get(model.main_input_name)
    if build is None:
        got = f"a model of {model.main_input_name}"
        raise CaptureError(type(model).__name__, got, f"a model of {', '.join(_INPUTS)}")
    inputs, dims = build(loaded, max_length, token_types)
    outputs = _outputs(loaded, kind, inputs)
    module = Call(model, tuple(inputs), outputs)
    return Function(module, tuple(inputs.values()), (dims,), tuple(inputs), outputs)


@torch.no_grad()
def _outputs(loaded: Loaded, kind: Kind, inputs: dict[str, Tensor]) -> tuple[str, ...]:
    """The kind's outputs that this model gives, by one run of it."""
    name = type(loaded.model).__name__
    try:
        with sparse_models(loaded.model):  # the stock BigBird turns itself dense on short inputs
            out = loaded.model(**inputs, return_dict=True)
    except Exception as error:  # a model with inputs of its own fails in its own way
        first = (str(error) or type(error).__name__).splitlines()[0][:160]
        got = f"a model that fails on {', '.join(inputs)}: {first}"
        raise CaptureError(name, got, "a model of these inputs alone") from error
    lost = any(key.startswith("pooler.") for key in loaded.missing)
    found = [n for n in kind.outputs if isinstance(out.get(n), Tensor)]
    found = [n for n in found if not (n == "pooler_output" and lost)]
    if not found or kind.outputs[0] not in found:
        given = [n for n, t in out.items() if isinstance(t, Tensor)]
        got = f"outputs {', '.join(given)}"
        raise CaptureError(name, got, f"{kind.outputs[0]} of {kind.name}")
    return tuple(found)


def tells_sentences_apart(loaded: Loaded) -> bool:
    """Whether a text model has embeddings for a first and a second sentence."""
    taken = inspect.signature(loaded.model.forward).parameters
    return "token_type_ids" in taken and getattr(loaded.config, "type_vocab_size", 0) > 1


# ------------------------------------------------------------------ inputs by what the model reads
Inputs = tuple[dict[str, Tensor], tuple[dict[int, Any], ...]]


def text_inputs(loaded: Loaded, max_length: int | None, token_types: bool) -> Inputs:
    """Example tensors by name, and their dynamic dimensions."""
    limit = limited(longest_source(loaded.model, loaded.folder), max_length)
    length = sizes.example(sizes.LENGTH, limit)
    taken = inspect.signature(loaded.model.forward).parameters
    vocabulary = loaded.config.get_text_config().vocab_size
    inputs = {"input_ids": sizes.token_ids(vocabulary, sizes.BATCH, length)}
    if "attention_mask" in taken:
        inputs["attention_mask"] = sizes.padded(sizes.BATCH, length)
    if token_types:
        if not tells_sentences_apart(loaded):
            need = "a model that tells two sentences apart"
            raise CaptureError(type(loaded.model).__name__, "token_types=True", need)
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    dims = {0: Dim("batch", min=1, max=sizes.MAX_BATCH), 1: Dim("seq", min=1, max=limit)}
    return inputs, tuple(dims for _ in inputs)


def image_inputs(loaded: Loaded, max_length: int | None, token_types: bool) -> Inputs:
    _no_options(loaded, max_length, token_types)
    height, width = image_size(loaded)
    channels = getattr(loaded.config, "num_channels", 3)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(sizes.BATCH, channels, height, width, generator=generator)
    return {"pixel_values": pixels}, ({0: Dim("batch", min=1, max=sizes.MAX_BATCH)},)


def speech_inputs(loaded: Loaded, max_length: int | None, token_types: bool) -> Inputs:
    _no_options(loaded, None, token_types)
    config, rate = loaded.config, 16000
    kernels, strides = getattr(config, "conv_kernel", None), getattr(config, "conv_stride", None)
    if not kernels or not strides:
        got = "a speech model without conv_kernel and conv_stride"
        raise CaptureError(type(loaded.model).__name__, got, "a waveform encoder")
    field = 1
    for kernel, stride in reversed(list(zip(kernels, strides, strict=True))):
        field = (field - 1) * stride + kernel
    longest = max_length or MAX_SECONDS * rate
    samples = Dim("samples", min=2 * field, max=longest)
    generator = torch.Generator().manual_seed(0)
    wave = torch.randn(sizes.BATCH, 5 * field + 7, generator=generator)
    return {"input_values": wave}, ({0: Dim("batch", min=1, max=sizes.MAX_BATCH), 1: samples},)


_INPUTS: dict[str, Callable[[Loaded, int | None, bool], Inputs]] = {
    "input_ids": text_inputs,
    "pixel_values": image_inputs,
    "input_values": speech_inputs,
}


def _no_options(loaded: Loaded, max_length: int | None, token_types: bool) -> None:
    if max_length is not None or token_types:
        got = "max_length or token_types"
        raise CaptureError(type(loaded.model).__name__, got, "a text model for these options")


def image_size(loaded: Loaded) -> tuple[int, int]:
    """(height, width): what the preprocessor makes, or else the configuration's image_size.

    Raises FormatError where neither says it.
    """
    path = loaded.folder / "preprocessor_config.json"
    settings = read_json(path) if path.is_file() else {}
    order = ("crop_size", "size") if settings.get("do_center_crop", True) else ("size",)
    for key in order:
        if (found := _pair(settings.get(key))) is not None:
            return found
    if (found := _pair(getattr(loaded.config, "image_size", None))) is not None:
        return found
    need = "size or crop_size in preprocessor_config.json, or image_size in config.json"
    raise FormatError("hf", f"{loaded.folder.name} without an image size", need)


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    if isinstance(size, dict):
        if "height" in size and "width" in size:
            return int(size["height"]), int(size["width"])
        if "shortest_edge" in size:
            return int(size["shortest_edge"]), int(size["shortest_edge"])
    return None
