"""Metrics of a task's quality: what compression cost, in the unit that the task is judged by.

A metric sees predictions, references and the original's predictions. To add one, write a function
and add a line to `METRICS`; a recipe may also name a function of its own as
`package.module:function`, which gets (predictions, references) and returns a number, greater is
better.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgec.errors import RecipeError, ValidationError
from edgec.metrics.data import Data, Predictions, Tensors, Texts, read_data
from edgec.metrics.predict import predict
from edgec.userfunction import find, told

__all__ = [
    "METRICS",
    "Data",
    "Metric",
    "Predictions",
    "Score",
    "Tensors",
    "Texts",
    "agreement",
    "get_metric",
    "predict",
    "read_data",
]


@dataclass(frozen=True)
class Score:
    """Value of a metric, with further figures of the same predictions."""

    value: float
    figures: dict[str, float | str] = field(default_factory=dict)


Measure = Callable[[Predictions, Any, Predictions | None], Score]


@dataclass(frozen=True)
class Metric:
    """A way to score predictions; greater is better.

    name      in recipes and reports
    unit      of its value
    measure   (predictions, references or None, the original's predictions or None) -> Score
    whole     whether a prediction is all outputs of a call, and not the first alone
    """

    name: str
    unit: str
    measure: Measure
    whole: bool = False

    def score(
        self, predictions: Predictions, data: Data, original: Predictions | None = None
    ) -> Score:
        """Raises ValidationError where the data lacks what the metric needs."""
        references = data.references if isinstance(data, Texts) else data.labels
        return self.measure(predictions, references, original)


# ------------------------------------------------------------------ the metrics
def _bleu(predictions: Predictions, references: Any, original: Predictions | None) -> Score:
    return _translation("bleu", predictions, references, original)


def _chrf(predictions: Predictions, references: Any, original: Predictions | None) -> Score:
    return _translation("chrf", predictions, references, original)


def _translation(
    which: str, predictions: Predictions, references: Any, original: Predictions | None
) -> Score:
    """Corpus BLEU and chrF (Post 2018, arXiv:1804.08771); else against the original."""
    try:
        import sacrebleu
    except ImportError as error:
        need, do = "the package sacrebleu", "pip install 'edgec[hf]'"
        raise RecipeError("metric", f"{which} without sacrebleu", need, do) from error
    wanted = references if references is not None else original
    if wanted is None or not all(isinstance(p, str) for p in predictions):
        raise ValidationError("metric", f"{which} of such data", "texts with references")
    hypotheses, texts = [str(p) for p in predictions], [str(w) for w in wanted]
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    figures: dict[str, float | str] = {
        "bleu": float(bleu.corpus_score(hypotheses, [texts]).score),
        "chrf": float(chrf.corpus_score(hypotheses, [texts]).score),
        "bleu_signature": str(bleu.get_signature()),
        "chrf_signature": str(chrf.get_signature()),
    }
    return Score(float(figures[which]), figures)


def _top1(predictions: Predictions, references: Any, original: Predictions | None) -> Score:
    """Percent of samples whose greatest output is the label, or the original's without labels."""
    chosen = torch.stack([_tensor(p).reshape(-1).argmax() for p in predictions])
    if references is None and original is not None:
        references = torch.stack([_tensor(p).reshape(-1).argmax() for p in original])
    if references is None:
        raise ValidationError("metric", "top1 without labels", "a tensor `labels` in the data")
    hits = (chosen == references.reshape(-1)).double().mean()
    return Score(100.0 * float(hits), {"samples": float(len(chosen))})


def _cosine(predictions: Predictions, references: Any, original: Predictions | None) -> Score:
    """Mean cosine similarity with the original's outputs; `least` is the worst sample."""
    if original is None:
        return Score(1.0, {"least": 1.0})
    similar = [
        float(_similarity(_tensor(p), _tensor(o)))
        for p, o in zip(predictions, original, strict=True)
    ]
    return Score(sum(similar) / len(similar), {"least": min(similar)})


def _similarity(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().reshape(-1), b.double().reshape(-1)
    if torch.equal(a, b):
        return 1.0
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0).nan_to_num(0.0))


def _tensor(prediction: Any) -> torch.Tensor:
    if not isinstance(prediction, torch.Tensor):
        raise ValidationError("metric", "texts", "predictions that are tensors", "use bleu or chrf")
    return prediction


METRICS: dict[str, Metric] = {
    "bleu": Metric("bleu", "BLEU", _bleu),
    "chrf": Metric("chrf", "chrF", _chrf),
    "top1": Metric("top1", "%", _top1),
    "cosine": Metric("cosine", "cosine", _cosine, whole=True),
}

_USUAL = {"translate": "bleu", "classify": "top1"}


def get_metric(name: str, task: str = "", folder: Path | None = None) -> Metric:
    """A metric by name, an own one by `package.module:function`, or the usual one of `task` for "".

    The module of an own one is also looked up in `folder` (default: the working directory).
    Raises RecipeError for an unknown name or a function that cannot be imported.
    """
    name = name or _USUAL.get(task, "cosine")
    if name in METRICS:
        return METRICS[name]
    if ":" not in name:
        near = difflib.get_close_matches(name, METRICS, 1, 0.5)
        do = f"did you mean {near[0]}?" if near else "or an own one as package.module:function"
        raise RecipeError("metric", name, f"one of {', '.join(METRICS)}", do)
    return own_metric(find(name, "metric", folder), name)


def own_metric(function: Callable[[Any, Any], float], name: str = "") -> Metric:
    """A metric from a function (predictions, references) -> number.

    Scoring raises ValidationError where the function fails or returns something else.
    """
    called = name or f"{function.__module__}:{function.__qualname__}"

    def measure(predictions: Predictions, references: Any, original: Predictions | None) -> Score:
        with told(f"{called}()", "metric", ValidationError):
            value = function(list(predictions), references)
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):
            number = math.nan
        if not math.isfinite(number):
            raise ValidationError("metric", f"{called}() gave {value!r:.60}", "a number")
        return Score(number)

    return Metric(called, "points", measure)


def agreement(got: Sequence[Any], want: Sequence[Any]) -> float:
    """Part of the samples whose predictions are the same."""
    pairs = list(zip(got, want, strict=True))
    same = [torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b) for a, b in pairs]
    return sum(same) / max(1, len(same))
