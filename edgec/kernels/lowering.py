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
    """PrimFunc pass: the values of float bindings become calls, which TVM's analyses leave alone.

    StmtSimplify puts the value of a binding in place of its name wherever it has no side effect,
    and every pass that keeps an Analyzer looks through the names again and again: with functions
    that use a name ten times, time and code grew tenfold with each function of a chain.
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
        return tirx.Bind(bind.var, bind.value.args[1]) if _held(bind) else bind

    return _statement_pass("edgec.ReleaseBindings", tirx.Bind, release)


def _store_bindings() -> Any:
    """PrimFunc pass: the values of held bindings become stack slots, which LLVM promotes.

    The code generator looks through names as well, for every binding.
    """

    @tirx.transform.prim_func_pass(opt_level=0, name="edgec.StoreBindings")  # type: ignore[untyped-decorator]
    def run(func: Any, _module: Any, _context: Any) -> Any:
        slots: dict[Any, Any] = {}

        def declare(bind: Any) -> Any:
            if _held(bind):
                slots[bind.var] = tirx.decl_buffer((1,), str(bind.value.ty.dtype), "held")
            return bind

        def load(var: Any, region: Any) -> Any:
            defines = region != tvm_ffi.structural.DefRegionKind.NONE
            return var if defines or var not in slots else slots[var][0]

        def store(bind: Any) -> Any:
            if not _held(bind):
                return bind
            slot = slots[bind.var]
            kept = tirx.BufferStore(slot, bind.value.args[1], [0])
            return tirx.SeqStmt([tirx.AllocBuffer(slot), kept])

        body = tvm_ffi.structural_map(func.body, (tirx.Bind, declare))
        body = tvm_ffi.structural_map(body, (tirx.Bind, store), (tirx.Var, load))
        return func.with_body(body)

    return run


def _held(bind: Any) -> bool:
    value = bind.value
    if not isinstance(value, tvm.ir.Call) or len(value.args) != 2:
        return False
    return getattr(value.args[0], "value", None) == _HELD


def _statement_pass(name: str, kind: Any, change: Callable[[Any], Any]) -> Any:
    """A PrimFunc pass that changes statements of one kind, inner ones first."""

    @tirx.transform.prim_func_pass(opt_level=0, name=name)  # type: ignore[untyped-decorator]
    def run(func: Any, _module: Any, _context: Any) -> Any:
        return func.with_body(tvm_ffi.structural_map(func.body, (kind, change), order="post"))

    return run


def _pipeline() -> Any:
    lowering = tvm.ir.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.LowerMatchBuffer(),
            _hold_bindings(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            _release_bindings(),
            tirx.transform.VectorizeLoop(True),
            _hold_bindings(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            tirx.transform.CommonSubexprElim(),
            tirx.transform.VerifyMemory(),
        ]
    )

    @tvm.transform.module_pass(opt_level=0)  # type: ignore[untyped-decorator]
    def run(module: Any, _context: Any) -> Any:
        return _promote_small_allocations()(lowering(module))

    return run, _finalize, compilation_pipeline.finalize_device_passes


def _finalize() -> Any:
    """TVM's last passes for the host, and the values of bindings on the stack."""
    passes = [compilation_pipeline.finalize_host_passes(), _store_bindings()]
    return tvm.ir.transform.Sequential(passes)


compilation_pipeline.register_tir_pipeline(PIPELINE, _pipeline)
