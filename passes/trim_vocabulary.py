"""trim-vocabulary: tables, output layers and the tokenizer without tokens that are not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgec.context import NOTHING, Calibration, Context
from edgec.errors import PassError
from edgec.ir import Constant, Dense, Exactness, Node, Program
from edgec.ir.graph import Value, put_constant
from edgec.passes.kept_tokens import TokenFiles, corpus_tokens
from edgec.passes.vocabulary_use import Slot, Use, count_uses, find_use, token_tables
from edgec.sequences import Calls
from edgec.transform import Pass, PassResult
from edgec.vocabulary import KEY, Vocabulary

_SINGLE = ("eos", "pad", "bos", "decoder_start", "forced_bos", "forced_eos")
_SEVERAL = ("all_eos", "banned")
_TURNED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}  # c < x is x > c


@dataclass(frozen=True)
class TrimVocabulary(Pass):
    """Leave out the tokens that a corpus does not use, everywhere.

    Given    %x = gather(@t, %ids)        %logits = linear(%h, @t, @b)     @t = f32[V, E]
    Result   the same with @t = f32[V', E], @b = f32[V'], and %logits with V' elements

    Token ids are renumbered without gaps, in their old order. The tokenizer's files, the ids in the
    metadata and those that the graphs compare with are changed alike; metadata["vocabulary"] says
    which old id each new one was (`edgec.vocabulary`), which is all that there is for a program
    without a tokenizer.

    keep        what is kept: a file of texts (.txt, one a line; .tsv, source and reference) or of
                token ids (.json, a list), looked up beside the recipe; "": what calibration data
                have. A translator needs references, or calibration data, for what it writes.
    min_count   how often the texts must have a token
    table       names of the tables that token ids index, where they cannot be told from others

    Always kept: tokens of the calibration data, special tokens, bytes, single characters, and what
    the kept pieces are merged from. So a text whose tokens are kept is tokenized as before, and any
    other text into smaller pieces; see `edgec.pieces.subset`.

    Keeps    what is computed for kept tokens; a softmax over tokens is one over fewer. Refused: ids
             or logits that something else reads, compressed tables.
    Effect   ROUNDING
    Source   Abdaoui et al. 2020, arXiv:2010.05609, sec. 3.
    Differs  The tokenizer is cut too, rather than the ids that it gives mapped.
    """

    name: ClassVar[str] = "trim-vocabulary"
    effect: ClassVar[Exactness] = Exactness.ROUNDING
    keep: str = ""
    min_count: int = 1
    table: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = []
        if self.keep and Path(self.keep).suffix not in (".txt", ".tsv", ".json"):
            wrong.append(f"keep={self.keep}, need a file .txt, .tsv or .json")
        if self.min_count < 1:
            wrong.append(f"min_count={self.min_count}, need min_count >= 1")
        if wrong:
            raise PassError(self.name, "; ".join(wrong))

    @property
    def needs_calibration(self) -> bool:  # type: ignore[override]
        return not self.keep

    @property
    def uses_calibration(self) -> bool:
        return True

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        files = TokenFiles.of(program)
        tables = self._tables(program, files)
        if not tables:
            note = "nothing to do: no table is read at inputs that could be token ids"
            return PassResult(program, False, (note,))
        use = find_use(program, tables, self.name)
        kept = self._kept(program, use, files, context)
        if len(kept) == use.size:
            note = f"nothing to do: all of the {use.size} tokens are needed"
            return PassResult(program, False, (note,))
        after = trimmed(program, use, kept)
        notes = [f"{len(kept)} of {use.size} tokens are kept"]
        if files is not None and (left := sorted(files.paths.keys() - files.subset(kept).keys())):
            notes.append(f"files that say the same as others are left out: {', '.join(left)}")
        return PassResult(after, True, tuple(notes))

    def reference(self, original: Program, after: Program) -> Program:
        """The original with the same tokens."""
        ids = Vocabulary.of(after)
        assert ids is not None
        tables = self._tables(original, TokenFiles.of(original))
        known = Vocabulary.of(original)
        roots = list(known.kept) if known else list(range(ids.original))
        places = {root: i for i, root in enumerate(roots)}
        use = find_use(original, tables, self.name)
        return trimmed(original, use, [places[i] for i in ids.kept])

    # -------------------------------------------------------------- which tables, which tokens
    def _tables(self, program: Program, files: TokenFiles | None) -> list[str]:
        """Constants that token ids index, all with as many rows."""
        found = token_tables(program)
        if unknown := sorted(set(self.table) - found.keys()):
            need = f"tables that are read at inputs: {', '.join(found) or 'there are none'}"
            raise PassError(self.name, f"table={', '.join(unknown)}", need)
        least = files.size if files is not None else 1
        chosen = {n: v for n, v in found.items() if n in (self.table or found) and v >= least}
        if len(set(chosen.values())) > 1:
            sizes = ", ".join(f"@{n} of {v} rows" for n, v in chosen.items())
            raise PassError(self.name, f"tables {sizes}", "those of the tokens", "give table=[...]")
        wrong = [n for n in chosen if not isinstance(program.constants[n].encoding, Dense)]
        if wrong:
            got = f"@{', @'.join(wrong)} compressed"
            raise PassError(self.name, got, "plain tables", "put this pass before compression")
        return list(chosen)

    def _kept(
        self, program: Program, use: Use, files: TokenFiles | None, context: Context
    ) -> list[int]:
        """Ids to keep, ascending."""
        found = calibrated_tokens(use, context.calibration) if context.calibration else set()
        if self.keep:
            path = Path(self.keep)
            path = path if context.folder is None else context.folder / path
            writes = program.metadata.get("task") == "translate" and not found
            found |= corpus_tokens(path, files, self.min_count, writes)
        else:
            context.calls(self.name, "give keep=FILE")
        found |= generation_tokens(program)
        found |= _compared(program, use)
        if wrong := sorted(i for i in found if not 0 <= i < use.size):
            got = f"token ids {', '.join(map(str, wrong[:5]))}"
            raise PassError(self.name, got, f"ids from 0 to {use.size - 1}")
        return sorted(found if files is None else files.needed(found))


def calibrated_tokens(use: Use, calibration: Calibration) -> set[int]:
    """All ids that calibration data have."""
    found: set[int] = set()
    sequences = calibration.sequences if isinstance(calibration, Calls) else []
    for call in (call for sequence in sequences for call in sequence):
        for name in use.inputs.get(call.function, ()):
            found |= _numbers(call.inputs.get(name))
    for function, names in use.inputs.items():
        for inputs in calibration.get(function, ()):
            for i in (use.positions[function, name] for name in names):
                found |= _numbers(inputs[i])
    return found


def _numbers(ids: Tensor | None) -> set[int]:
    return set() if ids is None else set(ids.unique().tolist())


def generation_tokens(program: Program) -> set[int]:
    """Ids that decoding needs; banned ones may go."""
    settings = program.metadata.get("generation") or {}
    single = {settings[k] for k in _SINGLE if settings.get(k) is not None}
    return single | set(settings.get("all_eos") or ())


def _compared(program: Program, use: Use) -> set[int]:
    """Ids that are compared for equality."""
    found: set[int] = set()
    for slot, name in use.numbers.items():
        if program.graphs[slot.function].nodes[slot.index].op.name in ("eq", "ne"):
            numbers = program.constants[name].encoding.decode()
            found |= {int(i) for i in numbers.flatten().tolist() if 0 <= i < use.size}
    return found


# ------------------------------------------------------------------ the program without the others
def trimmed(program: Program, use: Use, kept: Sequence[int]) -> Program:
    """The program with the tokens `kept`, ascending ids, alone."""
    after = program.copy()
    names = _cut_constants(after, use, torch.tensor(kept))
    for function, graph in after.graphs.items():
        operands = {(s.index, s.slot): n for s, n in names.items() if s.function == function}
        axes = use.values.get(function, {})
        graph.nodes[:] = [
            _trimmed_node(node, i, operands, axes, len(kept)) for i, node in enumerate(graph.nodes)
        ]
        after.graphs[function] = graph.replace()
    after.metadata = trimmed_metadata(program, use, kept)
    return after.drop_unused_constants()


def _cut_constants(program: Program, use: Use, kept: Tensor) -> dict[Slot, str]:
    """New names of the operands that change. A constant that is cut everywhere keeps its name."""
    counts, made, names = count_uses(program), dict[tuple[str, int | str], str](), dict[Slot, str]()
    before = dict(program.constants)
    listed: list[tuple[Slot, str, int | str]]
    listed = [(slot, name, slot.axis) for slot, name in use.weights.items()]
    for slot, name in use.numbers.items():
        comparison = program.graphs[slot.function].nodes[slot.index].op.name
        listed.append(
            (slot, name, comparison if slot.slot else _TURNED.get(comparison, comparison))
        )
    for slot, name, how in listed:
        if (name, how) not in made:
            stored = before[name].encoding
            assert isinstance(stored, Dense)
            if isinstance(how, int):
                new = Dense(stored.values.index_select(how, kept), stored.as_dtype)
            else:
                new = Dense(_renumbered(stored.values, kept, how))
            alone = counts[name] == sum(n == name and h == how for _, n, h in listed)
            if alone:
                program.constants[name] = Constant(name, new)
            made[name, how] = name if alone else put_constant(program.constants, name, new).name
        names[slot] = made[name, how]
    return names


def _renumbered(numbers: Tensor, kept: Tensor, comparison: str) -> Tensor:
    """What new ids are compared with: as many of them are less as were before."""
    if comparison in ("eq", "ne"):
        places = torch.searchsorted(kept, numbers.long().contiguous())
        there = kept[places.clamp(max=len(kept) - 1)] == numbers
        return torch.where(there, places, -1).to(numbers.dtype)
    right = comparison in ("le", "gt")
    places = torch.searchsorted(kept, numbers.long().contiguous(), right=right)
    return (places - int(right)).to(numbers.dtype)


def _trimmed_node(
    node: Node,
    index: int,
    operands: Mapping[tuple[int, int], str],
    axes: Mapping[str, int],
    size: int,
) -> Node:
    inputs = tuple(
        f"@{operands[index, i]}" if (index, i) in operands else name
        for i, name in enumerate(node.inputs)
    )
    outputs = tuple(
        _trimmed_value(v, axes[v.name], size) if v.name in axes else v for v in node.outputs
    )
    op: Any = node.op
    if node.outputs[0].name in axes and node.op.name in ("reshape", "expand"):
        op = replace(op, shape=outputs[0].type.shape)
    if inputs == node.inputs and outputs == node.outputs:
        return node
    return replace(node, op=op, inputs=inputs, outputs=outputs)


def _trimmed_value(value: Value, axis: int, size: int) -> Value:
    shape = value.type.shape
    return Value(value.name, value.type.with_shape(*shape[:axis], size, *shape[axis + 1 :]))


def trimmed_metadata(program: Program, use: Use, kept: Sequence[int]) -> dict[str, Any]:
    """The metadata with new ids, and with what the old ones were."""
    made, new = dict(program.metadata), {old: i for i, old in enumerate(kept)}
    if settings := made.get("generation"):
        changed = {k: new[settings[k]] for k in _SINGLE if settings.get(k) is not None}
        lists = {k: [new[i] for i in settings[k] if i in new] for k in _SEVERAL if settings.get(k)}
        made["generation"] = {**settings, **changed, **lists}
    if tokenizer := made.get("tokenizer"):
        known = tokenizer.get("kept")
        made["tokenizer"] = {**tokenizer, "kept": [known[i] if known else i for i in kept]}
    before = Vocabulary.of(program)
    roots = before.kept if before else range(use.size)
    original = before.original if before else use.size
    ids = Vocabulary(original, tuple(roots[i] for i in kept), use.inputs, use.outputs)
    return {**made, KEY: ids.to_json()}
