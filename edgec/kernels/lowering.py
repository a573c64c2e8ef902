"""TVM's lowering of kernels to the raw C ABI: nothing of the TVM runtime is referenced.

TVM's default pipeline without MakePackedAPI (the C signature is the parameter list),
StorageRewrite, CompactBufferAllocation (half of a build's time; kernels ask for what they need) and
the passes for GPUs. A scratch buffer that is too large for the stack, or T.parallel, stops the
build: kernels get room in their workspace, and callers split the range of items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.tirx import compilation_pipeline

PIPELINE = "edgec_raw"

#: Scratch of constant size up to here stays in the stack frame.
_STACK_BYTES = 16384


def _promote_small_allocations() -> Any:
    """PrimFunc pass: constant-size allocations become stack slots, which LLVM can promote.

    It covers buffers that a Schedule made, which cannot be annotated as `Body.registers` does.
    """

    def promote(alloc: Any) -> Any:
        buffer, items = alloc.buffer, 1
        for extent in buffer.shape:
            if not isinstance(extent, tirx.IntImm):
                return alloc
            items *= int(extent)
        if items * 8 > _STACK_BYTES:
            return alloc
        return tirx.AllocBuffer(buffer, {"disable_lower_builtin": tirx.IntImm("bool", 1)})

    return _statement_pass("edgec.PromoteSmallAllocations", tirx.AllocBuffer, promote)


_HELD = "edgec_held"


def _hold_bindings() -> Any:
    """PrimFunc pass: the values of float bindings become calls, which simplification keeps.

    StmtSimplify puts the value of a binding in place of its name wherever it has no side effect.
    Functions that name what they use ten times grew tenfold with each function of a chain; the
    clamp of exp alone doubled its work and took LLVM seconds.
    """

    def hold(bind: Any) -> Any:
        kind = str(bind.value.ty.dtype)
        if not kind.startswith("float"):
            return bind
        held = tirx.call_extern(kind, _HELD, bind.value)
        return tirx.Bind(bind.var, held)

    return _statement_pass("edgec.HoldBindings", tirx.Bind, hold)


def _release_bindings() -> Any:
    """PrimFunc pass: undoes `_hold_bindings`."""

    def release(bind: Any) -> Any:
        value = bind.value
        held = isinstance(value, tvm.ir.Call) and getattr(value.args[0], "value", None) == _HELD
        return tirx.Bind(bind.var, value.args[1]) if held else bind

    return _statement_pass("edgec.ReleaseBindings", tirx.Bind, release)


def _statement_pass(name: str, kind: Any, change: Callable[[Any], Any]) -> Any:
    """A PrimFunc pass that changes statements of one kind, inner ones first."""

    @tirx.transform.prim_func_pass(opt_level=0, name=name)
    def run(func: Any, _module: Any, _context: Any) -> Any:
        return func.with_body(tvm_ffi.structural_map(func.body, (kind, change), order="post"))

    return run


def _simplify(simplify: Any) -> list[Any]:
    return [_hold_bindings(), simplify, _release_bindings()]


def _pipeline() -> Any:
    lowering = tvm.ir.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.LowerMatchBuffer(),
            *_simplify(s_tir.transform.StmtSimplify()),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            *_simplify(tirx.transform.StmtSimplify()),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            tirx.transform.CommonSubexprElim(),
            tirx.transform.VerifyMemory(),
        ]
    )

    @tvm.transform.module_pass(opt_level=0)
    def run(module: Any, _context: Any) -> Any:
        return _promote_small_allocations()(lowering(module))

    return (
        run,
        compilation_pipeline.finalize_host_passes,
        compilation_pipeline.finalize_device_passes,
    )


compilation_pipeline.register_tir_pipeline(PIPELINE, _pipeline)
