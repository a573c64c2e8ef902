"""What is written of a model besides its weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from edgec.errors import UnsupportedError
from edgec.runtime.sources import INCLUDE
from edgec.targets.native import webassembly
from edgec.targets.native.libraries import ModelCode, write_shared, write_static
from edgec.targets.native.package import write_config, write_source
from edgec.targets.native.platforms import Platform

OUTPUTS = ("shared", "static", "cmake", "source")


def check_outputs(platforms: Sequence[Platform], outputs: Sequence[str]) -> None:
    """Raises UnsupportedError for unknown outputs and for a platform that has none of them."""
    if unknown := [o for o in outputs if o not in OUTPUTS]:
        need = f"some of {', '.join(OUTPUTS)}"
        raise UnsupportedError("native", f"outputs {', '.join(unknown)}", need)
    for p in platforms:
        there = {"shared": bool(p.library), "static": p.archive, "source": bool(p.systems)}
        if not any(there.get(o) for o in outputs):
            got = f"outputs {', '.join(outputs) or '(none)'} for {p.triple}"
            need = f"one of {', '.join(o for o in there if there[o])}"
            raise UnsupportedError("native", got, need)


def write_outputs(
    code: ModelCode, platforms: Sequence[Platform], outputs: Sequence[str], folder: Path
) -> list[str]:
    """Write them; the names of all files, relative to the folder."""
    files = _write_headers(code, folder)
    for platform in platforms:
        if "shared" in outputs and platform.library:
            files.append(write_shared(code, platform, folder))
            if platform.is_webassembly:
                files.append(_write_loader(code, files[-1], folder))
        if "static" in outputs and platform.archive:
            files.append(write_static(code, platform, folder))
    if "cmake" in outputs:
        files.append(write_config(code, platforms, outputs, folder))
    if "source" in outputs:
        files += write_source(code, platforms, folder)
    return files


def _write_loader(code: ModelCode, wasm: str, folder: Path) -> str:
    """NAME.mjs, which loads the WebAssembly module `wasm`."""
    text = webassembly.javascript(code.name, wasm, code.tokens)
    (folder / f"{code.name}.mjs").write_text(text)
    return f"{code.name}.mjs"


def _write_headers(code: ModelCode, folder: Path) -> list[str]:
    """NAME.h and what it includes."""
    (folder / f"{code.name}.h").write_text(code.header)
    (folder / "edgec").mkdir()
    included = ["edgec/runtime.h", *(["edgec/tokenizer.h"] if code.tokens else [])]
    for name in included:
        shutil.copyfile(INCLUDE / name, folder / name)
    return [f"{code.name}.h", *included]
