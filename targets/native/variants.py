"""The tables of kernels in a model's C source: one for each instruction set of each platform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgec.kernels import InstructionSet, Kernel
from edgec.targets.native.expressions import identifier
from edgec.targets.native.platforms import Platform

#: What a CPU needs beyond what all machines of the triple have, by the names of edgec_cpu_has.
FEATURES = {
    "x86_64_avx512": "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
    "x86_64_avx2": "avx2,fma",
}


def symbol_parts(name: str, isa: InstructionSet) -> tuple[str, str]:
    """What stands before and behind the name of a kernel. With the model's name in it no two models
    of one program share a kernel, which two versions of edgec may build differently."""
    return f"{identifier(name)}_", f"_{isa.name}"


def kernel_tables(
    name: str, kernels: Sequence[Kernel], platforms: Sequence[Platform]
) -> Iterator[str]:
    """The struct of kernels, and by platform its values, `variants` and what depends on them."""
    yield "/* ---- kernels, by platform and instruction set */"
    yield "struct kernels {"
    yield from (f"  {_pointer_type(k)};" for k in kernels)
    yield "  char none;\n};" if not kernels else "};"
    word = "#if"
    for platform in platforms:
        yield f"\n{word} {platform.guard} /* {platform.triple} */"
        yield from _variants(name, kernels, platform.sets)
        word = "#elif"
    known = ", ".join(p.triple for p in platforms)
    yield f'\n#else\n#error "got another platform; this model was compiled for {known}"\n#endif\n'


def _variants(
    name: str, kernels: Sequence[Kernel], sets: Sequence[InstructionSet]
) -> Iterator[str]:
    rows = []
    for isa in sets:
        prefix, suffix = symbol_parts(name, isa)
        yield from (k.prototype(suffix, prefix) for k in kernels)
        names = ", ".join(f"{prefix}{k.name}{suffix}" for k in kernels) or "0"
        yield f"static const struct kernels kernels_{isa.name} = {{{names}}};"
        supported = "0"
        if isa.name in FEATURES:
            supported = f"has_{isa.name}"
            asked = f'edgec_cpu_has("{FEATURES[isa.name]}")'
            yield f"static int {supported}(void) {{ return {asked}; }}"
        rows.append(f'  {{"{isa.name}", {supported}, &kernels_{isa.name}, 0}},')
    scratch = max((k.workspace_bytes(i) for k in kernels for i in sets), default=0)
    yield from ("static const edgec_variant variants[] = {", *rows, "};")
    yield f"#define N_VARIANTS {len(sets)}"
    yield f"#define WORKSPACE_BYTES {scratch}u"


def _pointer_type(kernel: Kernel) -> str:
    types = [p.c.removesuffix(p.name).strip() for p in kernel.parameters()]
    return f"void (*{kernel.name})({', '.join([*types, 'void *', 'int32_t', 'int32_t'])})"
