"""summary.json: the variants of one model side by side, each a release of its own in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgec.errors import FormatError, ValidationError
from edgec.records import plain, read
from edgec.release.manifest import EXIT_CODES, Manifest, Outcome

NAME = "summary.json"


@dataclass(frozen=True)
class Row:
    """One variant in a line.

    name                 of the variant, and of its folder
    verdict              of its release
    reasons              why it is not ACCEPT
    passes               compression passes of the recipe
    target               name of the target
    model_bytes          of the files that the target wrote
    model_brotli_bytes   the same under brotli; null: not measured
    shipped_bytes        with tokenizer
    ratio                model bytes over those of the uncompressed build
    metric               name of the quality metric
    value                quality
    drop                 against the uncompressed build
    figures              further figures
    fidelity_max_ratio   greatest deviation from the interpreted graph; null: not finite
    agreement            part of samples with the interpreter's own prediction; null: not measured
    latency_ms           CPU time of a call, by function
    seconds              the build took
    """

    name: str
    verdict: Outcome
    reasons: tuple[str, ...]
    passes: tuple[str, ...]
    target: str
    model_bytes: int
    model_brotli_bytes: int | None
    shipped_bytes: int
    ratio: float
    metric: str
    value: float
    drop: float
    figures: Mapping[str, float | str]
    fidelity_max_ratio: float | None
    agreement: float | None
    latency_ms: Mapping[str, float]
    seconds: float

    @staticmethod
    def of(manifest: Manifest, passes: tuple[str, ...]) -> Row:
        sizes, quality = manifest.sizes, manifest.quality
        return Row(
            name=manifest.recipe.name,
            verdict=manifest.verdict,
            reasons=manifest.reasons,
            passes=passes,
            target=manifest.target,
            model_bytes=sizes.model_bytes,
            model_brotli_bytes=sizes.model_brotli_bytes,
            shipped_bytes=sizes.shipped_bytes,
            ratio=sizes.ratio,
            metric=quality.metric,
            value=quality.value,
            drop=quality.drop,
            figures=quality.figures,
            fidelity_max_ratio=manifest.fidelity.max_ratio,
            agreement=quality.agreement,
            latency_ms={entry.function: entry.ms for entry in manifest.host.latency},
            seconds=sum(manifest.host.seconds.values()),
        )


@dataclass(frozen=True)
class Summary:
    """The content of summary.json.

    name        of the recipe
    model       what was compiled
    default     variant that `Release.load` takes: the smallest accepted one; null: none was
                accepted
    variants    in the recipe's order
    seconds     the whole build took
    peak_bytes  of memory that the build's process took; null: the system does not tell
    format      "edgec-summary"
    version     of this schema
    """

    name: str
    model: str
    default: str | None
    variants: tuple[Row, ...]
    seconds: float
    peak_bytes: int | None
    format: Literal["edgec-summary"] = "edgec-summary"
    version: Literal[1] = 1

    @property
    def exit_code(self) -> int:
        """Of the gravest verdict: ANOMALOUS first, then the others by their codes."""
        codes = [EXIT_CODES[r.verdict] for r in self.variants if r.verdict != "ACCEPT"]
        return (
            EXIT_CODES["ANOMALOUS"] if EXIT_CODES["ANOMALOUS"] in codes else min(codes, default=0)
        )

    def choose(self, variant: str = "") -> str:
        """The folder of a variant. Raises ValidationError for an unknown one, or for none."""
        names = [r.name for r in self.variants]
        if variant and variant not in names:
            raise ValidationError("release", f"variant {variant}", f"one of {', '.join(names)}")
        chosen = variant or self.default
        if chosen is None:
            need = f"the name of one of {', '.join(names)}"
            raise ValidationError("release", "no accepted variant", need)
        return chosen

    def save(self, folder: Path) -> None:
        text = json.dumps(plain(self), ensure_ascii=False, indent=1, allow_nan=False)
        (folder / NAME).write_bytes(text.encode() + b"\n")


def smallest_accepted(rows: tuple[Row, ...]) -> str | None:
    """Name of the accepted variant with the fewest bytes."""
    accepted = [r for r in rows if r.verdict == "ACCEPT"]
    return min(accepted, key=lambda r: r.shipped_bytes).name if accepted else None


def load_summary(folder: Path) -> Summary:
    """Read summary.json. Raises FormatError for a damaged file or a folder that is missing."""
    try:
        data = json.loads((folder / NAME).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        do = "build it again, or name the folder of a variant"
        raise FormatError(NAME, f"damaged ({error})", "the file as built", do) from error
    summary = read(Summary, data, NAME)
    wrong = [r.name for r in summary.variants if Path(r.name).name != r.name]
    if wrong:
        raise FormatError(NAME, f"variants {', '.join(wrong)}", "names of folders beside it")
    return summary
