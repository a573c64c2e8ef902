"""Records for release.json: constants, passes, tools."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence

import edgec
from edgec.ir.program import Program
from edgec.records import finite
from edgec.release.manifest import Constant, PassDone
from edgec.target import Artifact, Target
from edgec.transform import PassRecord

_PACKAGES = ("torch", "numpy", "safetensors", "brotli", "sacrebleu", "sentencepiece", "tokenizers")


def constant_records(
    original: Program, compressed: Program, artifact: Artifact, passes: Sequence[PassRecord]
) -> tuple[Constant, ...]:
    """Every constant of the compressed program that some function uses, and where it is stored."""
    errors = {name: e for record in passes for name, e in record.errors.items()}
    users = _users(compressed)
    records = []
    for name, used_by in users.items():
        encoding = compressed.constants[name].encoding
        before = original.constants.get(name)
        stored = artifact.stored.get(name)
        records.append(
            Constant(
                name=name,
                type=str(encoding.type),
                encoding=encoding.describe(),
                original_bytes=before.encoding.nbytes if before else None,
                payload_bytes=encoding.nbytes,
                stored_bytes=stored.nbytes if stored else 0,
                stored_as=stored.encoding if stored else "",
                file=stored.file if stored else "",
                support=stored.support.value if stored else "",
                reason=stored.reason if stored else "folded into the file's own constants",
                error=finite(errors[name]) if name in errors else None,
                used_by=used_by,
            )
        )
    return tuple(records)


def _users(program: Program) -> dict[str, tuple[str, ...]]:
    """Constant -> `function: op` of everything that reads it, in the graphs' order."""
    users: dict[str, list[str]] = {}
    for graph in program.graphs.values():
        for node in graph.nodes:
            for name in node.operands:
                if name.startswith("@"):
                    users.setdefault(name[1:], []).append(f"{graph.name}: {node.op.name}")
        for name in graph.outputs:
            if name.startswith("@"):
                users.setdefault(name[1:], []).append(f"{graph.name}: output")
    return {name: tuple(dict.fromkeys(found)) for name, found in users.items()}


def pass_records(records: Sequence[PassRecord]) -> tuple[PassDone, ...]:
    return tuple(
        PassDone(
            spec=r.spec,
            modified=r.modified,
            nodes_before=r.nodes_before,
            nodes_after=r.nodes_after,
            bytes_before=r.bytes_before,
            bytes_after=r.bytes_after,
            errors={name: finite(e) for name, e in r.errors.items()},
            notes=r.notes,
            deviation_max_ratio=finite(r.deviation.max_ratio) if r.deviation else None,
            deviation_cosine=finite(r.deviation.cosine) if r.deviation else None,
        )
        for r in records
    )


def tools(target: Target) -> Mapping[str, str]:
    """Versions of everything that took part."""
    found = {"edgec": edgec.__version__, "python": platform.python_version()}
    for name in (*_PACKAGES, *target.packages):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
