"""distill: a compressed program is fine-tuned to give what the original gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from edgec.context import NOTHING, Context
from edgec.errors import EdgecError, PassError
from edgec.interpreter import check_inputs
from edgec.ir import Exactness, Program
from edgec.passes.checkpoints import Checkpoint, fingerprint
from edgec.passes.comparisons import Kind, Pair, Weighting
from edgec.passes.trainable.form import Start
from edgec.passes.trainable.program import TrainableProgram, learned
from edgec.passes.training import Outcome, Settings, Training, chosen, split
from edgec.passes.weight_pass import relative_error
from edgec.passes.weights import Selection
from edgec.sequences import Call, CallSequence
from edgec.transform import Pass, PassResult


@dataclass(frozen=True)
class Distill(Pass):
    """Fine-tune what is stored, in the form in which it is stored, with the original as teacher.

    Given    @w = const f32[N, K] affine(bits=4, group=32)    %y = linear(%x, @w, @b)
    Result   the same program with other codes, scales and biases of the same encodings and bytes

    Trained are weights, biases and gains of norms: dense values; codes by latent weights and
    straight-through rounding, with their scales; tables; what a mask keeps; outliers. Masks,
    positions, groups and dtypes stay. Data are the calibration calls, no labels. Functions that
    feed each other are replayed in the recorded sequences, each program with its own states and
    memories: the student's may have other shapes than the teacher's, and gradients flow from a
    step through the states into the steps before and the encoder. Without sequences each call is
    a sample by itself, and what a call gives to others is compared too.

    steps, seconds   at most; 0 seconds: no limit. With one a run is not repeatable bit by bit.
    batch            sequences (or calls) of a step
    lr, warmup, clip see `edgec.passes.training.Settings`
    loss             of outputs: "kl" of logits, "mse" of anything, "cosine" of embeddings
    temperature      of "kl"
    hidden, attention   weights of the mean square at the results of norms and of attention, where
                     both programs have a value of one name and type
    codes            False: integer codes stay, only their scales are trained
    every, held_out  steps between looks at the loss on the calls held out: a tenth, so many at most
    device           "cpu", "cuda", ...
    precision        "bf16": products in bfloat16 while training; held-out losses never
    checkpoint       folder to continue from after a kill, "" for none; bit by bit on a CPU
    seed             of the order of the calls and the choice of those held out
    include, skip    patterns of names of constants

    Keeps    every node, type and name, every encoding and its bytes. The best state on the calls
             held out is kept; where none is better than the start, the program stays as it is.
    Effect   LOSSY
    Source   Hinton et al. 2015, arXiv:1503.02531; straight-through rounding and learned scales:
             Esser et al. 2020, arXiv:1902.08153; AdamW: Loshchilov and Hutter 2019,
             arXiv:1711.05101.
    Differs  Steps are in parts of each tensor's root mean square, as in Shazeer and Stern 2018,
             arXiv:1804.04235, section 8. Latent weights begin at the original's, as far as these
             round to the codes given.
    """

    name: ClassVar[str] = "distill"
    effect: ClassVar[Exactness] = Exactness.LOSSY
    needs_calibration: ClassVar[bool] = True
    steps: int = 500
    seconds: float = 0.0
    batch: int = 1
    lr: float = 1e-3
    warmup: float = 0.05
    clip: float = 1.0
    loss: Kind = "mse"
    temperature: float = 1.0
    hidden: float = 0.0
    attention: float = 0.0
    codes: bool = True
    every: int = 50
    held_out: int = 8
    device: str = "cpu"
    precision: Literal["f32", "bf16"] = "f32"
    checkpoint: str = ""
    seed: int = 0
    include: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rules = {
            "steps": self.steps >= 1,
            "seconds": self.seconds >= 0,
            "batch": self.batch >= 1,
            "lr": 0 < self.lr < 1,
            "warmup": 0 <= self.warmup < 1,
            "clip": self.clip >= 0,
            "temperature": self.temperature > 0,
            "hidden": self.hidden >= 0,
            "attention": self.attention >= 0,
            "every": self.every >= 1,
            "held_out": self.held_out >= 1,
        }
        needs = {"lr": "0 < lr < 1", "warmup": "0 <= warmup < 1", "temperature": "temperature > 0"}
        ones = ("steps", "batch", "every", "held_out")
        wrong = [
            f"{n}={getattr(self, n)}, need {needs.get(n, f'{n} >= {int(n in ones)}')}"
            for n, holds in rules.items()
            if not holds
        ]
        if wrong := [*wrong, *_wrong_device(self.device)]:
            raise PassError(self.name, "; ".join(wrong))

    def apply(self, program: Program, context: Context = NOTHING) -> PassResult:
        context.calls(self.name)
        teacher = self._teacher(program, context)
        selected = Selection(self.include, self.skip)
        notes = selected.idle_notes(program.constants)
        if (why := "" if teacher else "the program is the original") or not (
            names := learned(program, selected)
        ):
            why = why or "no weight, bias or gain is selected"
            return PassResult(program, False, (*notes, f"nothing to do: {why}"))
        assert teacher is not None
        run = _Run.of(self, program, teacher, names, context)
        outcome = run.train(context)
        after = run.student.program()
        errors = {
            n: relative_error(program.constants[n].encoding.decode(), e)
            for n in run.student.forms
            if not torch.equal(e := after.constants[n].encoding.decode(), _decoded(program, n))
        }
        notes += [*run.notes, _told(outcome)]
        if not errors:
            return PassResult(program, False, (*notes, "nothing to do: no step was better"))
        return PassResult(after, True, tuple(notes), errors)

    def _teacher(self, program: Program, context: Context) -> Program | None:
        """The original, None where the program is still that."""
        if context.original is None:
            do = "run the pass in a pipeline"
            raise PassError(self.name, "no original program", "one to learn from", do)
        same = fingerprint({"": program}, []) == fingerprint({"": context.original}, [])
        return None if same else context.original


@dataclass
class _Run:
    """What one application of the pass works on."""

    options: Distill
    pair: Pair
    student: TrainableProgram
    training: list[CallSequence]
    held: list[CallSequence]
    key: str
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def of(
        options: Distill, program: Program, teacher: Program, names: list[str], context: Context
    ) -> _Run:
        device = torch.device(options.device)
        weighting = Weighting(options.loss, options.temperature, options.hidden, options.attention)
        precision = torch.bfloat16 if options.precision == "bf16" else torch.float32
        pair = Pair(program, teacher, weighting, device, precision)
        if not pair.is_comparable:
            got = "no output of one name and type in both programs"
            raise PassError(options.name, got, "outputs that can be compared")
        start = Start(moves=options.codes, device=device)
        student = TrainableProgram(program, names, context.exact or teacher, start)
        if not student.parameters:
            raise PassError(options.name, "no finite weights", "something to train")
        sequences, notes = _sequences(options.name, program, teacher, context)
        train, held = split(len(sequences), options.seed, options.held_out)
        if len(sequences) == 1:
            notes.append("one call or sequence: nothing is held out, the loss is that of training")
        tensors = [t for s in sequences for c in s for t in c.inputs.values()]
        programs = {"student": program, "teacher": teacher}
        key = fingerprint(programs, tensors, _without_folder(options)) if options.checkpoint else ""
        notes.append(_compared(pair))
        return _Run(
            options,
            pair,
            student,
            [sequences[i] for i in train],
            [sequences[i] for i in held],
            key,
            notes,
        )

    def train(self, context: Context) -> Outcome:
        o = self.options
        settings = Settings(o.steps, o.seconds, o.lr, o.warmup, o.clip, o.every)
        folder = (context.folder or Path()) / o.checkpoint
        kept = Checkpoint(o.name, folder, self.key) if o.checkpoint else None
        return Training(
            o.name,
            self.student.parameters,
            self._gradients,
            self._held_out,
            settings,
            context.steps,
            kept,
        ).run()

    def _gradients(self, step: int) -> float:
        """Backward from the decoded constants once for all calls of the step."""
        values = self.student.values()
        leaves = {n: v.detach().requires_grad_() for n, v in values.items()}
        total, o = 0.0, self.options
        for i in chosen(range(len(self.training)), step, o.batch, o.seed):
            loss = self.pair.loss(self.training[i], leaves, grad=True) / o.batch
            total += float(loss.detach())
            loss.backward()
        reached = [n for n, leaf in leaves.items() if leaf.grad is not None]
        torch.autograd.backward([values[n] for n in reached], [leaves[n].grad for n in reached])
        return total

    def _held_out(self) -> float:
        values = self.student.values()
        found = [float(self.pair.loss(s, values, grad=False)) for s in self.held]
        return sum(found) / len(found)


def _sequences(
    where: str, program: Program, teacher: Program, context: Context
) -> tuple[list[CallSequence], list[str]]:
    """What is replayed; calls by themselves, where no sequences were recorded, if they fit both."""
    if context.sequences:
        return list(context.sequences), []
    found: list[CallSequence] = []
    misfits: list[str] = []
    for name, calls in context.calls(where).items():
        for inputs in calls:
            if why := _misfit(program, teacher, name, inputs):
                misfits.append(f"{name}: {why}")
                continue
            names = [v.name for v in program.graphs[name].inputs]
            found.append([Call(name, dict(zip(names, inputs, strict=True)))])
    if not found:
        do = "give texts or sequences, which are replayed"
        raise PassError(where, f"calls that do not fit: {misfits[0]}", "calls of both programs", do)
    return found, [f"{len(misfits)} calls left out: {misfits[0]}"] if misfits else []


def _misfit(program: Program, teacher: Program, name: str, inputs: Sequence[Tensor]) -> str:
    for one in (program, teacher):
        graph = one.graphs.get(name)
        if graph is None:
            return "no such function"
        try:
            graph.bind(tuple(t.shape) for t in check_inputs(graph, inputs))
        except EdgecError as error:
            return str(error)
    return ""


def _wrong_device(device: str) -> list[str]:
    try:
        found = torch.device(device)
    except RuntimeError:
        return [f"device={device}, need a device of torch"]
    if found.type == "cuda" and not torch.cuda.is_available():
        return [f"device={device}, need a machine that has one"]
    return []


def _decoded(program: Program, name: str) -> Tensor:
    return program.constants[name].encoding.decode()


def _without_folder(options: Distill) -> str:
    from dataclasses import replace

    return str(replace(options, checkpoint=""))


def _compared(pair: Pair) -> str:
    w = pair.weighting
    parts = []
    for name, found in pair.compared.items():
        outputs = pair.student.graphs[name].output_names
        shown = [outputs[i] for i in found.outputs]
        shown += [f"{len(found.hidden)} hidden states"] * bool(w.hidden)
        shown += [f"{len(found.attention)} attentions"] * bool(w.attention)
        parts += [f"{name}: {', '.join(shown)}"] * bool(shown)
    return f"compared with the original: {'; '.join(parts)}"


def _told(outcome: Outcome) -> str:
    return (
        f"held-out loss {outcome.first:.4g} -> {outcome.best:.4g} at step {outcome.step} of "
        f"{outcome.done}"
    )
