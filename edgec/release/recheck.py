"""`edgec verify`: every check of the build again, from the files of the release alone.

Hashes and sizes of all files; signatures as the artifact states them; the golden calls executed;
quality measured again on the stored samples; the verdict derived again. Speed is not judged again:
it belongs to the machine of the build.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from edgec.comparison import compare
from edgec.errors import EdgecError
from edgec.measure import brotli_bytes
from edgec.metrics import Predictions, Score, Texts, agreement, get_metric, predict
from edgec.metrics.data import load_evidence
from edgec.release.golden import load_cases
from edgec.release.judge import Limits, judge
from edgec.release.manifest import EXIT_CODES, Manifest, Quality, Sizes
from edgec.validate import Checked, Fidelity, check

if TYPE_CHECKING:
    from edgec.release import Release

Progress = Callable[[str, int, int], None]
SCORE = 0.01  # a score measured again may differ by this part of its value
BROTLI = 0.01  # sizes under brotli may differ by this part, between versions of it
ROUNDING = 1e-3  # of its scale, a tensor predicted on another processor may differ
SAME = 0.99  # part of the samples whose predictions must be those of the build


@dataclass(frozen=True)
class Step:
    """One check that was repeated: what, whether it holds, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Verification:
    """All checks of a release, repeated."""

    steps: tuple[Step, ...]
    verdict: str

    @property
    def passed(self) -> bool:
        return all(s.passed for s in self.steps)

    @property
    def exit_code(self) -> int:
        """0 where everything holds and the release is accepted; that of the verdict otherwise."""
        return EXIT_CODES[self.verdict] if self.passed else EXIT_CODES["ANOMALOUS"]


def verify(release: Release, progress: Progress | None = None) -> Verification:
    """Repeat every check. A check that cannot be made counts as one that fails."""
    manifest = release.manifest
    found: dict[str, Step] = {}

    def attempt(name: str, action: Callable[[], Step]) -> bool:
        try:
            found[name] = action()
        except EdgecError as error:
            found[name] = Step(name, False, str(error))
        return found[name].passed

    results: dict[str, Fidelity | Quality | Sizes] = {}

    def fidelity() -> Step:
        again = _fidelity(release, progress)
        results["fidelity"] = again
        worst = "not finite" if again.max_ratio is None else f"{again.max_ratio:.2g}"
        return Step("fidelity", again.passed == manifest.fidelity.passed, _calls(again, worst))

    def quality() -> Step:
        again, step = _quality(release, progress)
        results["quality"] = again
        return step

    def sizes() -> Step:
        again = _sizes(release)
        results["sizes"] = again
        text = f"{again.shipped_bytes} bytes ship, the model {again.ratio:.4f} of the uncompressed"
        return Step("sizes", _same_sizes(again, manifest.sizes), text)

    if attempt("files", lambda: _files(release)) and attempt("load", lambda: _load(release)):
        attempt("fidelity", fidelity)
        attempt("quality", quality)
        attempt("sizes", sizes)
        if len(results) == 3:
            attempt("verdict", lambda: _verdict(manifest, results))
    return Verification(tuple(found.values()), manifest.verdict)


def _files(release: Release) -> Step:
    files = release.manifest.files
    release.check_files()
    return Step("files", True, f"{len(files)} files have the sizes and hashes of the build")


def _load(release: Release) -> Step:
    """The artifact opens, and states the same functions as release.json."""
    stated = {f.name: f for f in release.manifest.functions}
    wrong = []
    for name, signature in release.functions.items():
        record = stated.pop(name, None)
        inputs = [(v.name, str(v.type)) for v in signature.inputs]
        outputs = [(v.name, str(v.type)) for v in signature.outputs]
        if record is None or inputs != [(t.name, t.type) for t in record.inputs]:
            wrong.append(name)
        elif outputs != [(t.name, t.type) for t in record.outputs]:
            wrong.append(name)
    wrong += list(stated)
    found = f"functions {', '.join(release.functions)}"
    text = f"{', '.join(wrong)} differ from release.json" if wrong else found
    return Step("load", not wrong, text)


def _fidelity(release: Release, progress: Progress | None) -> Fidelity:
    recorded = release.manifest.fidelity
    cases = load_cases(release.path, recorded.checked)
    checked: list[Checked] = []
    for i, case in enumerate(cases):
        if progress is not None:
            progress(f"execute {case.function}, {case.setting.label}", i, len(cases))
        checked.append(check(release.executable, case))
    passed = all(c.passed for c in checked)
    return Fidelity(passed, recorded.rule, tuple(checked), None if passed else recorded.first)


