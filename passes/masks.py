"""What passes that leave weights out share: options, what is left as it is, and what pays."""

from __future__ import annotations

import torch
from torch import Tensor

from edgec.ir import Encoding, Sparse
from edgec.ir.encodings.rows import rows_shape
from edgec.passes.numerics.gptq import Hessian
from edgec.passes.numerics.sparsity import Pattern, Rule
from edgec.passes.weight_pass import Account
from edgec.passes.weights import Weight


def wrong_rule(ratio: float, pattern: Pattern) -> list[str]:
    """What does not go in a choice of weights."""
    wrong = []
    if not 0 < ratio < 1:
        wrong.append(f"ratio={ratio}, need 0 < ratio < 1")
    elif pattern == "two_four" and ratio != 0.5:
        wrong.append(f"ratio={ratio} with pattern=two_four, need ratio=0.5")
    return wrong


def wrong_fit(refit: int, damping: float) -> list[str]:
    """What does not go in fitting what is kept."""
    wrong = [f"refit={refit}, need refit >= 0"] if refit < 0 else []
    if not 0 < damping < 100:
        wrong.append(f"damping={damping}, need 0 < damping < 100")
    return wrong


def odd(pattern: Pattern, stored: Encoding, weight: Weight) -> str:
    """How rows do not divide into fours; "" where they do or need not."""
    length = rows_shape(tuple(int(d) for d in stored.type.shape), weight.axis)[1]
    wrong = pattern == "two_four" and length % 4 != 0
    return f"K={length}; need a multiple of 4 for two_four" if wrong else ""


def leave_tables(account: Account) -> None:
    """Take the tables that are gathered from out of the account, and note it."""
    tables = [n for n, w in account.weights.items() if w.is_table]
    for name in tables:
        account.weights.pop(name)
    if tables:
        account.notes.append(f"tables, left as they are: {', '.join(f'@{n}' for n in tables)}")


def unusable(hessian: Hessian | None) -> str:
    """Why a weight's Hessian is of no use; "" where it is."""
    if hessian is None:
        return "no product with calibration data"
    return "" if hessian.is_finite else "inputs with infinite squares"


def within(rule: Rule, mask: Tensor, before: Tensor | None) -> Tensor:
    """A mask inside of one that was there; two_four may fill up its fours with zeros."""
    return mask if before is None or rule.pattern == "two_four" else mask & before


def smaller(
    pattern: Pattern, mask: Tensor, values: Encoding, axis: int, stored: Encoding
) -> Encoding | str:
    """Values under a mask, or why `stored` is better: bytes, or nothing new."""
    made = Sparse("two_four" if pattern == "two_four" else "bitmask", mask, values, axis)
    if isinstance(stored, Sparse) and stored.pattern == made.pattern:
        if torch.equal(stored.mask, mask):
            return "sparse already"
    if made.nbytes >= stored.nbytes:
        return f"{made.nbytes} bytes with a mask, {stored.nbytes} without"
    return made
