"""Execution of the written files by onnxruntime, with all of its graph optimizations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from edgec.errors import FormatError, UnsupportedError, ValidationError
from edgec.interpreter import check_inputs
from edgec.ir import DType
from edgec.target import Executable, Signature
from edgec.targets.onnx.lower import RENAMED, SIGNATURE

AGAIN = "copy the file again, or build it again"
FOLDER_KEY = "session.model_external_initializers_file_folder_path"


class OnnxExecutable(Executable):
    """The functions of a folder of `.onnx` files, open in onnxruntime.

    Raises FormatError for a folder without models, damaged files and foreign models.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.folder, self.threads = Path(folder), threads
        paths = sorted(self.folder.glob("*.onnx"))
        if not paths:
            raise FormatError(str(folder), "no .onnx file", "a folder that target onnx wrote")
        self.functions: dict[str, Signature] = {}
        self._paths: dict[str, Path] = {}
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._renamed: dict[str, dict[str, str]] = {}
        for path in paths:
            self._open(path)

    def _open(self, path: Path) -> None:
        session = self._session(str(path), str(path))
        properties: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        if SIGNATURE not in properties:
            raise FormatError(
                str(path), "an ONNX model without a signature", "one written by edgec"
            )
        signature = Signature.from_json(properties[SIGNATURE])
        _check_names(path, session, signature)
        if signature.name in self._paths:
            got = f"{path.name} and {self._paths[signature.name].name}, both of {signature.name}"
            raise FormatError(str(self.folder), got, "one file for each function")
        self.functions[signature.name] = signature
        self._paths[signature.name] = path
        self._sessions[signature.name] = session
        self._renamed[signature.name] = _renamed(path, properties.get(RENAMED, "{}"))

    def _session(self, model: str | bytes, where: str) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if isinstance(model, bytes):
            options.add_session_config_entry(FOLDER_KEY, str(self.folder))
        try:
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise FormatError(where, _first_line(error), "a whole ONNX model", AGAIN) from error

    # -------------------------------------------------------------- running
    def run(self, function: str, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Execute a function. Raises ValidationError for inputs that do not fit its signature."""
        signature = self._signature(function)
        names = [v.name for v in signature.outputs]
        return self._execute(self._sessions[function], signature, inputs, names)

    def values(
        self, function: str, inputs: Sequence[torch.Tensor], names: Sequence[str] | None = None
    ) -> dict[str, torch.Tensor]:
        """Values by their names in the graph; None: all that the model holds under their own name.

        The shipped model is opened once more with these values as further outputs. onnxruntime
        cannot fuse across a value that it has to show: ask for few names to stay close to `run`.
        Raises ValidationError for a name that the model does not have.
        """
        signature = self._signature(function)
        model = _load(self._paths[function])
        renamed = self._renamed[function]
        held = {n for node in model.graph.node for n in node.output}
        shown = {n for n in held if "/" not in n} | set(renamed.values())
        ir_names = {renamed.get(n, n): n for n in renamed} | {
            n: n for n in shown if n not in renamed.values()
        }
        wanted = {renamed.get(n, n): n for n in names} if names is not None else ir_names
        if missing := sorted(n for o, n in wanted.items() if o not in held):
            got = ", ".join(missing)
            raise ValidationError(function, got, "values that the model still has")
        outputs = {v.name for v in signature.outputs}
        for name in wanted:
            if name not in outputs:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
        session = self._session(model.SerializeToString(), str(self._paths[function]))
        found = self._execute(session, signature, inputs, list(wanted))
        return dict(zip(wanted.values(), found, strict=True))

    def _signature(self, function: str) -> Signature:
        if function not in self.functions:
            raise ValidationError("run", function, f"one of {', '.join(self.functions)}")
        return self.functions[function]

    def _execute(
        self,
        session: ort.InferenceSession,
        signature: Signature,
        inputs: Sequence[torch.Tensor],
        names: list[str],
    ) -> list[torch.Tensor]:
        graph = signature.graph()
        tensors = check_inputs(graph, inputs)
        graph.bind(tuple(t.shape) for t in tensors)
        feeds = {v.name: _to_numpy(t) for v, t in zip(graph.inputs, tensors, strict=True)}
        used = {i.name for i in session.get_inputs()}
        feeds = {n: a for n, a in feeds.items() if n in used}
        try:
            made = session.run(names, feeds)
        except Exception as error:  # for instance an index out of range, deep inside of a kernel
            raise ValidationError(signature.name, _first_line(error)) from error
        return [torch.from_numpy(np.asarray(array)) for array in made]


def _load(path: Path) -> onnx.ModelProto:
    """The model alone, without its weights. Raises FormatError for a file that changed its form."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf, for a file that is none
        raise FormatError(str(path), _first_line(error), "a whole ONNX model", AGAIN) from error
    if not model.HasField("graph"):
        raise FormatError(str(path), "no graph", "a whole ONNX model", AGAIN)
    return model


def _renamed(path: Path, text: str) -> dict[str, str]:
    """Values that have another name in the file: {name in the graph: name in the file}."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and all(isinstance(n, str) for n in found.values()):
        return found
    raise FormatError(str(path), f"{RENAMED} = {text[:40]!r}", "a table of names", AGAIN)


def _check_names(path: Path, session: ort.InferenceSession, signature: Signature) -> None:
    """Raise FormatError unless the model has the inputs and outputs that its signature says."""
    has = {i.name for i in session.get_inputs()}, [o.name for o in session.get_outputs()]
    need = {v.name for v in signature.inputs}, [v.name for v in signature.outputs]
    if has[0] != need[0] or has[1] != need[1]:
        raise FormatError(str(path), f"inputs and outputs {has}", f"those of its signature, {need}")


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        need = "inputs of another dtype"
        raise UnsupportedError("onnx", f"a {DType.BF16.value} input", need, "cast inside the model")
    return tensor.detach().cpu().contiguous().numpy()


def _first_line(error: Exception) -> str:
    """onnxruntime's message without its error codes and build paths."""
    text = str(error).strip().splitlines()
    if not text:
        return type(error).__name__
    return text[0].split(" : ")[-1].split("Status Message: ")[-1][:200]
