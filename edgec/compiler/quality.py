"""Quality of a build: the artifact against the uncompressed build, on the same data.

The artifact itself predicts, since that is what ships. Both builds are held to their graphs by the
fidelity check, so the difference between them is what compression cost. On texts, the interpreted
graph predicts the first samples too: `agreement` is the part for which the artifact says the same,
word for word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edgec.compiler.emission import Emitted
from edgec.compiler.job import Evaluation, Progress
from edgec.compiler.seeded import comparable, seeded
from edgec.errors import ValidationError
from edgec.ir.program import Program
from edgec.metrics import (
    Data,
    Metric,
    Predictions,
    Tensors,
    Texts,
    agreement,
    predict,
    read_data,
)
from edgec.metrics.data import save_evidence
from edgec.release import EVIDENCE
from edgec.release.judge import Limits
from edgec.release.manifest import Quality
from edgec.runner import Runner
from edgec.validate import Case, Fidelity
from edgec.vocabulary import Vocabulary, changed


class Baseline:
    """The uncompressed build: what every variant is compared with. Predictions are made once.

    emitted   its files
    program   its graph, after the clean-up
    cases     calls of that graph with what must come out
    fidelity  how well the files do what the graph says, on these
    """

    def __init__(
        self,
        emitted: Emitted,
        program: Program,
        cases: Sequence[Case],
        fidelity: Fidelity,
        evaluation: Evaluation,
    ) -> None:
        self.emitted, self.program, self.evaluation = emitted, program, evaluation
        self.cases, self.fidelity = cases, fidelity
        self.data = seeded(program) if evaluation.data is None else evaluation.data
        self._predictions: Predictions | None = None

    def predictions(self, progress: Progress) -> Predictions:
        if self._predictions is None:
            self._predictions = _predict(
                self.emitted.runner,
                self.data,
                self.evaluation.metric,
                "evaluate uncompressed",
                progress,
            )
        return self._predictions


def load_data(data: Data | Path | str | None, program: Program, limit: int = 0) -> Data | None:
    """Evaluation data for a program; tensors are for its only function, or its first."""
    if not isinstance(data, Path | str):
        return data if data is None else data.first(limit)
    graph = next(iter(program.graphs.values()))
    return read_data(Path(data), graph.name, [v.name for v in graph.inputs]).first(limit)


def measure_quality(
    emitted: Emitted,
    compressed: Program,
    baseline: Baseline,
    limits: Limits,
    progress: Progress,
) -> Quality:
    """Predict, score and keep the evidence in the release's folder."""
    evaluation = baseline.evaluation
    data, original = _in_terms_of(compressed, baseline, progress)
    if emitted.hashes == baseline.emitted.hashes:
        got: Predictions = original  # the same bytes
    else:
        got = _predict(emitted.runner, data, evaluation.metric, "evaluate", progress)
    interpreted = _interpreted(compressed, data, evaluation, progress)
    score = evaluation.metric.score(got, data, original)
    base = evaluation.metric.score(original, data, original)
    folder = emitted.folder / EVIDENCE / "quality"
    save_evidence(folder, data, original, got, interpreted)
    count = len(interpreted)
    return Quality(
        metric=evaluation.metric.name,
        unit=evaluation.metric.unit,
        value=score.value,
        original=base.value,
        drop=base.value - score.value,
        max_drop=limits.max_drop,
        samples=len(data),
        data_sha256=digest(data),
        figures=score.figures,
        original_figures=base.figures,
        same_as_original=agreement(got, original),
        agreement=agreement(got[:count], interpreted) if count else None,
        agreement_samples=count,
        min_agreement=limits.min_agreement,
        original_fidelity=baseline.fidelity.max_ratio,
        original_passed=baseline.fidelity.passed,
    )


def _in_terms_of(
    compressed: Program, baseline: Baseline, progress: Progress
) -> tuple[Data, Predictions]:
    """The data as `compressed` takes them, and what the uncompressed build predicts for them.

    Where token ids mean something else since the passes, tensors get the new ones, and outputs of
    the uncompressed build lose the elements of the tokens that were left out.
    Raises ValidationError for tensors with such tokens.
    """
    data, ids = baseline.data, changed(baseline.program, compressed)
    writes = isinstance(data, Texts) and compressed.metadata.get("task") == "translate"
    if writes or (ids is None and baseline.evaluation.data is not None):
        return data, baseline.predictions(progress)
    metric = baseline.evaluation.metric
    if ids is None:
        if not (functions := comparable(baseline.program, compressed)):
            return data, baseline.predictions(progress)
        runner, before = baseline.emitted.runner, seeded(baseline.program, functions)
        original = _predict(runner, before, metric, "evaluate uncompressed", progress)
        return seeded(compressed, functions), original
    if baseline.evaluation.data is None:
        data = seeded(compressed)
    elif isinstance(data, Tensors):
        data = _renumbered(data, baseline.program, ids)
    runner = _with_ids(baseline.emitted.runner, ids, isinstance(data, Tensors))
    return data, _predict(runner, data, metric, "evaluate uncompressed", progress)


def _renumbered(data: Tensors, program: Program, ids: Vocabulary) -> Tensors:
    made = [ids.new_call(program.graphs[f], list(inputs)) for f, inputs in data.calls]
    if lost := [i for i, call in enumerate(made) if call is None]:
        got = f"samples {', '.join(map(str, lost[:5]))} with tokens that were left out"
        do = "keep these tokens, or evaluate with texts"
        raise ValidationError("evaluation", got, "tokens that the program has kept", do)
    pairs = zip(data.calls, made, strict=True)
    return Tensors(tuple((f, tuple(call or ())) for (f, _), call in pairs), data.labels)


def _with_ids(runner: Runner, ids: Vocabulary, renumbered: bool) -> Runner:
    """The runner of a program before tokens were left out, with the outputs of one behind that.

    renumbered   whether the inputs have the new ids
    """

    def run(function: str, inputs: list[torch.Tensor]) -> Sequence[torch.Tensor]:
        graph = runner.graphs[function]
        given = ids.old_call(graph, inputs) if renumbered else inputs
        return ids.narrowed(graph, runner.run(function, given))

    return replace(runner, run=run)


def _predict(
    runner: Runner, data: Data, metric: Metric, stage: str, progress: Progress
) -> Predictions:
    total = len(data)
    progress(stage, 0, total)
    return predict(runner, data, metric.whole, lambda done: progress(stage, done, total))


def _interpreted(
    compressed: Program, data: Data, evaluation: Evaluation, progress: Progress
) -> Sequence[str]:
    """What the interpreted graph says to the first texts; fidelity covers tensors."""
    if not isinstance(data, Texts) or compressed.metadata.get("task") != "translate":
        return []
    if evaluation.agreement == 0:
        return []
    first = data.first(evaluation.agreement)
    found = _predict(
        Runner.of_program(compressed), first, evaluation.metric, "interpret texts", progress
    )
    return [str(text) for text in found]


def digest(data: Data) -> str:
    """Hash of samples and references."""
    h = hashlib.sha256()
    if isinstance(data, Texts):
        for text in (*data.sources, "\0", *(data.references or ())):
            h.update(text.encode() + b"\0")
        return h.hexdigest()
    for function, inputs in data.calls:
        h.update(function.encode())
        for tensor in inputs:
            h.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            h.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    if data.labels is not None:
        h.update(data.labels.contiguous().view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def evidence_files(folder: Path) -> list[str]:
    """Names of the files below `evidence/`."""
    root = folder / EVIDENCE
    return sorted(p.relative_to(folder).as_posix() for p in root.rglob("*") if p.is_file())
