"""Checkpoints of a training: tensors as safetensors, the rest as JSON, replaced as one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edgec.errors import PassError
from edgec.ir import Program


@dataclass(frozen=True)
class Checkpoint:
    """A folder with the latest state of one training.

    where   the pass, for errors
    key     hash of everything that the training depends on
    """

    where: str
    folder: Path
    key: str

    def save(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Write a state; whatever happens meanwhile, the folder has this one or the one before."""
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"state-{record['step']}.safetensors"
        part = self.folder / f"{name}.part"
        save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, part)
        os.replace(part, self.folder / name)
        text = json.dumps({"key": self.key, "tensors": name, **record}, indent=1)
        (self.folder / "state.json.part").write_text(text + "\n", "utf-8")
        os.replace(self.folder / "state.json.part", self.folder / "state.json")
        for old in self.folder.glob("state-*.safetensors*"):
            if old.name != name:
                old.unlink()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state that was saved last, None before the first.

        Raises PassError for a folder of another training, and for damaged files.
        """
        from safetensors.torch import load_file

        path = self.folder / "state.json"
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text("utf-8"))
            if record["key"] != self.key:
                got = f"checkpoint={self.folder} of other options, data or programs"
                raise PassError(self.where, got, "that of this training", "name another folder")
            return load_file(self.folder / record["tensors"]), record
        except PassError:
            raise
        except Exception as error:  # safetensors and json each have their own
            got = f"checkpoint={self.folder}, which cannot be read: {str(error)[:120]}"
            raise PassError(self.where, got, "its files as written", "delete the folder") from error


def fingerprint(programs: Mapping[str, Program], data: list[Tensor], *texts: str) -> str:
    """Hash of programs, tensors and texts."""
    from edgec.ir.encoding import tensor_bytes

    h = hashlib.sha256("\n".join(texts).encode())
    for name, program in programs.items():
        h.update(name.encode())
        for graph in program.graphs.values():
            h.update(graph.structure().encode())
        for constant in program.constants.values():
            h.update(f"{constant.name} {constant.encoding.digest}".encode())
    for tensor in data:
        h.update(tensor_bytes(tensor))
    return h.hexdigest()
