"""The table of rules against torch's own list of operators."""

from __future__ import annotations

import inspect

import pytest
import torch

import edgec.capture  # noqa: F401 - registers the rules
from edgec.capture.registry import COMPLEX_RULES, RULES, aten, has_rule
from edgec.capture.source import source_line

# Core ATen operators without a rule, and why no inference graph needs one.
WITHOUT_RULE = {
    "gradients": "_adaptive_avg_pool2d_backward avg_pool2d_backward convolution_backward "
    "embedding_dense_backward max_pool2d_with_indices_backward native_group_norm_backward "
    "native_layer_norm_backward",
    "random numbers": "rand randn randperm",
    "values decide a shape": "_local_scalar_dense nonzero",
    "numbers, not tensors": "sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride",
    "writes into an argument": "_native_batch_norm_legit atan2.out resize_",
    "only behind decompositions that are not run": "_fft_c2r _fft_r2c _pdist_forward",
}


def overloads() -> dict[str, torch._ops.OpOverload]:
    # `dir(torch.ops.aten)` has only what somebody has used before.
    schemas = (s.name for s in torch._C._jit_get_all_schemas() if s.name.startswith("aten::"))
    names = sorted({name.removeprefix("aten::") for name in schemas})
    packets = (getattr(torch.ops.aten, n) for n in names if hasattr(torch.ops.aten, n))
    return {
        str(getattr(p, o)): getattr(p, o)
        for p in packets
        if isinstance(p, torch._ops.OpOverloadPacket)
        for o in p.overloads()
    }


def test_every_core_operator_has_a_rule_or_a_reason() -> None:
    excused = {f"aten.{n}" for names in WITHOUT_RULE.values() for n in names.split()}
    missing = {
        name for name, op in overloads().items() if torch.Tag.core in op.tags and not has_rule(name)
    }
    assert {n for n in missing if n not in excused and n.rsplit(".", 1)[0] not in excused} == set()


@pytest.mark.parametrize("table", [RULES, COMPLEX_RULES], ids=["real", "complex"])
def test_every_rule_takes_the_arguments_of_its_overload(table: dict[str, object]) -> None:
    known = overloads()
    problems = []
    for name, rule in table.items():
        if not name.startswith("aten."):
            continue
        if name not in known:
            problems.append(f"{name}: torch has no such overload")
            continue
        arguments = known[name]._schema.arguments
        try:
            inspect.signature(rule).bind(None, *arguments)  # type: ignore[arg-type]
        except TypeError as error:
            problems.append(f"{name}({', '.join(a.name for a in arguments)}): {error}")
    assert problems == []


def test_two_rules_for_one_overload_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two rules for aten\.relu\.default"):
        aten("relu")(lambda c, x: x)


# ------------------------------------------------------------------ source lines
TORCH = torch.__file__.replace("__init__.py", "nn/functional.py")


@pytest.mark.parametrize(
    ("frames", "line"),
    [
        ([("/own/model.py", 12), ("/own/layers.py", 7)], "layers.py:7"),
        ([("/own/model.py", 12), (TORCH, 7)], "model.py:12"),
        ([("/own/edgec/model.py", 3), (TORCH, 7)], "model.py:3"),
        ([("/own/torch/model.py", 3)], "model.py:3"),
        ([(TORCH, 7)], "functional.py:7"),
        ([("/own/model.py", 4), ("<eval_with_key>.3", 5)], "model.py:4"),
        ([], ""),
    ],
)
def test_a_node_names_the_users_innermost_line(frames: list[tuple[str, int]], line: str) -> None:
    trace = "\n".join(f'  File "{path}", line {n}, in forward\n    y = f(x)' for path, n in frames)
    assert source_line(trace) == line


def test_lines_of_transformers_count_where_no_other_is_there() -> None:
    import transformers

    inside = transformers.__file__.replace("__init__.py", "models/bert/modeling_bert.py")
    own = f'  File "{inside}", line 5, in forward\n'
    assert source_line(own) == "modeling_bert.py:5"
    assert source_line('  File "/own/wrap.py", line 2, in forward\n' + own) == "wrap.py:2"
