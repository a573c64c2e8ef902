"""Block tables of sparse attention: one for each pattern, built when the length has changed."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.ir.dims import Dim
from edgec.kernels.attention_tiles import BLOCK
from edgec.kernels.block_capacity import TableCapacity, table_capacity
from edgec.kernels.block_table import is_ordered
from edgec.patterns import Pattern
from edgec.runtime.container import round_up
from edgec.targets.native.views import Storage


@dataclass(frozen=True, eq=False)
class Table:
    """Room for a pattern's table in the instance.

    number    of the pattern in the program: names in the C source end with it
    longest   greatest number of tokens
    storage   the length that was built for, then the arrays, each at a multiple of 64 bytes
    """

    pattern: Pattern
    number: int
    longest: int
    capacity: TableCapacity
    storage: Storage

    @staticmethod
    def of(pattern: Pattern, number: int, longest: int) -> Table:
        capacity = table_capacity(pattern, longest)
        storage = Storage("state", f"table {number}", _offsets(capacity)["end"])
        return Table(pattern, number, longest, capacity, storage)

    @property
    def ordered(self) -> bool:
        return is_ordered(self.pattern)

    def offset(self, array: str) -> int:
        """Start of an array, in bytes."""
        return _offsets(self.capacity)[array]


@dataclass(frozen=True)
class BuildTable:
    """Statement: have the table ready for so many tokens."""

    table: Table
    length: Dim


def _offsets(c: TableCapacity) -> dict[str, int]:
    """Start of each array, in bytes, and the end of them all."""
    sizes = {
        "length": 8,
        "row_ptr": 4 * c.row_ptr,
        "col_idx": 4 * c.blocks,
        "tile_id": 4 * c.blocks,
        "order": 4 * c.order,
        "bias": 4 * c.tiles * BLOCK * BLOCK,
        "hashes": 8 * c.tiles,
    }
    found, at = {}, 0
    for name, nbytes in sizes.items():
        found[name] = at
        at += round_up(nbytes)
    return found | {"end": at}


def table_source(table: Table) -> str:
    """The C constants of a pattern, and the function that builds its table."""
    p, c, n = table.pattern, table.capacity, table.number
    parts = list(p.parameters())
    rows = ", ".join("{" + ", ".join(map(str, row)) + "}" for row in parts)
    flags = f"{int(p.past_only)}, {p.head_period}, {int(table.ordered)}"
    order = f"(int32_t *)(at + {table.offset('order')})" if table.ordered else "0"
    return f"""\
/* {p} */
static const edgec_pattern_part parts_{n}[] = {{{rows}}};
static const edgec_pattern pattern_{n} = {{parts_{n}, {len(parts)}, {flags}}};
static edgec_status table_{n}(edgec_instance *self, unsigned char *at, int64_t length) {{
  int64_t *built = (int64_t *)at; /* 0 before the first call */
  char error[EDGEC_ERROR_BYTES] = "";
  edgec_block_table table = {{
      (int32_t *)(at + {table.offset("row_ptr")}), (int32_t *)(at + {table.offset("col_idx")}),
      (int32_t *)(at + {table.offset("tile_id")}), {order},
      (float *)(at + {table.offset("bias")}), (uint64_t *)(at + {table.offset("hashes")}),
      {table.longest}, {c.blocks}, {c.tiles}, 0, 0}};
  edgec_status status = EDGEC_OK;
  if (*built == length) return EDGEC_OK;
  *built = 0;
  status = edgec_build_block_table(&pattern_{n}, (int32_t)length, &table, error);
  if (status) return edgec_fail(self, status, "%s", error);
  *built = length;
  return EDGEC_OK;
}}
"""
