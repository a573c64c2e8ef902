"""Overloads that move, join, make or select data, against eager on two sets of sizes."""

from __future__ import annotations

import torch
from torch.export import Dim

from tests.capture.harness import check_family

B, T = Dim("b", min=2, max=32), Dim("t", min=4, max=64)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "x": torch.randn(3, 7, 8, generator=generator),
        "m": torch.randn(7, 7, generator=generator),
        "image": torch.randn(3, 8, 4, 6, generator=generator),
        "v": torch.randn(7, generator=generator),
        "i": torch.randint(0, 4, (3, 7), generator=generator),
    }


SHAPES = {
    "x": {0: B, 1: T},
    "m": {0: T, 1: T},
    "image": {0: B},
    "v": {0: T},
    "i": {0: B, 1: T},
}


def test_views() -> None:
    cases = {
        "view": lambda t: t.x.view(t.x.shape[0], -1, 2, 4),
        "reshape": lambda t: t.x.reshape(-1, 8),
        "flatten": lambda t: t.x.flatten(1),
        "flatten_all": lambda t: torch.flatten(t.x),
        "unflatten": lambda t: t.x.unflatten(-1, (2, 4)),
        "ravel": lambda t: t.x.ravel(),
        "unsqueeze": lambda t: t.x.unsqueeze(1).unsqueeze(-1),
        "squeeze": lambda t: t.x[:, :1].squeeze(1),
        "squeeze_all": lambda t: t.image[:, :1, :1].squeeze((1, 2)),
        "view_as": lambda t: t.x.view(-1).view_as(t.x),
        "reshape_as": lambda t: t.x.reshape(-1).reshape_as(t.x),
        "permute": lambda t: t.x.permute(2, 0, -2),
        "transpose": lambda t: t.x.transpose(1, 2),
        "swapaxes": lambda t: torch.swapaxes(t.x, 0, 2),
        "t": lambda t: t.m.t(),
        "T": lambda t: t.m.T,
        "mT": lambda t: t.x.mT,
        "movedim": lambda t: torch.movedim(t.image, 1, -1),
        "movedims": lambda t: torch.movedim(t.image, (0, 1), (2, 3)),
        "expand": lambda t: t.v.expand(3, -1),
        "expand_front": lambda t: t.v[None, :, None].expand(t.x.shape[0], -1, 5),
        "broadcast_to": lambda t: torch.broadcast_to(t.v[:1], (4, 2)),
        "expand_as": lambda t: t.v[:1].expand_as(t.m),
        "broadcast_tensors": lambda t: torch.broadcast_tensors(t.v, t.m)[0],
        "narrow": lambda t: t.x.narrow(1, 1, 2),
        "pixel_shuffle": lambda t: torch.pixel_shuffle(t.image, 2),
        "pixel_unshuffle": lambda t: torch.pixel_unshuffle(t.image, 2),
        "channel_shuffle": lambda t: torch.channel_shuffle(t.image, 4),
        "contiguous": lambda t: t.x.transpose(0, 1).contiguous(),
        "merge_symbols": lambda t: t.x.reshape(t.x.shape[0] * t.x.shape[1], 8),
    }
    check_family(cases, tensors(), SHAPES)


