"""2:4 masks as numbers: which two of four neighbours are kept, three such choices in a byte.

Two of four is one of 6 pairs, and 6^3 = 216 choices fit a byte: 8 bits for 12 weights, where a bit
per weight takes 12 and two positions of 2 bits for each four take 12 too.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from edgec.errors import FormatError

PAIRS = torch.tensor(
    [[i in pair for i in range(4)] for pair in itertools.combinations(range(4), 2)]
)
"""bool[6, 4]: what each choice keeps, in lexical order of the positions that are kept."""

IN_BYTE = 3
POWERS = torch.tensor([len(PAIRS) ** i for i in range(IN_BYTE)])
"""i64[3]: a byte is the sum of choice i times 6^i."""


def mask_bytes(count: int) -> int:
    """Bytes that the mask of `count` weights takes, a multiple of 4."""
    return -(-count // (4 * IN_BYTE))


def pack_mask(rows: Tensor) -> Tensor:
    """bool[N, K], two kept of every four in a row -> u8[ceil(N K / 12)]; missing choices are 0."""
    fours = rows.reshape(-1, 4)
    first, second = fours.byte().argmax(1), 3 - fours.flip(1).byte().argmax(1)
    choice = first * (7 - first) // 2 + second - first - 1
    choice = torch.nn.functional.pad(choice, (0, -len(choice) % IN_BYTE))
    return (choice.view(-1, IN_BYTE) * POWERS).sum(1).to(torch.uint8)


def unpack_mask(data: Tensor, rows: int, length: int) -> Tensor:
    """The inverse of `pack_mask`: bool[N, K]. Raises FormatError for anything else."""
    count = rows * length
    if length % 4:
        raise FormatError("two_four", f"K={length}", "a multiple of 4")
    if data.dtype != torch.uint8 or list(data.shape) != [mask_bytes(count)]:
        got = f"{str(data.dtype).removeprefix('torch.')}{list(data.shape)}"
        raise FormatError("two_four", got, f"u8[{mask_bytes(count)}] for a mask of {count} weights")
    choice = data.long().unsqueeze(1) // POWERS
    if bool((choice[:, -1] >= len(PAIRS)).any()):
        raise FormatError("two_four", f"byte {int(data.max())}", "0..215, three choices of 6 pairs")
    choice = (choice % len(PAIRS)).view(-1)
    if bool(choice[count // 4 :].any()):
        raise FormatError("two_four", "choices beyond the last four weights", "zeros")
    return PAIRS[choice[: count // 4]].view(rows, length)
