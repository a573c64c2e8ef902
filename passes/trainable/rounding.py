"""Affine codes whose rounding up or down is learned."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from edgec.ir import Affine, Encoding
from edgec.ir.encodings.rows import from_rows
from edgec.passes.numerics import adaround
from edgec.passes.trainable.form import Form, Parameter, Start

PACE = 10.0  # steps of V in parts of 1: AdaRound's rate is 1e-2 where that of weights is 1e-3


class RoundingForm(Form):
    """Codes between two integers while training: `soft`; else those that h(V) rounds to.

    The value is that of `encoding()` only where not `soft`.
    """

    def __init__(self, encoding: Affine, start: Start) -> None:
        self._like, self.soft = encoding, False
        zero = encoding.zero
        self._zero = torch.zeros(()) if zero is None else zero.float().unsqueeze(-1)
        self._scale = encoding.scale.float().unsqueeze(-1)
        codes = encoding.blocks(encoding.codes.float())
        original = encoding.decode() if start.original is None else start.original
        wanted = encoding.blocks(original.float()) / self._scale + self._zero
        self._floor, h = adaround.split(wanted, codes)
        self._rounding = Parameter.of(adaround.unrectified(h), start.device)
        self._rounding = replace(self._rounding, size=PACE)
        low = encoding.low + (encoding.group == 0 and zero is None)  # see DESIGN, 6
        self._low, self._high = min(low, int(codes.min())), encoding.high

    @property
    def parameters(self) -> dict[str, Parameter]:
        return {"rounding": self._rounding}

    def _codes(self) -> Tensor:
        h = adaround.rectified(self._rounding.tensor)
        rounded = h if self.soft else (h > 0.5).float()
        return (self._floor.to(h.device) + rounded).clamp(self._low, self._high)

    def value(self) -> Tensor:
        like, codes = self._like, self._codes()
        rows = ((codes - self._zero.to(codes.device)) * self._scale.to(codes.device)).flatten(1)
        return from_rows(rows, like.shape, like.axis).to(like.dtype.torch_dtype)

    def penalty(self, beta: float) -> Tensor:
        return adaround.penalty(adaround.rectified(self._rounding.tensor), beta)

    def soften(self, soft: bool) -> None:
        self.soft = soft

    def encoding(self) -> Encoding:
        soft, self.soft = self.soft, False
        codes = self._codes().detach().cpu()
        self.soft = soft
        laid = from_rows(codes.to(torch.int8).flatten(1), self._like.shape, self._like.axis)
        return replace(self._like, codes=laid)
