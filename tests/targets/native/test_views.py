"""Strided views against what torch makes of the same tensor, and C expressions against values."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import DType, TensorType, dims
from edgec.ir.dims import Dim
from edgec.targets.native.expressions import PREAMBLE, c_expression, variable
from edgec.targets.native.toolchain import host_triple, toolchain
from edgec.targets.native.views import Storage, View


def whole(*shape: int) -> tuple[View, torch.Tensor]:
    x = torch.arange(int(torch.tensor(shape).prod()))
    return View.whole(Storage("arena", "x", x.numel()), TensorType(DType.I64, shape)), x.view(shape)


def read(view: View, data: torch.Tensor) -> torch.Tensor:
    sizes, strides = ([int(n) for n in t] for t in (view.shape, view.strides))
    if any(s < 0 for s in strides):
        index = torch.tensor(int(view.offset))
        for a, (n, s) in enumerate(zip(sizes, strides, strict=True)):
            index = index + (torch.arange(n) * s).view(
                [-1 if b == a else 1 for b in range(len(sizes))]
            )
        return data.flatten()[index.expand(sizes)]
    return data.as_strided(sizes, strides, int(view.offset))


@settings(deadline=None, max_examples=200)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    data=st.data(),
)
def test_chains_of_movement(shape: list[int], data: st.DataObject) -> None:
    """Permute, slice, flip, expand and reshape, one after the other; a reshape may be refused."""
    view, x = whole(*shape)
    base = x
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["permute", "part", "flip", "expand", "reshape"]))
        rank = x.dim()
        if kind == "permute":
            order = data.draw(st.permutations(range(rank)))
            view, x = view.permuted(order), x.permute(order)
        elif kind == "part":
            axis = data.draw(st.integers(0, rank - 1))
            start = data.draw(st.integers(0, x.shape[axis] - 1))
            stop = data.draw(st.integers(start + 1, x.shape[axis]))
            step = data.draw(st.integers(1, 3))
            length = -(-(stop - start) // step)
            view = view.part(axis, start, length, step)
            x = x[(*(slice(None),) * axis, slice(start, stop, step))]
        elif kind == "flip":
            axis = data.draw(st.integers(0, rank - 1))
            view, x = view.flipped(axis), x.flip(axis)
        elif kind == "expand":
            sizes = (2, *x.shape)
            view, x = view.expanded(sizes), x.expand(sizes)
        else:
            sizes = data.draw(
                st.sampled_from(
                    [
                        (x.numel(),),
                        (1, *x.shape),
                        (x.numel(), 1),
                        (x.shape[0], x.numel() // x.shape[0]),
                    ]
                )
            )
            made = view.reshaped(sizes)
            if made is None:
                assert not view.is_dense
                break
            view, x = made, x.reshape(sizes)
        assert torch.equal(read(view, base), x)
        assert not view.is_dense or view.reshaped((x.numel(),)) is not None


def test_named_dims_reshape_by_views() -> None:
    """[batch, seq, 8 * 32] seen as heads and back, without a copy."""
    batch, seq = dims.symbol("batch"), dims.symbol("seq")
    view = View.whole(Storage("arena", "x", 0), TensorType(DType.F32, (batch, seq, 256)))
    heads = view.reshaped((batch, seq, 8, 32))
    assert heads is not None
    back = heads.permuted((0, 2, 1, 3)).permuted((0, 2, 1, 3)).reshaped((batch, seq, 256))
    assert back == view
    assert heads.permuted((0, 2, 1, 3)).reshaped((batch, 8, 32 * seq)) is None


EXPRESSIONS: list[Dim] = [
    7,
    dims.symbol("n"),
    dims.symbol("n") - 3,
    dims.normal(2 * dims.symbol("n") * dims.symbol("m") - dims.symbol("m") ** 2),
    dims.floordiv(dims.symbol("n") - 127, 384),
    dims.floordiv(dims.symbol("n") + 63, 64) * dims.symbol("m"),
    dims.normal(dims.symbol("n") % 5),
]


def test_c_expressions_have_the_values_of_dims(tmp_path: Path) -> None:
    """Compiled and run: floor divisions of negative numbers too."""
    env = {"n": 20, "m": 7}
    lines = [f'  printf("%lld\\n", (long long)({c_expression(e)}));' for e in EXPRESSIONS]
    names = [f"  int64_t {variable(n)} = {v};" for n, v in env.items()]
    body = "\n".join([*names, *lines])
    source = tmp_path / "main.c"
    source.write_text(
        f"#include <stdint.h>\n#include <stdio.h>\n{PREAMBLE}\nint main(void) {{\n{body}\n"
        "  (void)floor_mod; (void)least; (void)most;\n  return 0;\n}\n"
    )
    program = tmp_path / "main"
    toolchain(host_triple()).run("-std=c11", str(source), "-o", str(program))
    made = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    assert list(map(int, made.split())) == [dims.evaluate(e, env) for e in EXPRESSIONS]
