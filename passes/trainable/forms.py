"""The trainable form of each encoding, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgec.ir import Affine, Dense, Encoding, Lut, Outliers, Sparse
from edgec.ir.encodings.rows import from_rows
from edgec.passes.trainable.form import Form, Parameter, Start, positive, stored, straight
from edgec.passes.trainable.rounding import RoundingForm


class Fixed(Form):
    """Integers, and everything else that has no gradient."""

    def __init__(self, encoding: Encoding, start: Start) -> None:
        self._encoding, self._value = encoding, encoding.decode().to(start.device)

    @property
    def parameters(self) -> dict[str, Parameter]:
        return {}

    def value(self) -> Tensor:
        return self._value

    def encoding(self) -> Encoding:
        return self._encoding


class DenseForm(Form):
    """Values in f32, rounded to the storage dtype on the way."""

    def __init__(self, encoding: Dense, start: Start) -> None:
        self._like = encoding
        latent = encoding.values.float()
        if start.original is not None:
            wanted = start.original.float()
            rounds = wanted.to(encoding.values.dtype).float() == latent
            latent = torch.where(rounds, wanted, latent)
        self._values = Parameter.of(latent, start.device)

    @property
    def parameters(self) -> dict[str, Parameter]:
        return {"values": self._values}

    def _stored(self) -> Tensor:
        return stored(self._values.tensor, self._like.values.dtype)

    def value(self) -> Tensor:
        return self._stored().to(self._like.type.dtype.torch_dtype)

    def encoding(self) -> Encoding:
        values = self._stored().detach().to("cpu", self._like.values.dtype)
        return replace(self._like, values=values)


class AffineForm(Form):
    """Codes are those of latent weights; scales are factors of those at the start.

    q = clip(round(w / s) + z), the gradient of round is 1 and that of a clipped weight 0.

    Source   Esser et al. 2020, arXiv:1902.08153, equations 1 to 3 (the gradient of a scale is that
             of equation 3, by differentiation).
    Differs  A scale is s0 * exp(t), which stays positive and makes steps relative; its gradient is
             not divided by sqrt(N Q): AdamW divides by the size of gradients anyway. A weight
             counts as clipped only where it is half a step beyond the last code.
    """

    def __init__(self, encoding: Affine, start: Start) -> None:
        self._like = encoding
        self._codes = encoding.blocks(encoding.codes.float())
        zero = encoding.zero
        self._zero = torch.zeros(()) if zero is None else zero.float().unsqueeze(-1)
        whole = encoding.group == 0 and zero is None
        least = encoding.low + 1 if whole else encoding.low  # see DESIGN, 6
        self._low, self._high = min(least, int(encoding.codes.min())), encoding.high
        self._log = Parameter.logarithm(encoding.scale, start.device)
        self._latent: Parameter | None = None
        if start.moves:
            self._latent = Parameter.of(self._begin(start.original), start.device)

    def _begin(self, original: Tensor | None) -> Tensor:
        """The original weights where they round to the codes, else what the codes mean.

        A code that is not the nearest makes up for others: at the edge of its step it would be lost
        at once.
        """
        scale = self._like.scale.float().unsqueeze(-1)
        centre = self._codes - self._zero
        if original is None:
            return centre * scale
        wanted = self._like.blocks(original.float()) / scale
        nearest = self._rounded(wanted) == self._codes
        latent = torch.minimum(torch.maximum(wanted, centre - 0.49), centre + 0.49) * scale
        right = nearest & (self._rounded(latent / scale) == self._codes) & latent.isfinite()
        return torch.where(right, latent, centre * scale)

    def _rounded(self, u: Tensor) -> Tensor:
        return (torch.round(u) + self._zero).clamp(self._low, self._high)

    @property
    def parameters(self) -> dict[str, Parameter]:
        latent = {} if self._latent is None else {"weights": self._latent}
        return {**latent, "scales": self._log}

    def _parts(self) -> tuple[Tensor, Tensor]:
        """Codes f32[N, K/G, G] and scales f32[N, K/G]."""
        device = self._log.tensor.device
        scale = positive(self._log.tensor, self._like.scale.to(device))
        if self._latent is None:
            return self._codes.to(device), scale
        # Not latent / scale: the square of a scale, in its gradient, may underflow.
        first = self._like.scale.to(device).float()
        ratio = straight(self._log.tensor.exp(), scale.detach() / first)
        u = self._latent.tensor / first.unsqueeze(-1) / ratio.unsqueeze(-1)
        zero = self._zero.to(device)
        inside = u.clamp(self._low - 0.5 - zero, self._high + 0.5 - zero)
        return straight(inside + zero, self._rounded(u)), scale

    def value(self) -> Tensor:
        like = self._like
        codes, scale = self._parts()
        rows = ((codes - self._zero.to(codes.device)) * scale.unsqueeze(-1)).flatten(1)
        return from_rows(rows, like.shape, like.axis).to(like.dtype.torch_dtype)

    def encoding(self) -> Encoding:
        like = self._like
        codes, scale = (t.detach().cpu() for t in self._parts())
        laid = from_rows(codes.to(torch.int8).flatten(1), like.shape, like.axis)
        return replace(like, codes=laid, scale=scale.to(like.scale.dtype))


class LutForm(Form):
    """Tables and block scales; indices stay, or are those of latent weights."""

    def __init__(self, encoding: Lut, start: Start) -> None:
        self._like = encoding
        self._table = Parameter.of(encoding.table, start.device)
        scale = encoding.scale
        self._log = None if scale is None else Parameter.logarithm(scale, start.device)
        self._latent: Parameter | None = None
        if start.moves:
            self._latent = Parameter.of(self._begin(start.original), start.device)

    def _begin(self, original: Tensor | None) -> Tensor:
        own = self._like.decode().float()
        if original is None:
            return own
        vector = self._like.table.shape[3]
        same = self._like.encode(original.float()).codes == self._like.codes
        return torch.where(same.repeat_interleave(vector, -1), original.float(), own)

    @property
    def parameters(self) -> dict[str, Parameter]:
        found = {"table": self._table}
        if self._log is not None:
            found["scales"] = self._log
        return found if self._latent is None else {**found, "weights": self._latent}

    def _stored(self) -> tuple[Tensor, Tensor | None]:
        """Table and scales in f32, rounded to their dtypes."""
        dtype, table = self._like.table.dtype, self._table.tensor
        rounded = stored(table, dtype) if dtype.is_floating_point else _int8(table)
        if self._log is None or self._like.scale is None:
            return rounded, None
        return rounded, positive(self._log.tensor, self._like.scale.to(table.device))

    def _codes(self, table: Tensor, scale: Tensor | None) -> Tensor:
        if self._latent is None:
            return self._like.codes
        cpu = None if scale is None else scale.detach().cpu()
        like = replace(self._like, table=table.detach().cpu(), scale=cpu)
        moved = like.encode(self._latent.tensor.detach().cpu()).codes
        # Entries that are equal, or latent weights that did not move, keep their index.
        kept = replace(like, codes=moved).decode() == like.decode()
        vector = self._like.table.shape[3]
        same = kept.unflatten(-1, (-1, vector)).all(-1)
        return torch.where(same, self._like.codes, moved)

    def value(self) -> Tensor:
        table, scale = self._stored()
        codes = self._codes(table, scale)
        looked = _lookup(self._like, codes.to(table.device), table, scale)
        if self._latent is not None:
            looked = straight(looked + self._latent.tensor, looked)
        return looked.to(self._like.dtype.torch_dtype)

    def encoding(self) -> Encoding:
        table, scale = self._stored()
        codes = self._codes(table, scale)
        made = None if scale is None else scale.detach().cpu()
        like = self._like
        if made is not None and like.scale is not None:
            made = made.to(like.scale.dtype)
        return replace(
            like, codes=codes, table=table.detach().cpu().to(like.table.dtype), scale=made
        )


def _int8(table: Tensor) -> Tensor:
    return straight(table, table.detach().round().clamp(-128, 127))


def _lookup(like: Lut, codes: Tensor, table: Tensor, scale: Tensor | None) -> Tensor:
    """`Lut.decode` in f32, anywhere."""
    r, c, entries, vector = table.shape
    rows = codes.shape[0] if codes.dim() > 1 else 1
    tiles = codes.reshape(r, rows // r, c, -1).long()
    first = torch.arange(r * c, device=codes.device).view(r, 1, c, 1) * entries
    values = table.reshape(-1, vector).index_select(0, (tiles + first).reshape(-1))
    if scale is not None:
        values = values.reshape(*scale.shape, -1) * scale.unsqueeze(-1)
    return values.reshape(like.shape)


class SparseForm(Form):
    """The mask stays; what it covers is trained in the form of its encoding."""

    def __init__(self, encoding: Sparse, start: Start) -> None:
        self._like, self._inner = encoding, trainable(encoding.values, start)

    @property
    def parameters(self) -> dict[str, Parameter]:
        return self._inner.parameters

    def value(self) -> Tensor:
        values = self._inner.value()
        zero = torch.zeros((), dtype=values.dtype, device=values.device)
        return torch.where(self._like.mask.to(values.device), values, zero)

    def encoding(self) -> Encoding:
        return replace(self._like, values=self._inner.encoding())

    def soften(self, soft: bool) -> None:
        self._inner.soften(soft)

    def penalty(self, beta: float) -> Tensor | None:
        return self._inner.penalty(beta)


class OutliersForm(Form):
    """The positions stay; their values are trained, and what is under them."""

    def __init__(self, encoding: Outliers, start: Start) -> None:
        self._like, self._inner = encoding, trainable(encoding.base, start)
        self._values = Parameter.of(encoding.values, start.device)

    @property
    def parameters(self) -> dict[str, Parameter]:
        inner = {f"base.{k}": p for k, p in self._inner.parameters.items()}
        return {**inner, "values": self._values} if self._like.values.numel() else inner

    def _stored(self) -> Tensor:
        return stored(self._values.tensor, self._like.values.dtype)

    def value(self) -> Tensor:
        dense, values = self._inner.value(), self._stored()
        flat = dense.reshape(-1)
        positions = self._like.positions.to(flat.device)
        return flat.scatter(0, positions, values.to(dense.dtype)).reshape(dense.shape)

    def encoding(self) -> Encoding:
        values = self._stored().detach().to("cpu", self._like.values.dtype)
        return replace(self._like, base=self._inner.encoding(), values=values)

    def soften(self, soft: bool) -> None:
        self._inner.soften(soft)

    def penalty(self, beta: float) -> Tensor | None:
        return self._inner.penalty(beta)


_FORMS: Mapping[type[Encoding], Callable[[Any, Start], Form]] = {
    Dense: DenseForm,
    Affine: AffineForm,
    Lut: LutForm,
    Sparse: SparseForm,
    Outliers: OutliersForm,
}


def trainable(encoding: Encoding, start: Start = Start()) -> Form:  # noqa: B008 - immutable
    """The trainable form of an encoding, which starts as it exactly."""
    decoded = encoding.decode()
    if not decoded.is_floating_point() or not decoded.numel() or not decoded.isfinite().all():
        return Fixed(encoding, start)
    original = start.original
    if original is not None and original.shape != decoded.shape:
        start = replace(start, original=None)
    if start.learned and isinstance(encoding, Affine):
        return RoundingForm(encoding, start)
    return _FORMS[type(encoding)](encoding, start)