def test_joining_and_splitting() -> None:
    cases = {
        "cat": lambda t: torch.cat([t.x, t.x + 1], 1),
        "cat_promotes": lambda t: torch.cat([t.x, t.i[..., None]], -1),
        "cat_empty": lambda t: torch.cat([torch.tensor([]), t.x], -1),
        "concat": lambda t: torch.concat((t.v, t.v)),
        "stack": lambda t: torch.stack([t.v, t.v * 2], -1),
        "hstack": lambda t: torch.hstack([t.v, t.v]),
        "vstack": lambda t: torch.vstack([t.v, t.v]),
        "column_stack": lambda t: torch.column_stack([t.v, t.m]),
        "chunk": lambda t: torch.chunk(t.x, 3, -1),
        "split": lambda t: torch.split(t.x, 3, 2),
        "split_sizes": lambda t: torch.split(t.x, [1, 5, 2], -1)[1],
        "tensor_split": lambda t: torch.tensor_split(t.x, 3, -1),
        "tensor_split_at": lambda t: torch.tensor_split(t.x, (2, 5), -1),
        "unbind": lambda t: t.image.unbind(2)[1],
        "unpack": lambda t: [a * 2 for a in t.x.chunk(2, -1)],
        "repeat": lambda t: t.m.repeat(2, 3),
        "repeat_more": lambda t: t.v.repeat(2, 1, 2),
        "tile": lambda t: torch.tile(t.m, (2,)),
        "repeat_interleave": lambda t: torch.repeat_interleave(t.x, 3, 1),
        "repeat_interleave_flat": lambda t: torch.repeat_interleave(t.m, 2),
        "meshgrid": lambda t: torch.meshgrid(t.v, torch.ones(4), indexing="ij"),
        "meshgrid_xy": lambda t: torch.meshgrid(t.v, torch.ones(4), indexing="xy"),
        "cartesian": lambda t: torch.cartesian_prod(torch.arange(3), torch.arange(2)),
        "block_diag": lambda t: torch.block_diag(torch.ones(2, 2), torch.ones(1, 3)),
    }
    check_family(cases, tensors(), SHAPES)


def test_order() -> None:
    cases = {
        "flip": lambda t: t.x.flip(1, -1),
        "fliplr": lambda t: torch.fliplr(t.m),
        "roll": lambda t: torch.roll(t.x, 2, 1),
        "roll_back": lambda t: torch.roll(t.x, (-1, 3), (1, 2)),
        "roll_flat": lambda t: torch.roll(t.m, 3),
        "rot90": lambda t: torch.rot90(t.m),
        "rot90_2": lambda t: torch.rot90(t.m, 2),
        "rot90_3": lambda t: torch.rot90(t.image, -1, (2, 3)),
    }
    check_family(cases, tensors(), SHAPES)


def test_parts() -> None:
    cases = {
        "slice": lambda t: t.x[:, 1:3],
        "slice_open": lambda t: t.x[:, 2:],
        "slice_negative": lambda t: t.x[:, -2:],
        "slice_to_negative": lambda t: t.x[:, :-1],
        "slice_between": lambda t: t.x[:, 1:-1],
        "slice_step": lambda t: t.x[..., ::2],
        "slice_step_symbolic": lambda t: t.x[:, 1::2],
        "slice_size": lambda t: t.m[: t.x.shape[0]],
        "select": lambda t: t.x[:, 0],
        "select_last": lambda t: t.x[:, -1],
        "ellipsis": lambda t: t.image[..., 2],
        "new_axis": lambda t: t.x[:, None, 0],
        "slice_assign": lambda t: _assigned(t.x, 1.5),
        "slice_assign_tensor": lambda t: _assigned(t.x, t.x[:, 2:3] * 2),
        "select_assign": lambda t: _select_assigned(t.x),
        "step_assign": lambda t: _step_assigned(t.x),
        "diagonal": lambda t: torch.diagonal(t.m),
        "diagonal_offset": lambda t: torch.diagonal(t.image, 1, 2, 3),
        "diag_of_matrix": lambda t: torch.diag(t.m),
        "diag_of_vector": lambda t: torch.diag(t.v),
        "diag_embed": lambda t: torch.diag_embed(t.x[:, 0]),
        "trace": lambda t: torch.trace(t.m),
        "unfold": lambda t: t.x.unfold(2, 4, 2),
        "unfold_symbolic": lambda t: t.x.unfold(1, 3, 1),
        "select_scatter": lambda t: torch.select_scatter(t.x, t.x[:, 0] * 2, 1, 1),
        "slice_scatter": lambda t: torch.slice_scatter(t.x, t.x[:, :1], 1, 2, 3),
    }
    check_family(cases, tensors(), SHAPES)


def _assigned(x, value):
    y = x.clone()
    y[:, 1:2] = value
    return y


def _select_assigned(x):
    y = torch.zeros_like(x)
    y[:, 0] = 3.0
    y[..., -1] = x[..., 0]
    return y