def _calls(fidelity: Fidelity, worst: str) -> str:
    wrong = [f"{c.function} ({c.label})" for c in fidelity.checked if not c.passed]
    text = f"{len(fidelity.checked)} calls executed, greatest deviation {worst} of the scale"
    return f"{text}; beyond the tolerance: {', '.join(wrong)}" if wrong else text


def _quality(release: Release, progress: Progress | None) -> tuple[Quality, Step]:
    recorded = release.manifest.quality
    evidence = load_evidence(release.path / "evidence" / "quality")
    data, original = evidence.data, evidence.original
    metric = get_metric(recorded.metric)
    again = predict(
        release.runner,
        data,
        metric.whole,
        lambda done: progress("evaluate", done, len(data)) if progress else None,
    )
    score, base = metric.score(again, data, original), metric.score(original, data, original)
    quality = requality(recorded, score, base, again, original, evidence.interpreted)
    close = abs(quality.value - recorded.value) <= SCORE * max(abs(recorded.value), 1e-9)
    same = abs(quality.original - recorded.original) <= 1e-6 * max(abs(recorded.original), 1.0)
    kept = predicted_again(evidence.got, again)
    kind = "texts" if isinstance(data, Texts) else "samples"
    text = (
        f"{quality.value:.4g} {quality.unit} on {len(data)} {kind}, the build had "
        f"{recorded.value:.4g}; the original {quality.original:.4g}; "
        f"{kept:.1%} of the predictions are the build's"
    )
    return quality, Step("quality", close and same and kept >= SAME, text)


def predicted_again(before: Predictions, again: Predictions) -> float:
    """Part of the predictions that are those of the build; tensors within `ROUNDING`."""
    if len(before) != len(again):
        return 0.0
    pairs = list(zip(before, again, strict=True))
    same = [
        compare("", a, b, ROUNDING).passed
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        else a == b
        for a, b in pairs
    ]
    return sum(map(bool, same)) / max(1, len(pairs))


def requality(
    recorded: Quality,
    score: Score,
    base: Score,
    got: Sequence[object],
    original: Sequence[object],
    interpreted: Sequence[object],
) -> Quality:
    """`recorded` with everything that follows from these scores and predictions."""
    count = len(interpreted)
    return replace(
        recorded,
        value=score.value,
        original=base.value,
        drop=base.value - score.value,
        figures=score.figures,
        original_figures=base.figures,
        samples=len(got),
        same_as_original=agreement(got, original),
        agreement=agreement(got[:count], interpreted) if count else None,
        agreement_samples=count,
    )


def _sizes(release: Release) -> Sizes:
    """Sizes of the files as they lie there; brotli again where it was measured and is installed."""
    recorded = release.manifest.sizes
    shipped = [f for f in release.manifest.files if f.ships]
    sizes = {f.name: (release.path / f.name).stat().st_size for f in shipped}
    model = {f.name for f in shipped if f.kind == "model"}
    again = replace(
        recorded,
        shipped_bytes=sum(sizes.values()),
        model_bytes=sum(sizes[n] for n in model),
    )
    level = recorded.brotli_quality
    packed = {n: brotli_bytes(release.path / n, level) for n in sizes}
    if recorded.shipped_brotli_bytes is None or None in packed.values():
        return again
    return replace(
        again,
        shipped_brotli_bytes=sum(p or 0 for p in packed.values()),
        model_brotli_bytes=sum(packed[n] or 0 for n in model),
    )


def _same_sizes(a: Sizes, b: Sizes) -> bool:
    """Equal but for what another version of brotli may do."""
    pairs = (
        (a.shipped_brotli_bytes, b.shipped_brotli_bytes),
        (a.model_brotli_bytes, b.model_brotli_bytes),
    )
    close = all(abs((x or 0) - (y or 0)) <= BROTLI * max(x or 0, y or 0) for x, y in pairs)
    return close and a == replace(
        b,
        shipped_brotli_bytes=a.shipped_brotli_bytes,
        model_brotli_bytes=a.model_brotli_bytes,
    )


def _verdict(manifest: Manifest, results: dict[str, Fidelity | Quality | Sizes]) -> Step:
    fidelity, quality, sizes = results["fidelity"], results["quality"], results["sizes"]
    assert isinstance(fidelity, Fidelity)
    assert isinstance(quality, Quality)
    assert isinstance(sizes, Sizes)
    limits = Limits(
        quality.max_drop,
        sizes.max_shipped_bytes,
        sizes.max_ratio,
        manifest.host.max_slowdown,
        sizes.allow_bigger,
        quality.min_agreement,
    )
    verdict, _ = judge(fidelity, quality, sizes, manifest.host.latency, limits)
    same = verdict == manifest.verdict
    text = verdict if same else f"{verdict}, the build said {manifest.verdict}"
    return Step("verdict", same, text)
