"""reconstruct-blocks: codes, scales, biases and gains fitted block by block to the original."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.errors import PassError
from edgec.ir import Dense, Exactness, Program
from edgec.passes.blocks import Block, Kind, Passage, Values, run, side_by_side
from edgec.passes.numerics.adaround import annealed
from edgec.passes.numerics.losses import mse
from edgec.passes.trainable.form import Start
from edgec.passes.trainable.program import TrainableProgram, learned
from edgec.passes.training import Settings, Training, chosen, split
from edgec.passes.weight_pass import relative_error
from edgec.passes.weights import Selection
from edgec.transform import Pass, PassResult


@dataclass(frozen=True)
class ReconstructBlocks(Pass):
    """Make each block give what it gave in the original, with the inputs that it gets now.

    Given    @w = const f32[N, K] affine(bits=4, group=32)    %y = add(%x, linear(.. %x .., @w, @b))
    Result   the same program with other codes, scales and biases of the same encodings and bytes

    Blocks end at residual sums, or at each layer, and are fitted in the order of execution, each to
    the original's values with what comes out of the blocks that were fitted before. Blocks in which
    nothing is compressed are left, and so are constants with uses in several blocks or functions:
    tied embeddings, for example.

    rounding    "straight": latent weights by straight-through rounding, with scales, tables and
                what is dense: biases, gains. "adaround": each code to one of the two integers next
                to the original weight, by a variable that a penalty drives to an end.
    blocks      "residual" or "layer"; a graph without residual sums is cut into layers
    steps, batch   steps for each block, calls of a step
    lr, warmup  see `edgec.passes.training.Settings`
    penalty     weight of the penalty in "adaround", beside a loss that is relative to the block's
                outputs, for each code
    seed        of the order of the calls, and of those held out, a tenth
    include, skip   patterns of names of constants

    Keeps    every node, type and name, every encoding and its bytes. A block stays as it is where
             the calls held out gain nothing. Functions whose nodes are not the original's are left.
    Effect   LOSSY
    Source   "adaround": Nagel et al. 2020, arXiv:2004.10568, equations 21 to 25. Blocks: Li et al.
             2021, arXiv:2102.05426 (BRECQ). "straight": Esser et al. 2020, arXiv:1902.08153.
    Differs  The loss is the plain relative mean square: BRECQ weights it by gradients of the task.
             It starts at the codes given and not at the nearest ones.
    """

    name: ClassVar[str] = "reconstruct-blocks"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    rounding: Literal["straight", "adaround"] = "straight"
    blocks: Kind = "residual"
    steps: int = 200
    batch: int = 4
    lr: float = 1e-3
    warmup: float = 0.05
    penalty: float = 1e-2
    seed: int = 0
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            f"{n}={getattr(self, n)}, need {n} >= 1"
            for n in ("steps", "batch")
            if getattr(self, n) < 1
        ]
        if not 0 < self.lr < 1:
            wrong.append(f"lr={self.lr}, need 0 < lr < 1")
        if not 0 <= self.warmup < 1:
            wrong.append(f"warmup={self.warmup}, need 0 <= warmup < 1")
        if self.penalty < 0:
            wrong.append(f"penalty={self.penalty}, need penalty >= 0")
        if wrong:
            raise PassError(self.name, "; ".join(wrong))

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        calls = context.calls(self.name)
        original = context.exact or context.original
        if original is None:
            do = "run the pass in a pipeline"
            raise PassError(self.name, "no original program", "one to compare with", do)
        work = _Work(self, program.copy(), original, context)
        for function, given in calls.items():
            work.reconstruct(function, given)
        return work.result(program)


@dataclass
class _Work:
    """The program that is changed, and what there is to say of it."""

    options: ReconstructBlocks
    program: Program
    original: Program
    context: Context
    errors: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tried: int = 0
    better: int = 0

    def __post_init__(self) -> None:
        selected = Selection(self.options.include, self.options.skip)
        self.notes += selected.idle_notes(self.program.constants)
        self.names = set(learned(self.program, selected))
        self.missing = [
            n for n in sorted(self.names) if _compressed(self.program, n) and not self._known(n)
        ]
        if self.missing:
            listed = ", ".join(f"@{n}" for n in self.missing)
            self.notes.append(f"without original weights, start at what is stored: {listed}")

    def _known(self, name: str) -> bool:
        found = self.original.constants.get(name)
        return found is not None and found.type.shape == self.program.constants[name].type.shape

    def reconstruct(self, function: str, calls: Sequence[Sequence[Tensor]]) -> None:
        """All blocks of one function."""
        if why := self._changed(function):
            self.notes.append(f"{function}: {why}; left as it is")
            return
        uses = Counter(
            ref
            for graph in self.program.graphs.values()
            for node in graph.nodes
            for ref in set(node.operands)
        )
        total = len(self.program.graphs[function].nodes)
        done = 0
        flow = side_by_side(self.program, self.original, function, calls, self.options.blocks)
        for block, passage, wanted in flow:
            self.context.steps(done, total)
            done += len(block.nodes)
            inside = Counter(ref for node in block.nodes for ref in set(node.operands))
            own = [n for n in self.names & block.constants if uses[f"@{n}"] == inside[f"@{n}"]]
            if any(_compressed(self.program, n) for n in own):
                self._fit(block, sorted(own), passage, wanted)

    def _changed(self, function: str) -> str:
        mine, theirs = self.program.graphs[function], self.original.graphs.get(function)
        if theirs is None:
            return "the original has no such function"
        same = mine.structure() == theirs.structure()
        return "" if same else "its nodes are not the original's"

    def _fit(
        self, block: Block, names: list[str], passage: Passage, wanted: Sequence[Values]
    ) -> None:
        fit = _Fit(self.options, block, passage, wanted, self._student(names))
        outcome = fit.train(f"{self.options.name}, {block.function} to %{block.outputs[-1]}")
        self.tried += 1
        if outcome:
            self.better += 1
            after = fit.student.program()
            for name in fit.student.forms:
                old, new = (p.constants[name].encoding for p in (self.program, after))
                self.program.constants[name] = after.constants[name]
                self.errors[name] = relative_error(old.decode(), new.decode())

    def _student(self, names: list[str]) -> TrainableProgram:
        start = Start(learned=self.options.rounding == "adaround")
        return TrainableProgram(self.program, names, self.original, start)

    def result(self, before: Program) -> PassResult:
        changed = {n: e for n, e in self.errors.items() if e > 0}
        self.notes.append(f"{self.better} of {self.tried} blocks are nearer to the original")
        if not changed:
            self.notes.append("nothing to do: no block gains on the calls held out")
            return PassResult(before, False, tuple(self.notes))
        return PassResult(self.program, True, tuple(self.notes), changed)


@dataclass
class _Fit:
    """One block."""

    options: ReconstructBlocks
    block: Block
    passage: Passage
    wanted: Sequence[Values]
    student: TrainableProgram

    def __post_init__(self) -> None:
        most = len(self.wanted)
        self._training, self._held = split(len(self.wanted), self.options.seed, most)
        fixed = self.passage.constants(self.block)
        self._fixed = {n: t for n, t in fixed.items() if n not in self.student.forms}
        codes = (
            f.value().numel() for f in self.student.forms.values() if f.penalty(2.0) is not None
        )
        self._codes = max(1, sum(codes))

    def train(self, where: str) -> bool:
        """Whether the calls held out gained."""
        o = self.options
        if not self.student.parameters:
            return False
        settings = Settings(o.steps, lr=o.lr, warmup=o.warmup, every=max(1, o.steps // 4))
        found = Training(
            where, self.student.parameters, self._gradients, self._look, settings
        ).run()
        return found.best < found.first

    def _gradients(self, step: int) -> float:
        o = self.options
        for form in self.student.forms.values():
            form.soften(True)
        values = self.student.values()
        part = chosen(self._training, step, o.batch, o.seed)
        with torch.enable_grad():
            loss = torch.stack([self._loss(i, values) for i in part]).mean()
            beta = annealed(step / o.steps)
            terms = [f.penalty(beta) for f in self.student.forms.values()] if beta else []
            for term in terms:
                loss = loss + (0.0 if term is None else o.penalty * term / self._codes)
            loss.backward()
        return float(loss.detach())

    def _look(self) -> float:
        for form in self.student.forms.values():
            form.soften(False)
        values = self.student.values()
        return sum(float(self._loss(i, values)) for i in self._held) / len(self._held)

    def _loss(self, call: int, values: Values) -> Tensor:
        """Mean over the block's outputs of floats."""
        made = run(
            self.block,
            self.passage.envs[call],
            self.passage.known[call],
            {**self._fixed, **values},
        )
        wanted = self.wanted[call]
        floats = [n for n, t in made.items() if t.is_floating_point() and t.numel()]
        return torch.stack([mse(made[n], wanted[n]) for n in floats]).mean()


def _compressed(program: Program, name: str) -> bool:
    return not isinstance(program.constants[name].encoding, Dense)
