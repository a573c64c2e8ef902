"""Indexing, gathering, scattering, scanning and sorting against eager on two sets of sizes."""

from __future__ import annotations

import torch
from torch import nn
from torch.export import Dim

from tests.capture.harness import check_family

B, T = Dim("b", min=2, max=32), Dim("t", min=4, max=64)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        "x": torch.randn(3, 7, 8, generator=generator),
        "i": torch.randint(0, 4, (3, 7), generator=generator),
        "signed": torch.randint(-4, 4, (3, 7), generator=generator),
        "k": torch.randint(0, 8, (3, 7, 2), generator=generator),
        "mask": torch.rand(3, 7, generator=generator) > 0.4,
        "image": torch.randn(2, 5, 6, 4, generator=generator),
        "rows": torch.tensor([4, 0, 2]),
    }


SHAPES = {
    "x": {0: B, 1: T},
    "i": {0: B, 1: T},
    "signed": {0: B, 1: T},
    "k": {0: B, 1: T},
    "mask": {0: B, 1: T},
}
TABLE = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))


def test_gathering() -> None:
    parts = {
        "embed": nn.Embedding(4, 6),
        "padded": nn.Embedding(4, 6, padding_idx=0),
        "bag": nn.EmbeddingBag(4, 6),
        "bag_sum": nn.EmbeddingBag(4, 6, mode="sum"),
        "bag_max": nn.EmbeddingBag(4, 6, mode="max"),
    }
    cases = {
        "embedding": lambda t: t.embed(t.i),
        "embedding_padding": lambda t: t.padded(t.i),
        "embedding_int32": lambda t: t.embed(t.i.int()),
        "bag": lambda t: t.bag(t.i),
        "bag_offsets": lambda t: t.bag(t.i[0], torch.tensor([0, 2])),
        "bag_weights": lambda t: t.bag_sum(t.i, per_sample_weights=t.x[..., 0]),
        "bag_max": lambda t: t.bag_max(t.i),
        "index_select": lambda t: torch.index_select(t.x, 2, t.rows),
        "gather": lambda t: torch.gather(t.x, 2, t.k),
        "gather_axis_1": lambda t: torch.gather(t.x, 1, t.i[:, :2, None].expand(-1, -1, 8)),
        "take_along": lambda t: torch.take_along_dim(t.image, t.image.argsort(1), 1),
        "take_along_broadcast": lambda t: torch.take_along_dim(
            t.image, t.rows[None, :, None, None], 1
        ),
        "take_along_flat": lambda t: torch.take_along_dim(t.image, t.rows),
        "take_along_symbolic": lambda t: torch.take_along_dim(t.x, t.k, 2),
        "take_along_method": lambda t: t.x.take_along_dim(t.i[:, :1, None], 1),
        "take": lambda t: torch.take(t.x, t.i),
        "one_index": lambda t: TABLE[t.i],
        "negative": lambda t: TABLE[t.signed],
        "middle": lambda t: t.x[:, [0, 2, -1]],
        "two": lambda t: t.x[torch.arange(t.x.shape[0]), t.i[:, 0]],
        "two_apart": lambda t: t.image[:, [0, 1], :, [2, 3]],
        "two_inside": lambda t: t.image[:, [0, 4], [1, 5]],
        "broadcast_indices": lambda t: t.image[:, [[0], [2]], [1, 3, 5]],
        "last_token": lambda t: t.x[torch.arange(t.x.shape[0]), (t.i > 1).int().argmax(-1)],
        "pooled": lambda t: t.x[torch.arange(t.x.shape[0]), t.mask.sum(-1) - 1],
        "list": lambda t: t.x[..., [1, 0]],
        "mask_by_index": lambda t: t.i[torch.arange(t.x.shape[0])[:, None], torch.arange(4)],
    }
    check_family(cases, tensors(), SHAPES, parts)


def test_writing_at_indices() -> None:
    cases = {
        "scatter_value": lambda t: torch.zeros(t.x.shape[0], t.x.shape[1], 8).scatter(2, t.k, 1.0),
        "scatter": lambda t: t.x.scatter(2, t.k, t.x[..., :2] * 3),
        "scatter_add": lambda t: t.x.scatter_add(2, t.k, torch.ones_like(t.x)[..., :2]),
        "scatter_amax": lambda t: t.x.scatter_reduce(2, t.k, t.x[..., 2:4], "amax"),
        "scatter_mean": lambda t: t.x.scatter_reduce(
            2, t.k, t.x[..., 2:4], "mean", include_self=False
        ),
        "index_add": lambda t: t.image.index_add(1, t.rows, t.image[:, :3]),
        "index_copy": lambda t: t.image.index_copy(1, t.rows, t.image[:, :3] * 2),
        "index_fill": lambda t: t.image.index_fill(1, t.rows, 9.0),
        "index_put": lambda t: _put(t.image, t.rows),
        "index_put_two": lambda t: _put_two(t.x),
        "index_put_inside": lambda t: _put_inside(t.image),
        "accumulate": lambda t: torch.index_put(
            t.image, (torch.tensor([1, 1]),), torch.ones(2, 5, 6, 4), accumulate=True
        ),
        "by_mask": lambda t: _put_mask(t.x, t.mask),
        "masked_scatter": lambda t: t.x.masked_scatter(t.mask[..., None], t.x.flip(1)),
        "last_write_wins": lambda t: torch.zeros(1, 4).scatter(
            1, torch.tensor([[2, 2, 0]]), torch.tensor([[1.0, 5.0, 3.0]])
        ),
    }
    check_family(cases, tensors(), SHAPES)


def _put(x, rows):
    y = x.clone()
    y[:, rows] = 1.0
    return y


def _put_two(x):
    y = x.clone()
    y[torch.arange(2), torch.tensor([3, -1])] = torch.tensor(5.0)
    return y


def _put_inside(x):
    y = x.clone()
    y[:, [0, 1], [2, 3]] = x[:, :2, 0]
    return y


def _put_mask(x, mask):
    y = x.clone()
    y[mask] = 0.0
    return y


def test_scans_and_order() -> None:
    distinct = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(2))
    cases = {
        "cumsum": lambda t: t.x.cumsum(1),
        "cumsum_mask": lambda t: t.mask.cumsum(-1),
        "cumsum_positions": lambda t: (t.i.ne(1).int().cumsum(1) * t.i.ne(1).int()).long() + 1,
        "cumprod": lambda t: t.x.cumprod(-1),
        "cummax": lambda t: t.x.cummax(-1).values,
        "logcumsumexp": lambda t: torch.logcumsumexp(t.x, -1),
        "diff": lambda t: torch.diff(t.x, dim=1),
        "topk": lambda t: torch.topk(t.x, 3),
        "topk_small": lambda t: torch.topk(t.x, 2, 1, largest=False),
        "sort": lambda t: torch.sort(t.x, -1, descending=True),
        "sort_up": lambda t: t.x.sort(-1).values,
        "argsort": lambda t: torch.argsort(t.x, -1),
        "kthvalue": lambda t: torch.kthvalue(t.x, 3, -1).values,
        "median": lambda t: torch.median(t.x, -1).values,
        "bucketize": lambda t: torch.bucketize(t.x, torch.tensor([-1.0, 0.0, 0.5])),
        "bucketize_right": lambda t: torch.bucketize(t.i, torch.tensor([0, 2]), right=True),
        "searchsorted": lambda t: torch.searchsorted(torch.tensor([-1.0, 0.0, 0.5]), t.x),
    }
    check_family(cases, {**tensors(), "x": distinct}, SHAPES)
