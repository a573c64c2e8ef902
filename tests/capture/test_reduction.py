"""Reductions, norms, products of matrices and einsum against eager on two sets of sizes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

import edgec
from tests.capture.harness import Family, check_family

B, T = Dim("b", min=2, max=32), Dim("t", min=4, max=64)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return {
        "x": torch.randn(3, 7, 8, generator=generator),
        "y": torch.randn(3, 7, 8, generator=generator),
        "i": torch.randint(-3, 4, (3, 7), generator=generator),
        "mask": torch.rand(3, 7, generator=generator) > 0.4,
        "w": torch.randn(8, 5, generator=generator),
        "v": torch.randn(8, generator=generator),
        "u": torch.randn(7, generator=generator),
    }


SHAPES = {
    "x": {0: B, 1: T},
    "y": {0: B, 1: T},
    "i": {0: B, 1: T},
    "mask": {0: B, 1: T},
    "u": {0: T},
}


def test_reductions() -> None:
    cases = {
        "sum": lambda t: t.x.sum(),
        "sum_axis": lambda t: t.x.sum(1),
        "sum_axes": lambda t: t.x.sum((0, -1), keepdim=True),
        "sum_bool": lambda t: t.mask.sum(-1),
        "sum_dtype": lambda t: t.i.sum(-1, dtype=torch.float32),
        "mean": lambda t: t.x.mean(),
        "mean_axes": lambda t: t.x.mean((1, 2), keepdim=True),
        "nansum": lambda t: torch.nansum(t.x, 1),
        "prod": lambda t: t.x.prod(-1),
        "prod_all": lambda t: t.v.prod(),
        "amax": lambda t: t.x.amax(1),
        "amin_axes": lambda t: t.x.amin((0, 2)),
        "max": lambda t: t.x.max(),
        "max_axis": lambda t: t.x.max(1),
        "min_axis": lambda t: t.x.min(-1, keepdim=True),
        "aminmax": lambda t: torch.aminmax(t.x, dim=1),
        "argmax": lambda t: t.x.argmax(-1),
        "argmin_keep": lambda t: t.x.argmin(1, keepdim=True),
        "argmax_all": lambda t: t.x.argmax(),
        "any": lambda t: t.mask.any(),
        "any_axis": lambda t: t.mask.any(1),
        "any_int": lambda t: t.i.any(-1, keepdim=True),
        "all": lambda t: t.mask.all(1),
        "all_all": lambda t: torch.all(t.mask),
        "count_nonzero": lambda t: torch.count_nonzero(t.i, -1),
        "var": lambda t: t.x.var(1),
        "var_biased": lambda t: t.x.var((1, 2), unbiased=False, keepdim=True),
        "var_all": lambda t: torch.var(t.x),
        "std": lambda t: t.x.std(-1),
        "std_correction": lambda t: torch.std(t.x, dim=1, correction=0),
        "var_mean": lambda t: torch.var_mean(t.x, -1),
        "std_mean": lambda t: torch.std_mean(t.x, (1,), correction=2),
        "logsumexp": lambda t: torch.logsumexp(t.x, (0, 1)),
        "logsumexp_inf": lambda t: torch.logsumexp(
            t.x.masked_fill(t.mask[..., None], -torch.inf), 2
        ),
    }
    check_family(cases, tensors(), SHAPES)


def test_norms_and_distances() -> None:
    cases = {
        "norm": lambda t: t.x.norm(),
        "norm_axis": lambda t: t.x.norm(dim=-1, keepdim=True),
        "norm_p1": lambda t: t.x.norm(1, -1),
        "norm_p3": lambda t: torch.linalg.vector_norm(t.x, 3, -1),
        "norm_inf": lambda t: torch.linalg.vector_norm(t.x, float("inf"), -1),
        "norm_low": lambda t: torch.linalg.vector_norm(t.x, float("-inf"), -1),
        "norm_zero": lambda t: torch.linalg.vector_norm(torch.relu(t.x), 0, -1),
        "linalg_norm": lambda t: torch.linalg.norm(t.x, dim=-1),
        "frobenius": lambda t: torch.linalg.matrix_norm(t.x),
        "normalize": lambda t: F.normalize(t.x, dim=-1),
        "normalize_1": lambda t: F.normalize(t.x, p=1.0, dim=1),
        "cosine": lambda t: F.cosine_similarity(t.x, t.y, dim=-1),
        "cosine_rows": lambda t: F.cosine_similarity(t.x[:, :, None], t.y[:, None], dim=-1),
        "cdist": lambda t: torch.cdist(t.w, t.w + 1),
        "cdist_direct": lambda t: torch.cdist(
            t.x, t.y, compute_mode="donot_use_mm_for_euclid_dist"
        ),
        "cdist_symbolic": lambda t: torch.cdist(t.x, t.y),
        "cdist_1": lambda t: torch.cdist(t.x, t.y, p=1.0),
        "cdist_mm": lambda t: torch.cdist(t.x, t.y, compute_mode="use_mm_for_euclid_dist"),
        "pairwise": lambda t: F.pairwise_distance(t.x, t.y),
        "dist": lambda t: torch.dist(t.x, t.y),
        "renorm": lambda t: torch.renorm(t.x, 2, 1, 3.0),
    }
    check_family(cases, tensors(), SHAPES)


def test_products() -> None:
    parts = {"bilinear": nn.Bilinear(8, 8, 4), "linear": nn.Linear(8, 3, bias=False)}
    cases = {
        "matmul": lambda t: t.x @ t.y.mT,
        "matmul_broadcast": lambda t: t.x @ t.w,
        "matvec": lambda t: t.x @ t.v,
        "vecmat": lambda t: t.v @ t.w,
        "dot": lambda t: t.v @ t.v,
        "bmm": lambda t: torch.bmm(t.x, t.y.transpose(1, 2)),
        "mm": lambda t: torch.mm(t.x[0], t.w),
        "mv": lambda t: torch.mv(t.x[0], t.v),
        "outer": lambda t: torch.outer(t.u, t.v),
        "inner": lambda t: torch.inner(t.x, t.v),
        "tensordot": lambda t: torch.tensordot(t.x, t.w, ([2], [0])),
        "addmm": lambda t: torch.addmm(t.w[0], t.x[0], t.w, beta=0.5, alpha=2),
        "addmv": lambda t: torch.addmv(t.u, t.x[0], t.v),
        "addbmm": lambda t: torch.addbmm(t.x[0, :, :7] @ t.x[1, :, :7].T, t.x, t.y.mT),
        "baddbmm": lambda t: torch.baddbmm(t.x[:, :1, :1], t.x, t.y.mT, beta=0, alpha=0.3),
        "addr": lambda t: torch.addr(t.x[0], t.u, t.v),
        "chain": lambda t: torch.linalg.multi_dot([t.w, t.w.T, t.w]),
        "kron": lambda t: torch.kron(t.w, t.v[None]),
        "bilinear": lambda t: t.bilinear(t.x, t.y),
        "linear": lambda t: t.linear(t.x),
        "int_matmul": lambda t: t.i @ t.i.T,
        "trace_product": lambda t: (t.x * t.y).sum((-1, -2)),
    }
    check_family(cases, tensors(), SHAPES, parts)


EQUATIONS = {
    "bte,bse->bts": ("x", "y"),
    "bte,ef->btf": ("x", "w"),
    "bte,fe->btf": ("x", "wT"),
    "bte,bte->bt": ("x", "y"),
    "bte->tb": ("x",),
    "bte->": ("x",),
    "t,e->te": ("u", "v"),
    "bte,bte->bte": ("x", "y"),
    "bte,e": ("x", "v"),
    "...e,ef->...f": ("x", "w"),
    "b...e,b...e->b...": ("x", "y"),
    "bte,bse,e->bts": ("x", "y", "v"),
    "bte,btf,ef->b": ("x", "y", "square"),
    "bthd,bshd->bhts": ("heads", "heads"),
    "bhts,bshd->bthd": ("scores", "heads"),
    "ii->i": ("square",),
    "ii": ("square",),
    "bte,bts->bes": ("x", "scores1"),
    "ij,jk,kl->il": ("w", "wT", "w"),
}


def test_einsum() -> None:
    def value(t, name):
        heads = t.x.unflatten(-1, (2, 4))
        return {
            "wT": t.w.T,
            "square": t.w @ t.w.T,
            "heads": heads,
            "scores": torch.einsum("bthd,bshd->bhts", heads, heads),
            "scores1": t.x @ t.y.mT,
        }.get(name, getattr(t, name, None))

    cases = {
        f"e{n}": lambda t, e=e, names=names: torch.einsum(e, *(value(t, x) for x in names))
        for n, (e, names) in enumerate(EQUATIONS.items())
    }
    check_family(cases, tensors(), SHAPES)


def test_a_product_with_a_parameter_is_a_linear_node() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 5))
            self.bias = nn.Parameter(torch.randn(5))

        def forward(self, x):
            flat = x.view(-1, 8)
            return (
                torch.addmm(self.bias, flat, self.weight),  # GPT-2's Conv1D
                x @ self.weight,
                torch.einsum("bte,ef->btf", x, self.weight),
            )

    program = edgec.capture(Products(), (torch.randn(2, 3, 8),))
    assert [n.op.name for n in program.main.nodes].count("linear") == 3
    (name,) = [n for n in program.constants if program.constants[n].type.rank == 2]
    assert name == "weight.T" and program.constants[name].type.shape == (5, 8)


def test_fourier_transforms() -> None:
    cases = {
        "fnet": lambda t: torch.fft.fftn(t.x, dim=(1, 2)).real,
        "fft_parts": lambda t: torch.view_as_real(torch.fft.fft(t.x)),
        "fft_abs": lambda t: torch.fft.fft(t.x, norm="ortho").abs(),
        "fft2": lambda t: torch.fft.fft2(t.w).imag,
        "ifft": lambda t: torch.fft.ifft(torch.fft.fft(t.x)).real,
        "rfft": lambda t: torch.fft.rfft(t.x).imag,
        "irfft": lambda t: torch.fft.irfft(torch.fft.rfft(t.x), n=8),
        "filtered": lambda t: torch.fft.irfft(torch.fft.rfft(t.x) * t.v[:5], n=8),
        "spectrogram": lambda t: torch.stft(
            t.w.flatten(), 8, 4, window=torch.hann_window(8), return_complex=True
        ).abs(),
    }
    check_family(cases, tensors(), SHAPES)


def test_complex_rotation_of_pairs() -> None:
    def rotate(t):
        pairs = torch.view_as_complex(t.x.unflatten(-1, (4, 2)))
        angles = torch.outer(torch.arange(t.x.shape[1]).float(), t.v[:4])
        turned = pairs * torch.polar(torch.ones_like(angles), angles)[None]
        return torch.view_as_real(turned).flatten(-2)

    check_family({"rotary": rotate}, tensors(), SHAPES)


def test_family_reports_which_case_differs() -> None:
    family = Family({"a": lambda t: t.x + 1}).eval()
    program = edgec.capture(family, ({"x": torch.zeros(2)},))
    assert program.run({"x": torch.zeros(2)})["a"].tolist() == [1.0, 1.0]