def _step_assigned(x):
    y = x.clone()
    y[..., 0::2] = x[..., 1::2]
    return y


def test_creation() -> None:
    cases = {
        "zeros": lambda t: torch.zeros(t.x.shape[0], 2),
        "ones_bool": lambda t: torch.ones(t.x.shape[1], dtype=torch.bool),
        "full": lambda t: torch.full((2, t.x.shape[1]), -1.5),
        "full_int": lambda t: torch.full((2,), 7),
        "full_inf": lambda t: torch.full((2, 2), float("-inf")),
        "full_of_size": lambda t: torch.full((2,), t.x.shape[1]),
        "zeros_like": lambda t: torch.zeros_like(t.i),
        "ones_like": lambda t: torch.ones_like(t.x, dtype=torch.int32),
        "full_like": lambda t: torch.full_like(t.x, 2.0),
        "new_zeros": lambda t: t.x.new_zeros(3, t.x.shape[1]),
        "new_ones": lambda t: t.i.new_ones(2),
        "new_full": lambda t: t.x.new_full((2, 2), 4.0),
        "new_tensor": lambda t: t.x.new_tensor([1.0, 2.0]) + t.v[:2],
        "tensor": lambda t: torch.tensor([1.0, -2.0]) * t.v[:2],
        "arange": lambda t: torch.arange(t.x.shape[1]),
        "arange_from": lambda t: torch.arange(2, t.x.shape[1]),
        "arange_step": lambda t: torch.arange(0, 10, 3),
        "arange_down": lambda t: torch.arange(5, 0, -1),
        "arange_float": lambda t: torch.arange(0, 1, 0.25),
        "arange_size_float": lambda t: torch.arange(t.x.shape[1], dtype=torch.float32) * 0.5,
        "arange_down_size": lambda t: torch.arange(t.x.shape[1] - 1, -1, -1),
        "arange_offset": lambda t: torch.arange(t.x.shape[0], t.x.shape[0] + 4),
        "linspace": lambda t: torch.linspace(0, 1, 5),
        "linspace_size": lambda t: torch.linspace(-1, 1, t.x.shape[1]),
        "tril": lambda t: t.m.tril(),
        "triu": lambda t: t.x.triu(1),
        "tril_offset": lambda t: t.m.tril(-1),
        "causal": lambda t: torch.full((t.x.shape[1],) * 2, float("-inf")).triu(1),
        "causal_bool": lambda t: torch.ones(t.x.shape[1], t.x.shape[1]).tril().bool(),
        "eye": lambda t: torch.eye(4),
        "eye_size": lambda t: torch.eye(t.x.shape[1]),
        "eye_wide": lambda t: torch.eye(2, 3),
        "one_hot": lambda t: torch.nn.functional.one_hot(t.i, 5),
        "tril_indices": lambda t: torch.tril_indices(4, 4),
        "scalar": lambda t: t.x * torch.scalar_tensor(2.5),
        "empty_filled": lambda t: torch.empty(2, 3).fill_(4.0),
        "copied": lambda t: torch.empty_like(t.x).copy_(t.i[..., None]),
    }
    check_family(cases, tensors(), SHAPES)


def test_sizes_used_as_data() -> None:
    cases = {
        "scale": lambda t: t.x / t.x.shape[1],
        "root": lambda t: t.x * t.x.shape[1] ** -0.5,
        "sum_of_sizes": lambda t: t.x + (t.x.shape[0] + 2 * t.x.shape[1]),
        "int": lambda t: t.i * t.x.shape[1],
        "compare": lambda t: t.i < t.x.shape[1] // 2,
        "half": lambda t: t.x[:, : t.x.shape[1] // 2],
        "modulo": lambda t: torch.zeros(t.x.shape[1] % 4 + 1),
        "ceil": lambda t: torch.zeros((t.x.shape[1] + 2) // 3),
        "minimum": lambda t: torch.zeros(min(t.x.shape[1], 6)),
        "size": lambda t: t.x.shape[1],
        "mean_by_hand": lambda t: t.x.sum(1) / t.x.size(1),
    }
    check_family(cases, tensors(), SHAPES)
