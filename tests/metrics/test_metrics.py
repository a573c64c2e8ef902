"""Metrics against their own definitions and against sacrebleu itself."""

from __future__ import annotations

import pytest
import sacrebleu
import torch

from edgec.errors import RecipeError, ValidationError
from edgec.metrics import Tensors, Texts, agreement, get_metric, own_metric

SOURCES = ("a", "b", "c")
REFERENCES = ("die Katze sitzt auf der Matte", "das Haus ist klein", "guten Morgen allerseits")
GOT = ["die Katze sitzt auf einer Matte", "das Haus ist sehr klein", "guten Morgen allerseits"]


def tensors(*values: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(v) for v in values]


def test_bleu_and_chrf_are_those_of_sacrebleu_with_signatures() -> None:
    data = Texts(SOURCES, REFERENCES)
    bleu, chrf = get_metric("bleu").score(GOT, data), get_metric("chrf").score(GOT, data)
    want = sacrebleu.corpus_bleu(GOT, [list(REFERENCES)])
    assert bleu.value == pytest.approx(want.score)
    assert chrf.value == pytest.approx(sacrebleu.corpus_chrf(GOT, [list(REFERENCES)]).score)
    assert bleu.figures == chrf.figures
    assert "tok:13a" in str(bleu.figures["bleu_signature"])
    assert "version:" in str(bleu.figures["chrf_signature"])


def test_without_references_translations_are_compared_with_the_original() -> None:
    data = Texts(SOURCES)
    assert get_metric("bleu").score(GOT, data, GOT).value == pytest.approx(100.0)
    with pytest.raises(ValidationError, match="texts with references"):
        get_metric("bleu").score(GOT, data)


def test_top1_counts_labels_and_else_the_originals_choice() -> None:
    got = tensors([0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4])
    calls = tuple(("main", ()) for _ in got)
    labels = Tensors(calls, torch.tensor([1, 0, 0, 0]))
    assert get_metric("top1").score(got, labels).value == 75.0
    original = tensors([0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0])
    assert get_metric("top1").score(got, Tensors(calls), original).value == 75.0
    with pytest.raises(ValidationError, match="labels"):
        get_metric("top1").score(got, Tensors(calls))


def test_cosine_is_one_for_the_original_and_shows_the_worst_sample() -> None:
    original = tensors([1.0, 0.0], [0.0, 2.0])
    data = Tensors((("main", ()), ("main", ())))
    cosine = get_metric("cosine")
    assert cosine.score(original, data, original).value == 1.0
    turned = tensors([1.0, 1.0], [0.0, 1.0])
    score = cosine.score(turned, data, original)
    assert score.value == pytest.approx((2**-0.5 + 1) / 2)
    assert score.figures["least"] == pytest.approx(2**-0.5)
    assert cosine.score(tensors([float("nan"), 0.0], [0.0, 0.0]), data, original).value == 0.0


def test_tasks_have_a_usual_metric() -> None:
    assert get_metric("", "translate").name == "bleu"
    assert get_metric("", "classify").name == "top1"
    assert get_metric("", "embed").name == "cosine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("belu", r"did you mean bleu\?"),
        ("perfection", r"package\.module:function"),
        ("json:no_such", "no function no_such; need a function, such as JSONDecode"),
        ("no.such:thing", "no module no"),
    ],
)
def test_unknown_metrics_are_refused(name, message) -> None:
    with pytest.raises(RecipeError, match=message):
        get_metric(name)


def test_an_own_metric_gets_predictions_and_references() -> None:
    def exact(predictions: list[str], references: tuple[str, ...]) -> float:
        return sum(p == r for p, r in zip(predictions, references, strict=True)) / len(references)

    assert own_metric(exact).score(GOT, Texts(SOURCES, REFERENCES)).value == pytest.approx(1 / 3)


def test_agreement_is_of_whole_predictions() -> None:
    assert agreement(["a", "b"], ["a", "c"]) == 0.5
    assert agreement(tensors([1.0, 2.0]), tensors([1.0, 2.0])) == 1.0
    assert agreement([], []) == 0.0
