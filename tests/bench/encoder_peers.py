"""Who computes an encoder in tests.bench.encoder: each is built into a folder, then opened.

`BUILD` is run once; `OPEN` in a process of its own (tests/bench/turns.py). An opened one takes the
inputs of one text, `{"ids": i64[1, T], "mask": i64[1, T]}`, and gives the call. All compute in f32:
OpenVINO is told so, since it takes bf16 where the processor has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tests.bench.encoder_models import VOCABULARY, example, hidden, marian
from tests.bench.turns import Call

Given: TypeAlias = Mapping[str, np.ndarray]
Prepare: TypeAlias = Callable[[Given], Call]


# ------------------------------------------------------------------ edgec
def build_native(name: str, folder: Path) -> None:
    from edgec.capture import capture

    write_native(capture(hidden(name), *example()), folder)


def write_native(program: Any, folder: Path) -> None:
    """Compile a program after the passes that every build begins with."""
    from edgec.passes import CLEANUP, parse_pipeline
    from edgec.targets.native import Native

    program, _ = parse_pipeline(CLEANUP).run(program)
    target = Native()
    target.emit(target.legalize(program), folder)


def open_native(name: str, folder: Path, threads: int) -> Prepare:
    from edgec.runtime.model import Model

    model = Model(next(folder.glob("lib/*/*")), next(folder.glob("*.weights")), threads)

    def prepare(given: Given) -> Call:
        sizes = {"length": given["ids"].shape[1]}
        inputs = [given[i.name] for i in model.functions["main"].inputs]
        arguments = model.prepare("main", sizes, inputs)

        def call() -> object:
            model.call(arguments)
            return arguments.results()[0]

        return call

    return prepare


# ------------------------------------------------------------------ torch
def no_files(name: str, folder: Path) -> None:
    """Nothing to build."""


def open_torch(name: str, folder: Path, threads: int) -> Prepare:
    return torch_calls(hidden(name), threads)


def torch_calls(module: Any, threads: int) -> Prepare:
    import torch

    torch.set_num_threads(threads)

    def prepare(given: Given) -> Call:
        inputs = [torch.from_numpy(a) for a in given.values()]

        def call() -> object:
            with torch.inference_mode():
                return module(*inputs)

        return call

    return prepare


# ------------------------------------------------------------------ onnxruntime
def build_onnx(name: str, folder: Path) -> None:
    """torch's own exporter; the file is also what OpenVINO reads."""
    import torch

    inputs, shapes = example()
    torch.onnx.export(
        hidden(name),
        inputs,
        folder / "encoder.onnx",
        dynamo=True,
        external_data=False,
        dynamic_shapes=shapes,
        input_names=["ids", "mask"],
        output_names=["hidden"],
    )


def open_onnxruntime(name: str, folder: Path, threads: int) -> Prepare:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    path = next(folder.glob("*.onnx"))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def prepare(given: Given) -> Call:
        feed = {n: given[n] for n in names}
        return lambda: session.run(None, feed)[0]

    return prepare


# ------------------------------------------------------------------ OpenVINO
def open_openvino(name: str, folder: Path, threads: int) -> Prepare:
    import openvino

    core = openvino.Core()
    config = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(folder / "encoder.onnx", "CPU", config)
    request = compiled.create_infer_request()

    def prepare(given: Given) -> Call:
        feed = {n: given[n] for i in compiled.inputs for n in i.names}

        def call() -> object:
            return request.infer(feed, share_inputs=True, share_outputs=True)[0]

        return call

    return prepare


# ------------------------------------------------------------------ CTranslate2
def build_ctranslate2(name: str, folder: Path) -> None:
    from ctranslate2.converters.transformers import TransformersConverter

    if name == "minilm":
        from tests.bench.quality import model_folder

        TransformersConverter(str(model_folder())).convert(str(folder), force=True)
    else:
        _marian_encoder(name).save(str(folder))


def _marian_encoder(name: str) -> Any:
    """The encoder of a Marian model as a model of its own, with made-up names of tokens."""
    from ctranslate2.converters.transformers import MarianMTLoader
    from ctranslate2.specs.transformer_spec import TransformerEncoderModelSpec

    tokens = [f"t{i}" for i in range(VOCABULARY - 1)]  # without the padding at the end

    class Loader(MarianMTLoader):  # type: ignore[misc]
        def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
            return tokens

    spec = TransformerEncoderModelSpec(Loader().get_model_spec(marian(name)).encoder)
    spec.config.unk_token = spec.config.bos_token = spec.config.eos_token = tokens[0]
    spec.register_vocabulary(tokens)
    spec.validate()
    return spec


def open_ctranslate2(name: str, folder: Path, threads: int) -> Prepare:
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(folder), device="cpu", compute_type="float32", intra_threads=threads
    )
    view = ctranslate2.StorageView.from_array

    def prepare(given: Given) -> Call:
        ids, lengths = given["ids"].astype(np.int32), given["mask"].sum(1).astype(np.int32)

        def call() -> object:
            found = encoder.forward_batch(view(ids), view(lengths))
            return np.asarray(found.last_hidden_state)

        return call

    return prepare


# ------------------------------------------------------------------ table
ONNX = "onnxruntime"
BUILD: dict[str, Callable[[str, Path], None]] = {
    "edgec": build_native,
    "torch": no_files,
    ONNX: build_onnx,
    "openvino": no_files,
    "ctranslate2": build_ctranslate2,
}
OPEN: dict[str, Callable[[str, Path, int], Prepare]] = {
    "edgec": open_native,
    "torch": open_torch,
    ONNX: open_onnxruntime,
    "openvino": open_openvino,
    "ctranslate2": open_ctranslate2,
}
SHARED_FILES = {"openvino": ONNX}  # whose files another one built
