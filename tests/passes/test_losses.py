"""Losses of fine-tuning: against torch, and what they must not depend on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import Constant
from edgec.passes.comparisons import Pair, Weighting, compared
from edgec.passes.numerics import losses
from edgec.sequences import Call
from tests.programs import classifier, decoder, residual

SEEDS = st.integers(0, 2**31)


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([0.5, 1.0, 4.0]))
def test_kl_is_that_of_softened_probabilities(seed, temperature) -> None:
    s, t = tensor(3, 5, 7, seed=seed), tensor(3, 5, 7, seed=seed + 1)
    p, q = ((x.double() / temperature).softmax(-1) for x in (t, s))
    wanted = temperature**2 * (p * (p / q).log()).sum(-1).mean()
    found = losses.kl(s, t, temperature=temperature)
    assert float(found) == pytest.approx(float(wanted), rel=1e-4, abs=1e-6)
    assert float(losses.kl(t, t, temperature=temperature)) == pytest.approx(0, abs=1e-6)


def test_kl_of_masked_classes_is_finite() -> None:
    t = torch.tensor([[0.0, 1.0, -torch.inf]])
    s = torch.tensor([[0.5, 0.1, -torch.inf]], requires_grad=True)
    found = losses.kl(s, t)
    found.backward()
    assert s.grad is not None and bool(s.grad[:, :2].isfinite().all())
    assert float(found.detach()) == pytest.approx(float(losses.kl(s[:, :2], t[:, :2]).detach()))


@settings(max_examples=30)
@given(SEEDS, st.floats(0.01, 100))
def test_the_mean_square_is_relative(seed, scale) -> None:
    s, t = tensor(4, 6, seed=seed), tensor(4, 6, seed=seed + 1)
    found = float(losses.mse(s, t))
    assert found == pytest.approx(float(F.mse_loss(s, t) / t.var(correction=0)), rel=1e-4)
    assert float(losses.mse(s * scale, t * scale)) == pytest.approx(found, rel=1e-3)
    assert float(losses.mse(torch.full_like(t, t.mean()), t)) == pytest.approx(1, rel=1e-4)


def test_constant_teachers_have_a_power() -> None:
    assert float(losses.mse(torch.full((3,), 2.0), torch.full((3,), 4.0))) == pytest.approx(0.25)
    assert bool(losses.mse(torch.ones(3), torch.zeros(3)).isfinite())


def test_cosine_does_not_see_lengths() -> None:
    s, t = tensor(4, 6), tensor(4, 6, seed=1)
    wanted = 1 - F.cosine_similarity(s, t, dim=-1).mean()
    torch.testing.assert_close(losses.cosine(s * 7, t), wanted)


@pytest.mark.parametrize("loss", [losses.kl, losses.mse, losses.cosine])
def test_rows_that_do_not_count_do_not_count(loss) -> None:
    s, t = tensor(3, 2, 5), tensor(3, 2, 5, seed=1)
    rows = torch.tensor([True, False, True])
    other = s.clone()
    other[1] = 99.0
    torch.testing.assert_close(loss(s, t, rows), loss(other, t, rows))
    torch.testing.assert_close(loss(s, t, rows), loss(s[rows], t[rows]))


# ------------------------------------------------------------------ what is compared
def test_only_what_both_have_in_one_type_is_compared() -> None:
    same = compared(residual(2), residual(2))["main"]
    assert len(same.hidden) == 2 and same.outputs == {0: 0} and not same.made
    fewer = compared(residual(1), residual(2))["main"]
    assert len(fewer.hidden) == 1
    assert not compared(classifier(), classifier(classes=7))["main"].outputs
    found = compared(decoder(), decoder())
    assert (found["encode"].outputs, found["encode"].made) == ({}, {0: 0})
    assert (found["step"].outputs, found["step"].made) == ({0: 0}, {1: 1})


def test_hidden_states_count_as_asked() -> None:
    student, teacher = residual(2), residual(2)
    for name in ("w0.2", "w1.2"):
        student.constants[name] = Constant(name, residual(3).constants["w2.2"].encoding)
    sequence = [Call("main", {"x": tensor(8, 6, 32)})]
    plain, more = (
        float(Pair(student, teacher, Weighting(hidden=h)).loss(sequence, {}, grad=False))
        for h in (0.0, 1.0)
    )
    assert more > plain > 0
    alike = Pair(teacher, teacher, Weighting(hidden=1.0, attention=1.0))
    assert float(alike.loss(sequence, {}, grad=False)) == 0
