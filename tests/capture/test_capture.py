"""The entry `edgec.capture`: names, nesting, weights, imports, and every way to be refused."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.utils import _pytree as pytree

import edgec
from edgec.capture import Function, capture_functions
from edgec.errors import CaptureError
from edgec.ir.graph import State

B, T = Dim("batch", max=16), Dim("seq", max=40)


class Wrapped(nn.Module):
    """Any function as a module."""

    def __init__(self, function, *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, *inputs):
        return self.function(*inputs)


# ------------------------------------------------------------------ the name edgec.capture
FORMS = [
    "import edgec; run = edgec.capture",
    "import edgec.capture; run = edgec.capture",
    "from edgec import capture as run",
    "from edgec.capture import capture as run",
    "import edgec.capture.transformers; run = edgec.capture",
]


@pytest.mark.slow
@pytest.mark.parametrize("order", itertools.permutations(range(len(FORMS)), 2), ids=str)
def test_capture_can_be_called_after_any_order_of_imports(order: tuple[int, ...]) -> None:
    lines = [line for i in order for line in (FORMS[i], "assert callable(run)")]
    lines += ["import torch, edgec", "program = edgec.capture(torch.nn.ReLU(), (torch.ones(2),))"]
    lines += ["assert run(torch.nn.ReLU(), (torch.ones(2),)).text() == program.text()"]
    lines += ["assert edgec.capture.Function and edgec.capture.capture_functions"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=300)


def test_the_package_and_the_function_are_one() -> None:
    from edgec.capture import capture

    assert vars(edgec)["capture"] is sys.modules["edgec.capture"]
    program = edgec.capture(nn.ReLU(), (torch.ones(2),))
    assert capture(nn.ReLU(), (torch.ones(2),)).text() == program.text()


# ------------------------------------------------------------------ names and nesting
def test_nested_inputs_and_outputs() -> None:
    class Nested(nn.Module):
        def forward(self, pair, options):
            a, (b,) = pair
            return {"sum": a + b, "list": [a * options["scale"], None], "size": a.shape[0]}

    inputs = ((torch.ones(3, 2), (torch.ones(3, 2),)), {"scale": torch.tensor(2.0)})
    shapes = (({0: B}, ({0: B},)), {"scale": None})
    program = edgec.capture(Nested(), inputs, shapes)
    result = program.run((torch.ones(5, 2), (torch.ones(5, 2),)), {"scale": torch.tensor(3.0)})
    assert result["list"][1] is None and result["size"].item() == 5
    assert torch.equal(result["list"][0], torch.full((5, 2), 3.0))
    assert program.main.output_names == ("sum", "list_0", "size")
    assert program.main.dims.keys() == {"batch"}


def test_inputs_and_outputs_have_readable_names() -> None:
    class Step(nn.Module):
        def forward(self, input_ids, *past):
            return (input_ids.float(), *(p + 1 for p in past))

    program = edgec.capture(Step(), (torch.ones(1, dtype=torch.long), torch.ones(2), torch.ones(3)))
    assert [v.name for v in program.main.inputs] == ["input_ids", "past_0", "past_1"]
    assert program.main.output_names == ("output0", "output1", "output2")


def test_unused_inputs_stay_and_dead_code_goes() -> None:
    def forward(x, y, z):
        _ = (y * 2).sum()
        return x + 1

    program = edgec.capture(Wrapped(forward), (torch.ones(2), torch.ones(3), torch.ones(4)))
    assert len(program.main.inputs) == 3 and [n.op.name for n in program.main.nodes] == ["add"]


def test_inputs_that_are_none_have_no_tensor() -> None:
    module = Wrapped(lambda x, mask: x if mask is None else x * mask)
    program = edgec.capture(module, (torch.ones(2), None))
    assert len(program.main.inputs) == 1
    assert torch.equal(program.run(torch.full((2,), 3.0), None), torch.full((2,), 3.0))


def test_an_output_may_be_an_input_or_a_constant() -> None:
    table = torch.arange(3.0)
    program = edgec.capture(Wrapped(lambda x: (x, table + 0, x)), (torch.ones(2),))
    got = program.run(torch.zeros(2))
    assert torch.equal(got[1], table) and torch.equal(got[2], torch.zeros(2))


def test_library_containers_become_dicts() -> None:
    from transformers.modeling_outputs import BaseModelOutput

    module = Wrapped(lambda x: BaseModelOutput(last_hidden_state=x * 2))
    program = edgec.capture(module, (torch.ones(2),))
    result = program.run(torch.ones(2))
    assert type(result) is dict and torch.equal(result["last_hidden_state"], torch.full((2,), 2.0))


# ------------------------------------------------------------------ dimensions
def test_dimensions_keep_names_ranges_and_expressions() -> None:
    past = Dim("past", max=20)
    shapes = ({0: B, 1: past}, {0: B, 1: past + 1})
    program = edgec.capture(
        Wrapped(lambda x, m: torch.cat([x, x[:, :1]], 1) * m),
        (torch.ones(3, 7), torch.ones(3, 8)),
        (shapes,),
    )
    assert program.main.signature() == (
        "main(inputs_0: f32[batch, past], inputs_1: f32[batch, past + 1])"
        " -> (output: f32[batch, past + 1])"
    )
    assert program.main.dims["past"].max == 20 and program.main.dims["batch"].max == 16


def test_unnamed_dimensions_are_named_after_input_and_axis() -> None:
    shapes = (({0: Dim.DYNAMIC, 1: Dim.AUTO},),)
    program = edgec.capture(Wrapped(lambda x: x * 2), (torch.ones(3, 7),), shapes)
    assert str(program.main.inputs[0].type) == "f32[inputs_0_0, inputs_0_1]"
    assert program.run(torch.ones(9, 4)).shape == (9, 4)


def test_rounded_sizes() -> None:
    def forward(x):
        n = x.shape[1]
        return (
            x[:, : n // 2],
            x.new_zeros(-(-n // 4)),
            x.new_zeros(math.floor(n * 1.5)),
            x.new_zeros(n % 3 + 1),
        )

    program = edgec.capture(
        Wrapped(forward), (torch.ones(2, 8),), (({1: Dim("n", min=5, max=99)},),)
    )
    for n in (5, 7, 11, 98):
        want = forward(torch.ones(2, n))
        assert [g.shape for g in program.run(torch.ones(2, n))] == [w.shape for w in want]


def test_sizes_may_pass_through_tensors() -> None:
    """As in DeBERTa: the span is a tensor, and slices a table of relative positions."""
    table = torch.randn(16, 4)

    def forward(x):
        span = torch.min(torch.tensor(x.shape[1]), torch.tensor(8))
        rows = table[8 - span : 8 + span]
        return x @ rows.T, torch.clamp(x, max=(span * 2 - 1).item())

    program = edgec.capture(Wrapped(forward), (torch.randn(2, 5, 4),), (({0: B, 1: T},),))
    for size in (3, 7, 8):
        x = torch.randn(3, size, 4)
        for got, want in zip(program.run(x), forward(x), strict=True):
            torch.testing.assert_close(got, want)


def test_dynamic_shapes_may_name_the_arguments() -> None:
    class Two(nn.Module):
        def forward(self, x, y):
            return x @ y

    shapes = {"x": {0: B}, "y": None}
    program = edgec.capture(Two(), (torch.ones(3, 4), torch.ones(4, 2)), shapes)
    assert program.run(torch.ones(5, 4), torch.ones(4, 2)).shape == (5, 2)


# ------------------------------------------------------------------ weights
def test_weights_are_stored_once_by_storage_and_by_content() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight
            self.register_buffer("copy", self.embed.weight.detach().clone())

        def forward(self, ids):
            x = self.embed(ids)
            return self.head(x), x @ self.copy.T

    program = edgec.capture(Tied(), (torch.tensor([[1, 2]]),))
    assert len(program.constants) == 1
    (name,) = program.constants
    assert name in ("embed.weight", "head.weight", "copy")


def test_strided_weights_are_made_contiguous() -> None:
    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.arange(12.0).reshape(3, 4).T)

        def forward(self, x):
            return x + self.table

    program = edgec.capture(Strided(), (torch.zeros(4, 3),))
    (constant,) = program.constants.values()
    assert constant.encoding.decode().is_contiguous()
    assert torch.equal(program.run(torch.zeros(4, 3)), torch.arange(12.0).reshape(3, 4).T)


def test_functions_share_their_weights_and_declare_states() -> None:
    layer = nn.Linear(4, 4)
    double = Wrapped(lambda x: layer(x) * 2, layer)
    program = capture_functions(
        {
            "prefill": Function(layer, (torch.ones(2, 4),)),
            "step": Function(
                double,
                (torch.ones(2, 4),),
                input_names=("past",),
                output_names=("present",),
                states=(State("past", "present"),),
            ),
        },
        {"task": "none"},
    )
    assert list(program.graphs) == ["prefill", "step"]
    assert list(program.constants) == ["weight", "bias", "scalar"]
    assert program.metadata == {"task": "none"}
    assert program.graphs["step"].states == (State("past", "present"),)
    want = layer(torch.ones(2, 4)).detach() * 2
    assert torch.equal(program.run(torch.ones(2, 4), function="step"), want)


def test_the_module_keeps_its_mode_and_gradients() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    module[0].bias.requires_grad_(False)
    edgec.capture(module, (torch.ones(2, 3),))
    assert module.training and module[1].training
    assert module[0].weight.requires_grad and not module[0].bias.requires_grad


def test_regions_of_other_modes_are_part_of_the_graph() -> None:
    def forward(x):
        with torch.no_grad():
            y = x * 2
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = y @ y.T
        return torch.utils.checkpoint.checkpoint(lambda t: t + 1, z, use_reentrant=False)

    x = torch.randn(3, 4)
    program = edgec.capture(Wrapped(forward), (x,))
    assert torch.equal(program.run(x), forward(x))
    assert {n.op.name for n in program.main.nodes} == {"mul", "permute", "cast", "matmul", "add"}
    assert all(n.source.startswith("test_capture.py:") for n in program.main.nodes)


# ------------------------------------------------------------------ refusals
def refused(module: nn.Module, inputs: object, shapes: object = None) -> str:
    """The message of the CaptureError; it is short and has no traceback."""
    with pytest.raises(CaptureError) as caught:
        edgec.capture(module, inputs, shapes)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "Traceback" not in text and len(text) < 900
    return text


def test_all_unsupported_operators_are_listed_with_lines() -> None:
    def forward(x):
        x = torch.special.bessel_j0(x)
        x = torch.special.bessel_j0(x) + torch.special.airy_ai(x)
        return torch.lstm_cell is not None and x

    text = refused(Wrapped(forward), (torch.ones(3),))
    assert "aten.special_bessel_j0.default x2 (test_capture.py:" in text
    assert "aten.special_airy_ai.default (test_capture.py:" in text
    assert "2 operators without a rule" in text


def test_unsupported_forms_are_listed_beside_unknown_operators() -> None:
    def forward(x):
        a = torch.special.bessel_j0(x)
        return a, torch.nn.functional.grid_sample(
            x[None, None, None], torch.zeros(1, 1, 1, 1, 3), align_corners=False
        )

    text = refused(Wrapped(forward), (torch.ones(3, 3),))
    assert "bessel_j0" in text and "grid_sample of rank 5" in text


def test_control_flow_on_values() -> None:
    text = refused(Wrapped(lambda x: x if x.sum() > 0 else -x), (torch.ones(3),))
    assert "test_capture.py:" in text and "torch.where" in text


def test_sizes_that_depend_on_values() -> None:
    text = refused(Wrapped(lambda x: x[x > 0]), (torch.ones(3),))
    assert "size" in text or "boolean" in text


def test_inputs_that_do_not_match_forward() -> None:
    text = refused(nn.Linear(3, 2), (torch.ones(2, 3), torch.ones(2)))
    assert "got 2 inputs" in text and "forward(input" in text
    assert "tuple" in refused(nn.Linear(3, 2), torch.ones(2, 3))


def test_inputs_that_forward_cannot_compute() -> None:
    text = refused(nn.Linear(3, 2), (torch.ones(2, 5),))
    assert "module(*inputs)" in text


def test_numbers_among_the_inputs() -> None:
    text = refused(Wrapped(lambda x, n: x * n), (torch.ones(2), 3))
    assert "input 1 = 3" in text and "tensors" in text


def test_dimensions_that_contradict_the_model() -> None:
    text = refused(Wrapped(lambda x: x.reshape(3, 2, 2)), (torch.ones(3, 4),), (({0: B},),))
    assert "batch" in text and "dynamic_shapes" in text


def test_dimensions_that_contradict_the_inputs() -> None:
    def forward(x, y):
        return x.sum(0) + y.sum(0)

    text = refused(Wrapped(forward), (torch.ones(3, 4), torch.ones(2, 4)), (({0: B}, {0: B}),))
    assert "size" in text


def test_dynamic_shapes_of_another_structure() -> None:
    text = refused(Wrapped(lambda x: x * 2), (torch.ones(3, 4),), ({0: B}, {0: B}))
    assert "dynamic_shapes" in text


def test_buffers_that_forward_writes() -> None:
    class Counter(nn.Module):
        calls: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    assert "calls" in refused(Counter(), (torch.ones(2),))


def test_inputs_that_forward_writes() -> None:
    def forward(x):
        x.add_(1)
        return x * 2

    assert "the input inputs_0" in refused(Wrapped(forward), (torch.ones(2),))


def test_branches_that_are_captured_whole() -> None:
    def forward(x):
        return torch.cond(x.sum() > 0, lambda v: v * 2, lambda v: v + 1, (x,))

    assert "cond" in refused(Wrapped(forward), (torch.ones(2),))


def test_random_numbers_are_refused() -> None:
    assert "rand" in refused(Wrapped(lambda x: x + torch.rand_like(x)), (torch.ones(2),))


def test_names_must_be_as_many_as_tensors() -> None:
    function = Function(nn.ReLU(), (torch.ones(2),), input_names=("a", "b"))
    with pytest.raises(CaptureError, match="2 input names for 1 tensors"):
        capture_functions({"main": function})


def test_the_trees_are_read_without_the_library() -> None:
    program = edgec.capture(Wrapped(lambda x: (x, None)), (torch.ones(2),))
    spec = pytree.treespec_loads(program.main.output_tree)
    assert spec.num_leaves == 1 and program.run(torch.ones(2))[1] is None
