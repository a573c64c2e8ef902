"""Finds residual blocks, `y = x + f(x)` and `y = norm(x + f(x))`, and the layers that they make.

A block is an `add` one of whose operands is computed from the other: that other is x, what enters,
and the nodes on the way from x to the `add`, which nothing else reads, are f. Where f reads x
otherwise than through norms, and a norm alone reads the sum, the norm belongs to the block
(post-norm), else not (pre-norm). Taking a block out is reading x for y.

Blocks follow each other where one gives what enters the next. A layer is the shortest run of blocks
that repeats through such a chain (attention and feed-forward; two attentions and feed-forward in a
decoder). Where none repeats, it begins with an attention that follows a block without one. Blocks
of several functions that use the same weights are of one layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgec.ir import Node, Program
from edgec.ir.graph import Graph

NORMS = ("layer_norm", "rms_norm", "batch_norm", "group_norm")


@dataclass(frozen=True)
class Block:
    """%exit = %entry + f(%entry) in one function.

    inside    values that f computes from %entry
    ops       names of the ops on the way, sorted: equal for blocks of one kind
    weights   matrices that they use
    """

    function: str
    entry: str
    exit: str
    inside: frozenset[str]
    ops: tuple[str, ...]
    weights: frozenset[str]

    @property
    def attends(self) -> bool:
        return bool({"attention", "softmax"} & set(self.ops))


@dataclass(frozen=True)
class Layer:
    """Runs of blocks that go together, one in each function that has the layer."""

    runs: tuple[tuple[Block, ...], ...]

    @property
    def blocks(self) -> list[Block]:
        return [b for run in self.runs for b in run]

    @property
    def where(self) -> str:
        return ", ".join(f"{run[0].function}/{run[0].entry}..{run[-1].exit}" for run in self.runs)


def find_layers(program: Program, single: bool = False) -> list[Layer]:
    """In the order of execution, function by function; `single`: every block is a layer."""
    found: list[list[tuple[Block, ...]]] = []
    for graph in program.graphs.values():
        runs = [r for chain in _chains(find_blocks(graph)) for r in _runs(chain, single)]
        free = list(found)
        for run in runs:
            same = next((f for f in free if _weights(f[0]) == _weights(run) != frozenset()), None)
            if same is None:
                found.append([run])
            else:
                same.append(run)
                free.remove(same)
    return [Layer(tuple(runs)) for runs in found]


def _weights(run: Sequence[Block]) -> frozenset[str]:
    return frozenset().union(*(b.weights for b in run))


# ------------------------------------------------------------------ blocks
def find_blocks(graph: Graph) -> list[Block]:
    """Residual blocks in the order of their sums."""
    ancestors = _ancestors(graph)
    users = graph.users()
    found = []
    for node in graph.nodes:
        if node.op.name != "add":
            continue
        made = _block(graph, node, ancestors, users)
        if made is not None:
            found.append(made)
    return found


def _ancestors(graph: Graph) -> dict[str, int]:
    """Bits of the nodes that each value is computed from, its own maker included."""
    found = dict.fromkeys((v.name for v in graph.inputs), 0)
    for i, node in enumerate(graph.nodes):
        mine = 1 << i
        for name in node.operands:
            mine |= found.get(name, 0)
        found |= {v.name: mine for v in node.outputs}
    return found


def _block(
    graph: Graph, add: Node, ancestors: dict[str, int], users: dict[str, list[Node]]
) -> Block | None:
    names = [n for n in add.operands if not n.startswith("@")]
    if len(names) != 2 or names[0] == names[1]:
        return None
    for entry, branch in (names, names[::-1]):
        inside = list(_between(graph, entry, branch, ancestors, users))
        if not inside or not graph.type(entry).same(add.output.type):
            continue
        found = {v.name for node in inside for v in node.outputs}
        if not _is_closed(found, add, users):
            continue
        direct = [u for u in users[entry] if u.output.name in found]
        after = users.get(add.output.name, [])
        behind = len(after) == 1 and after[0].op.name in NORMS
        post = behind and add.output.name not in graph.outputs
        post = post and any(u.op.name not in NORMS for u in direct)
        weights = {n for node in inside for n in node.operands if n.startswith("@")}
        return Block(
            graph.name,
            entry,
            after[0].output.name if post else add.output.name,
            frozenset(found),
            tuple(sorted(node.op.name for node in inside)),
            frozenset(w for w in weights if graph.type(w).rank > 1),
        )
    return None


def _is_closed(inside: set[str], add: Node, users: dict[str, list[Node]]) -> bool:
    """Whether nothing but f itself and the sum reads what f computes.

    Else it is no block: a position that is added to what was computed from it long before.
    """
    readers = (u for name in inside for u in users.get(name, ()))
    return all(u is add or u.output.name in inside for u in readers)


def _between(
    graph: Graph,
    entry: str,
    branch: str,
    ancestors: dict[str, int],
    users: dict[str, list[Node]],
) -> Iterator[Node]:
    """The nodes on the ways from `entry` to `branch`."""
    wanted = ancestors.get(branch, 0)
    reached = {entry}
    if not any(ancestors[u.output.name] & ~wanted == 0 for u in users.get(entry, ())):
        return
    for i, node in enumerate(graph.nodes):
        if wanted >> i & 1 and not reached.isdisjoint(node.operands):
            reached |= {v.name for v in node.outputs}
            yield node


# ------------------------------------------------------------------ layers
def _chains(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks that follow each other; of several that begin at one place, the first goes on."""
    chains: list[list[Block]] = []
    for block in blocks:
        home = next((c for c in chains if c[-1].exit == block.entry), None)
        if home is None:
            chains.append([block])
        else:
            home.append(block)
    return chains


def _runs(chain: list[Block], single: bool) -> list[tuple[Block, ...]]:
    period = 1 if single else _period([b.ops for b in chain])
    if period < len(chain) or single:
        return [tuple(chain[i : i + period]) for i in range(0, len(chain), period)]
    if not any(b.attends for b in chain):
        return [(b,) for b in chain]
    starts = [i for i, b in enumerate(chain) if i == 0 or (b.attends and not chain[i - 1].attends)]
    return [tuple(chain[a:b]) for a, b in zip(starts, [*starts[1:], len(chain)], strict=True)]


def _period(kinds: Sequence[tuple[str, ...]]) -> int:
    """The length of the shortest part that, repeated, gives the whole."""
    n = len(kinds)
    divisors = (d for d in range(1, n + 1) if n % d == 0)
    return next(d for d in divisors if all(kinds[i] == kinds[i % d] for i in range(n)))
