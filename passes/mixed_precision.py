"""mixed-precision: each weight stored by the pass of a menu that suits it, within a byte limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from edgec.context import NOTHING, Context
from edgec.errors import EdgecError, PassError
from edgec.ir import Constant, Exactness, Program
from edgec.measure import parse_bytes
from edgec.passes import parse_pass
from edgec.passes.numerics.allocation import Choice, allocate
from edgec.passes.sensitivity import Candidates, Loss, Losses, measured, predicted, some_calls
from edgec.passes.weight_pass import WeightPass, relative_error
from edgec.passes.weights import Selection, find_weights
from edgec.transform import Pass, PassResult

AS_IS = "as it is"


@dataclass(frozen=True)
class MixedPrecision(Pass):
    """Choose for every weight how it is stored, so that the outputs change least.

    Given    @a = const f32[N, K] dense                  @b = const f32[M, N] dense
    Result   @a = const f32[N, K] affine(bits=3, ..)     @b = const f32[M, N] affine(bits=6, ..)

    Every pass of the menu runs on the whole program by itself. Of each weight one of the forms that
    came out is taken, or the one that it has: the least sum of losses within the limit, exactly.

    menu         passes that only change how weights are stored: "gptq{bits=4,group=64}", ...
    ratio        limit: bytes of all constants afterwards, as a part of those before all passes
    size         the limit as a number of bytes instead, "12.4MB"; "" for the ratio
    sensitivity  where losses come from: "predicted" by second-order terms, one gradient for each of
                 `calls` calls; "measured" with one weight changed at a time
    loss         of outputs: "mse" or "kl", see `edgec.passes.sensitivity`
    calls        of each function, at most, that losses are summed over
    draws        random combinations of outputs for each call, for "predicted"
    seed         of these
    include, skip   patterns of names of constants

    Keeps    every node, type and name. Reported: how many weights and bytes each form has,
             and the weights that no output depends on, which get the smallest form.
    Effect   LOSSY
    Source   Predicted: Dong et al. 2019, arXiv:1911.03852 (second-order terms; they take traces of
             the Hessian); allocation as an integer program: Yao et al. 2021, arXiv:2011.10680.
    Differs  The Gauss-Newton or Fisher term of the true change of each tensor, not an average
             curvature times a squared error. Losses are taken to be additive.
    """

    name: ClassVar[str] = "mixed-precision"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    menu: tuple[str, ...] = tuple(f"gptq{{bits={b},group=64,misfits=rows}}" for b in (3, 4, 6, 8))
    ratio: float = 0.15
    size: str = ""
    sensitivity: Literal["predicted", "measured"] = "predicted"
    loss: Loss = "mse"
    calls: int = 32
    draws: int = 2
    seed: int = 0
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = []
        if not self.menu:
            wrong.append("menu=[], need passes")
        if not 0 < self.ratio < 1:
            wrong.append(f"ratio={self.ratio}, need 0 < ratio < 1")
        if self.size and self.ratio != MixedPrecision.ratio:
            wrong.append(f"ratio={self.ratio} and size={self.size}, need one of them")
        wrong += [
            f"{n}={getattr(self, n)}, need {n} >= 1"
            for n in ("calls", "draws")
            if getattr(self, n) < 1
        ]
        for text in self.menu:
            if not isinstance(parse_pass(text), WeightPass):
                wrong.append(f"{text}, need passes that treat weights one by one")
        try:
            parse_bytes(self.size or 1, "size")
        except EdgecError:
            wrong.append(f"size={self.size!r}, need a size such as 6MB")
        if wrong:
            raise PassError(self.name, "; ".join(wrong))

    def limit_bytes(self, original: Program) -> int:
        if self.size:
            return parse_bytes(self.size, f"{self.name}: size")
        return int(self.ratio * original.nbytes)

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        used = context.calls(self.name)
        limit = self.limit_bytes(context.original or program)
        forms, notes = self._forms(program, context)
        if not forms:
            return PassResult(program, False, (*notes, "nothing to do: no weight has another form"))
        calls = some_calls(used, self.calls)
        candidates: Candidates = {
            name: {label: made.encoding.decode for label, made in labels.items()}
            for name, labels in forms.items()
        }
        if self.sensitivity == "measured":
            losses = measured(program, candidates, calls, self.loss, context.steps)
        else:
            losses = predicted(
                program, candidates, calls, self.loss, self.draws, self.seed, context.steps
            )
        if silent := [f"@{n}" for n, labels in losses.items() if not any(labels.values())]:
            what = "changes an output on the data: taken as losing nothing"
            notes.append(f"no form of {', '.join(silent)} {what}")
        chosen = self._choose(program, forms, losses, limit)
        return _stored(program, forms, chosen, limit, notes)

    def _forms(
        self, program: Program, context: Context
    ) -> tuple[dict[str, dict[str, Constant]], list[str]]:
        """The forms that the menu gives each selected weight, by its text; and what it says."""
        selected = Selection(self.include, self.skip)
        weights = [n for n in find_weights(program) if n in selected]
        forms: dict[str, dict[str, Constant]] = {}
        reasons: dict[str, str] = {}
        notes = selected.idle_notes(program.constants)
        for text in self.menu:
            step = parse_pass(text)
            step.requires(program)
            result = step.apply(program, context)
            _check_graphs(step, program, result.program)
            for name in weights:
                made = result.program.constants[name]
                if made is not program.constants[name]:
                    forms.setdefault(name, {})[text] = made
            notes += [f"{text}: {note}" for note in result.notes if not note.startswith("@")]
            reasons |= {n[1:].partition(": ")[0]: n for n in result.notes if n.startswith("@")}
        left = (n for n in weights if n not in forms)
        notes += [reasons.get(n, f"@{n}: changed by no pass of the menu") for n in left]
        return forms, notes

    def _choose(
        self,
        program: Program,
        forms: Mapping[str, Mapping[str, Constant]],
        losses: Losses,
        limit: int,
    ) -> dict[str, Choice]:
        menu = {}
        for name, labels in forms.items():
            before = Choice(AS_IS, program.constants[name].encoding.nbytes, 0.0)
            made = [Choice(t, c.encoding.nbytes, losses[name][t]) for t, c in labels.items()]
            menu[name] = [before, *made]
        rest = program.nbytes - sum(choices[0].nbytes for choices in menu.values())
        try:
            return allocate(menu, limit - rest)
        except PassError as error:
            least = rest + sum(min(c.nbytes for c in choices) for choices in menu.values())
            got = f"a limit of {limit} bytes for all constants"
            need = f"at least {least}, what the menu can reach"
            raise PassError(self.name, got, need, "widen the menu or the limit") from error


def _check_graphs(step: Pass, before: Program, after: Program) -> None:
    """A form can be taken alone only where the pass has changed nothing but constants."""
    same = before.constants.keys() == after.constants.keys() and all(
        a.structure() == b.structure()
        for a, b in zip(before.graphs.values(), after.graphs.values(), strict=True)
    )
    if not same:
        need = "passes that only change how weights are stored"
        raise PassError(MixedPrecision.name, f"{step}, which changes the graph", need)


def _stored(
    program: Program,
    forms: Mapping[str, Mapping[str, Constant]],
    chosen: Mapping[str, Choice],
    limit: int,
    notes: list[str],
) -> PassResult:
    """The program with the chosen forms, and what was chosen."""
    after, errors = program.copy(), {}
    sums: dict[str, list[int]] = {}
    for name, choice in chosen.items():
        count = sums.setdefault(choice.label, [0, 0])
        count[0], count[1] = count[0] + 1, count[1] + choice.nbytes
        if choice.label == AS_IS:
            continue
        made = forms[name][choice.label]
        before = program.constants[name].encoding
        after.constants[name] = made
        errors[name] = relative_error(before.decode(), made.encoding.decode())
    notes += [f"{label}: {n} weights, {nbytes:,} bytes" for label, (n, nbytes) in sums.items()]
    total = sum(choice.loss for choice in chosen.values())
    notes.append(f"{after.nbytes:,} of {limit:,} bytes; sum of losses {total:.3g}")
    if not errors:
        notes.append("nothing to do: everything fits as it is")
    return PassResult(after, bool(errors), tuple(notes), errors)
