"""Clean-up and compression passes: graphs and encodings in, graphs and encodings out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, cast

from edgec.errors import FormatError, PassError

if TYPE_CHECKING:
    from edgec.transform import Pass, Pipeline

# Name in text -> "module:class"; a module is imported when its pass is first asked for.
PASSES: dict[str, str] = {
    "awq": "edgec.passes.awq:Awq",
    "canonicalize": "edgec.passes.canonicalize:Canonicalize",
    "cast-weights": "edgec.passes.cast_weights:CastWeights",
    "correct-biases": "edgec.passes.correct_biases:CorrectBiases",
    "distill": "edgec.passes.distill:Distill",
    "drop-layers": "edgec.passes.drop_layers:DropLayers",
    "eliminate-common-subexpressions": (
        "edgec.passes.eliminate_common_subexpressions:EliminateCommonSubexpressions"
    ),
    "eliminate-dead-code": "edgec.passes.eliminate_dead_code:EliminateDeadCode",
    "equalize-layers": "edgec.passes.equalize_layers:EqualizeLayers",
    "factorize-embeddings": "edgec.passes.factorize_embeddings:FactorizeEmbeddings",
    "factorize-weights": "edgec.passes.factorize_weights:FactorizeWeights",
    "fold-constants": "edgec.passes.fold_constants:FoldConstants",
    "fuse": "edgec.passes.fuse:Fuse",
    "gptq": "edgec.passes.gptq:Gptq",
    "mixed-precision": "edgec.passes.mixed_precision:MixedPrecision",
    "prune-heads": "edgec.passes.prune_heads:PruneHeads",
    "prune-neurons": "edgec.passes.prune_neurons:PruneNeurons",
    "quantize-activations": "edgec.passes.quantize_activations:QuantizeActivations",
    "palettize-weights": "edgec.passes.palettize_weights:PalettizeWeights",
    "quantize-weights": "edgec.passes.quantize_weights:QuantizeWeights",
    "reconstruct-blocks": "edgec.passes.reconstruct_blocks:ReconstructBlocks",
    "refine-scales": "edgec.passes.refine_scales:RefineScales",
    "smooth-activations": "edgec.passes.smooth_activations:SmoothActivations",
    "sparsify-attention": "edgec.passes.sparsify_attention:SparsifyAttention",
    "sparsegpt": "edgec.passes.sparsegpt:SparseGpt",
    "sparsify-weights": "edgec.passes.sparsify_weights:SparsifyWeights",
    "share-weights": "edgec.passes.share_weights:ShareWeights",
    "trim-vocabulary": "edgec.passes.trim_vocabulary:TrimVocabulary",
}

# Runs before all other passes: simplify, find the ops behind formulas, tidy up.
CLEANUP: tuple[str, ...] = (
    "eliminate-dead-code",
    "canonicalize",
    "fold-constants",
    "eliminate-common-subexpressions",
    "canonicalize",
    "fuse",
    "canonicalize",
    "fold-constants",
    "canonicalize",
    "eliminate-common-subexpressions",
    "eliminate-dead-code",
)

_SPEC = re.compile(r"\s*([\w-]+)\s*(?:\{(.*)\})?\s*", re.DOTALL)


def pass_class(name: str) -> type[Pass]:
    """The class of a pass. Raises PassError for an unknown name, with the nearest known one."""
    if name not in PASSES:
        import difflib

        near = difflib.get_close_matches(name, PASSES, 1, 0.5)
        do = f"did you mean {near[0]}?" if near else ""
        raise PassError("passes", name, f"one of {', '.join(sorted(PASSES))}", do)
    module, _, attribute = PASSES[name].partition(":")
    found: type[Pass] = getattr(import_module(module), attribute)
    return found


def parse_pass(text: str) -> Pass:
    """Read `quantize-weights{bits=4,group=32}`.

    Raises PassError for an unknown pass, and for options that are unknown or ill-typed or do not go
    together.
    """
    import difflib

    from edgec.ir.text import parse_attributes

    match = _SPEC.fullmatch(text)
    if match is None:
        raise PassError("passes", repr(text), "name{option=value,...}")
    cls = pass_class(match[1])
    try:
        parsed: Pass = parse_attributes(cls, match[2] or "", match[1])
    except FormatError as error:
        options = [f.name for f in cls.options()]
        wrong = re.findall(r"unknown (\w+)", error.got)
        near = [n for w in wrong for n in difflib.get_close_matches(w, options, 1, 0.5)]
        do = f"did you mean {', '.join(near)}?" if near else error.do
        raise PassError(match[1], error.got, error.need, do) from error
    return parsed


def parse_pipeline(specs: Sequence[str | Pass]) -> Pipeline:
    """A pipeline of passes, given as text or as objects.

    Raises PassError that lists every text that is wrong.
    """
    from edgec.transform import Pass, Pipeline

    need = 'a list of passes, as ["gptq{bits=4}"]'
    if isinstance(specs, str) or not isinstance(specs, Iterable):
        raise PassError("passes", repr(specs), need)
    passes: list[Pass] = []
    wrong: list[PassError] = []
    for spec in cast("Iterable[object]", specs):
        if not isinstance(spec, str | Pass):
            wrong.append(PassError("passes", repr(spec), need))
            continue
        try:
            passes.append(parse_pass(spec) if isinstance(spec, str) else _checked(spec))
        except PassError as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise PassError("passes", "\n  ".join(map(str, wrong)))
    return Pipeline(tuple(passes))


def _checked(made: Pass) -> Pass:
    """A pass given as an object: its options are held to their types, as those in text are.

    Raises PassError; a pass that is not in the table is taken as it is.
    """
    if made.name in PASSES and type(made) is pass_class(made.name):
        try:
            text = str(made)
        except FormatError as error:
            raise PassError(made.name, error.got, error.need, error.do) from error
        parse_pass(text)
    return made
