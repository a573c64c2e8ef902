"""Groups of tensors that are near to one mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Positions of tensors, ascending, and their mean f64[*S] weighted by their counts."""

    members: tuple[int, ...]
    mean: Tensor


def cluster(tensors: Sequence[Tensor], counts: Sequence[int], tolerance: float) -> list[Group]:
    """Groups of two or more of T[*S], finite, each within `tolerance` of its group's mean.

    counts      what each weighs in a mean
    tolerance   ||w - mean|| <= tolerance ||w||

    A tensor joins the first group whose new mean is near to all of its members. Two whose norms
    differ by more than the tolerance of both cannot be in one group, and are not compared.
    """
    norms = [float(t.double().norm()) for t in tensors]
    groups: list[Group] = []
    for i, tensor in enumerate(tensors):
        for at, group in enumerate(groups):
            other = norms[group.members[0]]
            if abs(other - norms[i]) > tolerance * (other + norms[i]):
                continue
            if (made := _joined(tensors, counts, norms, tolerance, group, i)) is not None:
                groups[at] = made
                break
        else:
            groups.append(Group((i,), tensor.double()))
    return [g for g in groups if len(g.members) > 1]


def _joined(
    tensors: Sequence[Tensor],
    counts: Sequence[int],
    norms: Sequence[float],
    tolerance: float,
    group: Group,
    new: int,
) -> Group | None:
    """The group with one more member; None where a member would be too far from the mean."""
    weight = sum(counts[i] for i in group.members)
    mean = torch.lerp(group.mean, tensors[new].double(), counts[new] / (weight + counts[new]))
    members = (*group.members, new)
    near = (float((tensors[i].double() - mean).norm()) <= tolerance * norms[i] for i in members)
    return Group(members, mean) if all(near) else None
