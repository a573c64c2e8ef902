"""release.json: everything that a build knows about its release, strictly read.

The schema is `release.schema.json` beside this file, generated from these records. `checksum`
covers the whole file, so that damage is noticed; `identity` covers only what follows from the model
and the recipe (the files that ship, their meaning), so it is the same on every machine; what was
measured on one machine stands under `host`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from edgec.errors import FormatError
from edgec.measure import BROTLI_QUALITY, Latency
from edgec.records import json_schema, plain, read
from edgec.validate.report import Fidelity

FORMAT = "edgec-release"
VERSION = 1
NAME = "release.json"

Outcome = Literal["ACCEPT", "REGRESSION", "ANOMALOUS", "INFEASIBLE", "GREW", "SLOWER"]
EXIT_CODES: dict[str, int] = {
    "ACCEPT": 0,
    "REGRESSION": 10,
    "ANOMALOUS": 11,
    "INFEASIBLE": 12,
    "GREW": 13,
    "SLOWER": 14,
}


@dataclass(frozen=True)
class File:
    """A file of the release.

    name           path inside of the release folder
    ships          whether it is part of what goes to a device, and counts as bytes
    kind           model, tokenizer, or evidence for `edgec verify`
    size_bytes     its size
    brotli_bytes   its size under brotli; null where brotli is not installed or the file does not
                   ship
    sha256         its hash
    """

    name: str
    ships: bool
    kind: Literal["model", "tokenizer", "evidence"]
    size_bytes: int
    brotli_bytes: int | None
    sha256: str


@dataclass(frozen=True)
class Tensor:
    """An input or output of a function.

    name   as callers know it
    type   element type and shape, as `f32[batch, 8]`
    """

    name: str
    type: str


@dataclass(frozen=True)
class Function:
    """A callable function of the artifact.

    name          as callers know it
    inputs        in order
    outputs       in order
    dims          named dimensions: [smallest, greatest] value
    states        input -> output that feeds it in the next call
    input_tree    structure of nested arguments (torch's pytree text); empty: flat
    output_tree   structure of nested results
    flops         floating-point operations of a call, an expression over the dimensions
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    dims: Mapping[str, tuple[int, ...]]
    states: Mapping[str, str]
    input_tree: str
    output_tree: str
    flops: str


@dataclass(frozen=True)
class Constant:
    """A stored tensor: where its bytes are and what compression did to it.

    name             in the graph
    type             decoded type, as `f32[8000, 256]`
    encoding         how the graph stores it, as `affine(bits=4, group=32)`
    original_bytes   bytes of the model as it was given; null: made by a pass
    payload_bytes    exact bytes of the encoding
    stored_bytes     bytes in the shipped file
    stored_as        encoding in the shipped file
    file             the file
    support          native, decoded, widened, decomposed: what the target did with the encoding
    reason           why, where it is not native
    error            relative error of compression, ||w - w'|| / ||w||; null: not changed
    used_by          functions and ops that read it, as `step: linear`
    """

    name: str
    type: str
    encoding: str
    original_bytes: int | None
    payload_bytes: int
    stored_bytes: int
    stored_as: str
    file: str
    support: str
    reason: str
    error: float | None
    used_by: tuple[str, ...]


@dataclass(frozen=True)
class PassDone:
    """One pass of the build.

    spec                  the pass in text, with its options
    modified              whether it changed anything
    nodes_before          nodes of all functions
    nodes_after           the same after the pass
    bytes_before          exact payload of the constants
    bytes_after           the same after the pass
    errors                constant -> relative error
    notes                 what was left as it is, and why
    deviation_max_ratio   outputs so far against the original's; null: not measured
    deviation_cosine      least cosine of an output with the original's
    """

    spec: str
    modified: bool
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int
    errors: Mapping[str, float | None]
    notes: tuple[str, ...]
    deviation_max_ratio: float | None
    deviation_cosine: float | None


@dataclass(frozen=True)
class Quality:
    """What compression cost, in the task's metric: this build against the uncompressed one.

    metric             its name
    unit               of its values
    value              of this build
    original           of the uncompressed build of the same model and target
    drop               original - value
    max_drop           what may be lost; null: no limit
    samples            evaluated
    data_sha256        hash of the samples and references
    figures            further figures of this build
    original_figures   the same of the uncompressed build
    same_as_original   part of the samples with the same prediction as the uncompressed build
    agreement          part of the first samples where artifact and interpreted graph predict the
                       same; null: not measured
    agreement_samples  how many
    min_agreement      what it must be; null: not judged
    original_fidelity  greatest deviation of the uncompressed build from its interpreted graph,
                       relative; null: not finite
    original_passed    whether that is within the tolerance
    """

    metric: str
    unit: str
    value: float
    original: float
    drop: float
    max_drop: float | None
    samples: int
    data_sha256: str
    figures: Mapping[str, float | str]
    original_figures: Mapping[str, float | str]
    same_as_original: float
    agreement: float | None
    agreement_samples: int
    min_agreement: float | None
    original_fidelity: float | None
    original_passed: bool


@dataclass(frozen=True)
class Sizes:
    """Bytes of the files that ship, here and in the uncompressed build.

    shipped_bytes               all files that ship
    shipped_brotli_bytes        the same under brotli; null: brotli is not installed
    model_bytes                 the model's files alone
    model_brotli_bytes          the same under brotli
    uncompressed_shipped_bytes  all files of the uncompressed build
    uncompressed_model_bytes    its model's files
    uncompressed_brotli_bytes   its model's files under brotli
    brotli_quality              level that the sizes under brotli are for
    max_shipped_bytes           allowed shipped_bytes; null: no limit
    max_ratio                   allowed ratio; null: no limit
    allow_bigger                whether more bytes than the uncompressed build has are accepted
    """

    shipped_bytes: int
    shipped_brotli_bytes: int | None
    model_bytes: int
    model_brotli_bytes: int | None
    uncompressed_shipped_bytes: int
    uncompressed_model_bytes: int
    uncompressed_brotli_bytes: int | None
    brotli_quality: int = BROTLI_QUALITY
    max_shipped_bytes: int | None = None
    max_ratio: float | None = None
    allow_bigger: bool = False

    @property
    def ratio(self) -> float:
        """Model bytes over those of the uncompressed build."""
        return self.model_bytes / max(1, self.uncompressed_model_bytes)


@dataclass(frozen=True)
class Host:
    """What holds for the machine of the build only.

    machine            processor, cores, system
    tools              version of each package that took part
    seconds            wall time of each stage
    latency            CPU time per call
    max_slowdown       allowed CPU time over the uncompressed build's; null: reported only
    load_bytes         growth of the process's memory by loading and running the artifact; null:
                       unknown
    """

    machine: Mapping[str, str | int]
    tools: Mapping[str, str]
    seconds: Mapping[str, float]
    latency: tuple[Latency, ...]
    max_slowdown: float | None
    load_bytes: int | None


@dataclass(frozen=True)
class RecipeText:
    """The recipe that the release was built from.

    name     of the variant
    text     of the recipe file; empty: built without one
    sha256   hash of the text
    """

    name: str
    text: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of release.json.

    format      "edgec-release"
    version     of this schema
    checksum    hash of everything else in the file
    identity    hash of what follows from model and recipe alone: the same on every machine
    name        of the release
    model       what was compiled, without folders
    verdict     ACCEPT, REGRESSION, ANOMALOUS, INFEASIBLE, GREW or SLOWER
    reasons     why the verdict is not ACCEPT
    warnings    what is worth knowing besides
    target      name of the target
    options     of the target
    functions   of the artifact
    metadata    task, tokenizer files, generation settings
    files       of the release, except this one and report.html
    sizes       bytes that ship
    constants   stored tensors
    passes      that ran, in order
    notes       of the target: what was widened, decoded, left out
    fidelity    artifact against the interpreted compressed graph
    quality     this build against the uncompressed one
    recipe      where it came from
    host        measured on one machine
    """

    name: str
    model: str
    verdict: Outcome
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    target: str
    options: Mapping[str, Any]
    functions: tuple[Function, ...]
    metadata: Mapping[str, Any]
    files: tuple[File, ...]
    sizes: Sizes
    constants: tuple[Constant, ...]
    passes: tuple[PassDone, ...]
    notes: tuple[str, ...]
    fidelity: Fidelity
    quality: Quality
    recipe: RecipeText
    host: Host
    format: Literal["edgec-release"] = "edgec-release"
    version: int = VERSION
    checksum: str = ""
    identity: str = ""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def sealed(self) -> Manifest:
        """The same with `identity` and `checksum` filled in."""
        data = plain(self)
        shipped = [f for f in data["files"] if f["ships"]]
        lasting = {
            "files": [(f["name"], f["size_bytes"], f["sha256"]) for f in shipped],
            **{key: data[key] for key in ("target", "options", "functions", "metadata", "version")},
            "passes": [p["spec"] for p in data["passes"]],
        }
        data["identity"] = _digest(lasting)
        return dataclasses.replace(self, identity=data["identity"], checksum=_checksum(data))

    def save(self, folder: Path) -> None:
        text = json.dumps(plain(self.sealed()), ensure_ascii=False, indent=1, allow_nan=False)
        (folder / NAME).write_bytes(text.encode() + b"\n")


def load_manifest(folder: Path) -> Manifest:
    """Read release.json of a folder.

    Raises FormatError for a file that is missing, truncated, damaged or of another version.
    """
    try:
        data = json.loads((folder / NAME).read_bytes())
    except OSError as error:
        got = f"{folder.name}: {error.strerror}"
        raise FormatError(NAME, got, "a release folder with release.json") from error
    except (ValueError, RecursionError) as error:
        do = "build it again, or copy it again"
        raise FormatError(NAME, f"damaged JSON ({error})", "the file as built", do) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise FormatError(NAME, "JSON of another kind", f'"format": "{FORMAT}"')
    if data.get("version") != VERSION:
        do = "use the edgec that built it, or build it again"
        raise FormatError(NAME, f"version {data.get('version')!r}", f"version {VERSION}", do)
    if data.get("checksum") != _checksum(data):
        do = "build it again, or copy it again"
        raise FormatError(NAME, "content that its checksum does not cover", "the file as built", do)
    manifest = read(Manifest, data, NAME)
    tokenizer = ((manifest.metadata.get("tokenizer") or {}).get("files") or {}).values()
    names = [*(f.name for f in manifest.files), *map(str, tokenizer)]
    if outside := [n for n in names if not _is_inside(n)]:
        raise FormatError(NAME, f"files {', '.join(outside)}", "paths inside of the release")
    return manifest


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    foreign = "\\" in name or ":" in name  # of another system
    return not (path.is_absolute() or ".." in path.parts or foreign)


def _checksum(data: Mapping[str, Any]) -> str:
    return _digest({k: v for k, v in data.items() if k != "checksum"})


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def schema() -> dict[str, Any]:
    """The JSON schema of release.json."""
    return json_schema(Manifest, "release.json of an edgec release, version 1")


def write_schema() -> Path:
    """Write `release.schema.json` beside this file again; a test holds the two together."""
    path = Path(__file__).with_name("release.schema.json")
    path.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
