"""The check that step by step decoding computes what the model itself computes."""

from __future__ import annotations

from torch import Tensor

from edgec.errors import CaptureError

TOLERANCE = (
    1e-3  # relative to the largest logit: another order of sums is far below, another formula above
)


def same_logits(model: str, steps: Tensor, whole: Tensor) -> None:
    """Raise CaptureError unless both logits are finite and agree."""
    scale = float(whole.abs().max())
    worst = float((steps - whole).abs().max())
    if worst <= TOLERANCE * scale:
        return
    got = f"other logits from the cache than without (off by {worst:.1e} of {scale:.1e})"
    raise CaptureError(model, got, "a decoder whose state is keys and values")
