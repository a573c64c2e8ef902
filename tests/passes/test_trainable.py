"""Trainable encodings: exactly the encoding at the start and after every step, with gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgec.ir import Affine, Dense, DType, Encoding, Lut, Outliers, Sparse
from edgec.passes.trainable import trainable
from edgec.passes.trainable.form import Parameter, Start, positive, stored, straight

FLOATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
SHAPE = (8, 32)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(seed=0):
    return torch.randn(SHAPE, generator=generator(seed))


def affine(bits=4, group=8, scale="bf16", zero=False, axis: int | None = 0, dtype=DType.F32):
    g, low = generator(bits), -(2 ** (bits - 1))
    rows = {0: 8, 1: 32, None: 1}[axis]
    blocks = rows, 256 // rows // (group or 256 // rows)
    codes = torch.randint(low + 1, -low, SHAPE, generator=g).to(torch.int8)
    scales = (torch.rand(blocks, generator=g) + 0.1).to(FLOATS[scale])
    zeros = torch.randint(low, -low, blocks, generator=g).to(torch.int8) if zero else None
    return Affine(codes, scales, zeros, bits, axis, group, dtype)


def lut(table="f16", vector=1, scaled=False):
    g = generator(3)
    values = torch.randn(2, 2, 8, vector, generator=g)
    made = (values * 30).round().to(torch.int8) if table == "i8" else values.to(FLOATS[table])
    codes = torch.randint(0, 8, (8, 32 // vector), generator=g).to(torch.uint8)
    scale = (torch.rand(8, 4, generator=g) + 0.1).half() if scaled else None
    return Lut(codes, made, 3, scale)


MASK = torch.rand(SHAPE, generator=generator(5)) > 0.5
TWO_FOUR = torch.tensor([True, False, False, True]).repeat(8, 8)
SOME = torch.tensor([3, 50, 77])
KEPT = torch.tensor([9.0, -8.0, 7.0]).half()

ENCODINGS: dict[str, Encoding] = {
    "dense": Dense(weights()),
    "f16": Dense(weights().half()),
    "as f16": Dense(weights().half(), DType.F32),
    "as bf16": Dense(weights().bfloat16(), DType.F32),
    **{
        f"affine {bits} {group} {scale} {zero}": affine(bits, group, scale, zero)
        for bits in (2, 3, 4, 8)
        for group in (0, 8)
        for scale in FLOATS
        for zero in (False, True)
    },
    "affine axis 1": affine(axis=1, group=0),
    "affine one scale": affine(axis=None, group=0),
    "affine f16": affine(dtype=DType.F16),
    **{
        f"lut {table} {vector} {scaled}": lut(table, vector, scaled)
        for table in (*FLOATS, "i8")
        for vector in (1, 2)
        for scaled in (False, True)
    },
    "sparse dense": Sparse("bitmask", MASK, Dense(weights())),
    "two four affine": Sparse("two_four", TWO_FOUR, affine()),
    "sparse lut": Sparse("bitmask", MASK, lut()),
    "outliers affine": Outliers(affine(), SOME, KEPT),
    "outliers lut": Outliers(lut(vector=2), SOME, KEPT),
    "sparse outliers": Sparse("bitmask", MASK | True, Outliers(affine(), SOME, KEPT)),
}
ORIGINALS = {
    "no original": lambda e: None,
    "another original": lambda e: weights(9),
    "near original": lambda e: e.decode().float() + 0.05 * weights(9),
}


@pytest.mark.parametrize("original", ORIGINALS)
@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize("name", ENCODINGS)
def test_the_start_is_the_encoding_and_steps_keep_its_form(name, moves, original) -> None:
    encoding = ENCODINGS[name]
    form = trainable(encoding, Start(ORIGINALS[original](encoding), moves))
    assert torch.equal(form.value(), encoding.decode())
    assert form.encoding().digest == encoding.digest
    for seed in range(3):
        (form.value().float() * weights(seed)).sum().backward()
        for p in form.parameters.values():
            assert p.tensor.grad is not None and bool(p.tensor.grad.isfinite().all())
            with torch.no_grad():
                p.tensor.sub_(0.2 * p.size * p.tensor.grad.sign())
        made = form.encoding()
        assert torch.equal(form.value(), made.decode())
        assert (made.nbytes, made.describe()) == (encoding.nbytes, encoding.describe())
        assert made.attributes() == encoding.attributes()
        assert type(made).from_parts(made.parts(), made.attributes()).digest == made.digest
    assert not torch.equal(made.decode(), encoding.decode())
    if isinstance(encoding, Sparse) and isinstance(made, Sparse):
        assert torch.equal(made.mask, encoding.mask)


def test_codes_stay_where_they_must_not_move() -> None:
    form = trainable(affine(), Start(None, moves=False))
    assert set(form.parameters) == {"scales"}
    with torch.no_grad():
        form.parameters["scales"].tensor.add_(0.3)
    made = form.encoding()
    assert isinstance(made, Affine)
    assert torch.equal(made.codes, affine().codes) and not torch.equal(made.scale, affine().scale)


def test_symmetric_codes_of_whole_rows_never_take_the_lowest() -> None:
    """Kernels misread it: DESIGN, 6."""
    form = trainable(affine(bits=4, group=0))
    with torch.no_grad():
        form.parameters["weights"].tensor.sub_(1e3)
    made = form.encoding()
    assert isinstance(made, Affine) and int(made.codes.min()) == -7


def test_latent_weights_start_at_the_original_within_half_a_step() -> None:
    w, encoding = weights(), affine(scale="f32")
    near = encoding.encode(w)
    latent = trainable(near, Start(w)).parameters["weights"].tensor.detach()
    inside = (near.blocks(w) / near.scale.unsqueeze(-1)).abs() < 7
    assert torch.allclose(
        latent[inside], near.blocks(w)[inside], atol=0.011 * float(near.scale.max())
    )


def test_a_code_that_is_not_the_nearest_starts_in_the_middle_of_its_step() -> None:
    w, like = weights(), affine(scale="f32")
    near = like.encode(w)
    moved = replace(near, codes=(near.codes + (MASK & (near.codes < 7))).to(torch.int8))
    latent = trainable(moved, Start(w)).parameters["weights"].tensor.detach()
    other = near.blocks(moved.codes != near.codes)
    torch.testing.assert_close(latent[other], moved.blocks(moved.decode())[other])


def test_gradient_of_a_scale_is_that_of_lsq() -> None:
    """Equation 3: round(w / s) - w / s inside of the range, the limit outside; times s for t."""
    s, w = 0.5, torch.tensor([[0.6, -1.9, 9.0, -9.0]])
    encoding = Affine(torch.zeros(1, 4, dtype=torch.int8), torch.tensor([[s]]), bits=4, group=4)
    form = trainable(encoding.encode(w))
    with torch.no_grad():
        form.parameters["weights"].tensor.copy_(w.view(1, 1, 4))
    form.value().sum().backward()
    u = w / s
    wanted = torch.where(u > 7.5, 7.0, torch.where(u < -8.5, -8.0, u.round() - u)).sum()
    gradient = form.parameters["scales"].tensor.grad
    assert gradient is not None and float(gradient) == pytest.approx(float(wanted * s), rel=1e-5)
    latent = form.parameters["weights"].tensor.grad
    assert latent is not None and latent.flatten().tolist() == [1.0, 1.0, 0.0, 0.0]


def test_groups_of_zeros_have_finite_gradients() -> None:
    """The square of their scale is no number of float32."""
    like = affine(scale="bf16")
    tiny = replace(like, codes=like.codes * 0, scale=torch.full_like(like.scale, 1e-30))
    form = trainable(tiny, Start(torch.zeros(SHAPE)))
    (form.value() * 1e3).sum().backward()
    for p in form.parameters.values():
        assert p.tensor.grad is not None and bool(p.tensor.grad.isfinite().all())


@pytest.mark.parametrize(
    "encoding",
    [
        Dense(torch.arange(4)),
        Dense(torch.tensor([True, False])),
        Dense(torch.tensor([1.0, float("nan")])),
        Dense(torch.zeros(0, 3)),
    ],
)
def test_what_has_no_gradient_stays(encoding) -> None:
    form = trainable(encoding)
    assert not form.parameters and form.encoding() is encoding


def test_rounding_is_exact_forward_and_identity_backward() -> None:
    x = torch.tensor([0.1, 70000.0, -1e-9], requires_grad=True)
    for made in (stored(x, torch.float16), straight(x, x.round())):
        made.sum().backward()
        assert x.grad is not None and x.grad.tolist() == [1.0, 1.0, 1.0]
        x.grad = None
    assert float(stored(x, torch.float16)[1].detach()) == 65504.0
    log, start = torch.tensor([-400.0, 0.0, 400.0]), torch.tensor([1e-7, 6e-8, 1.0]).half()
    scales = positive(log, start)
    assert bool((scales > 0).all()) and scales[1] == start[1] and scales[2] == 65504.0


def test_sizes_are_root_mean_squares_of_at_least_a_hundredth() -> None:
    cpu = torch.device("cpu")
    assert Parameter.of(torch.full((4,), 3.0), cpu).size == 3.0
    assert Parameter.of(torch.zeros(4), cpu).size == 0.01
