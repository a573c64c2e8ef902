"""Training of parameters by AdamW, which can be stopped and continued, and keeps the best state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from edgec.context import Steps, unheard
from edgec.errors import PassError
from edgec.passes.checkpoints import Checkpoint
from edgec.passes.trainable.form import Parameter


@dataclass(frozen=True)
class Settings:
    """How parameters are trained.

    steps      at most
    seconds    at most, in all runs together; 0: no limit. It also paces the rate, so that a run
               with a limit is not repeatable.
    lr         greatest step of AdamW, in parts of a tensor's root mean square (`Parameter.size`)
    warmup     part of the run in which the rate rises
    clip       greatest norm of all gradients together, each multiplied by its tensor's size
    every      steps between looks at the held-out loss
    decay      weight decay of AdamW
    betas      of AdamW; the second forgets in 50 steps, since runs are short
    """

    steps: int
    seconds: float = 0.0
    lr: float = 1e-3
    warmup: float = 0.05
    clip: float = 1.0
    every: int = 50
    decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)


def rate(settings: Settings, progress: float) -> float:
    """Part of the greatest rate at `progress` in (0, 1]: rises linearly, falls as a cosine to 0."""
    rising = min(1.0, progress / settings.warmup) if settings.warmup else 1.0
    return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass(frozen=True)
class Outcome:
    """Held-out losses before and after, and what happened.

    step   of the state that was kept; 0 is the start
    """

    first: float
    best: float
    step: int
    done: int
    seconds: float


@dataclass
class Training:
    """One run. `run` leaves the parameters in the best state that was seen.

    gradients  step -> loss, having left gradients in the parameters
    held_out   the loss that decides
    """

    name: str
    parameters: Mapping[str, Parameter]
    gradients: Callable[[int], float]
    held_out: Callable[[], float]
    settings: Settings
    steps: Steps = unheard
    checkpoint: Checkpoint | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        s = self.settings
        groups = [
            {"params": [p.tensor], "lr": s.lr * p.size, "size": p.size}
            for p in self.parameters.values()
        ]
        self._adam = torch.optim.AdamW(groups, betas=s.betas, eps=1e-9, weight_decay=s.decay)
        self._step, self._before, self._started = 0, 0.0, time.monotonic()
        self._best = self._copy()

    # -------------------------------------------------------------- the loop
    def run(self) -> Outcome:
        if not self._resume():
            self.losses.append((0, self._look()))
        while self._step < self.settings.steps and not self._late():
            self._advance()
            ended = self._step == self.settings.steps or self._late()
            if ended or self._step % self.settings.every == 0:
                self._keep_best(self._look())
                self._save()
        self._restore(self._best)
        step, best = min(self.losses, key=lambda pair: pair[1])
        return Outcome(self.losses[0][1], best, step, self._step, self._elapsed())

    def _advance(self) -> None:
        s = self.settings
        spent = self._elapsed() / s.seconds if s.seconds else 0.0
        factor = rate(s, max((self._step + 1) / s.steps, spent))
        for group in self._adam.param_groups:
            group["lr"] = s.lr * factor * group["size"]
        self._adam.zero_grad()
        loss = self.gradients(self._step)
        self._check(loss, "loss")
        self._check(self._clip(), "gradient")
        self._adam.step()
        self._step += 1
        self.steps(self._step, s.steps)

    def _clip(self) -> float:
        """Scale the gradients where their norm is too great; the norm."""
        pairs = [
            (p.tensor.grad, p.size) for p in self.parameters.values() if p.tensor.grad is not None
        ]
        norm = math.sqrt(sum(float(g.square().sum()) * size**2 for g, size in pairs))
        if norm > self.settings.clip > 0:
            for g, _ in pairs:
                g.mul_(self.settings.clip / norm)
        return norm

    def _check(self, found: float, what: str) -> None:
        if not math.isfinite(found):
            self._restore(self._best)
            kept = (
                f", the last good state is in {self.checkpoint.folder}" if self.checkpoint else ""
            )
            raise PassError(
                self.name,
                f"a {what} of {found} at step {self._step + 1}{kept}",
                "finite ones",
                "set a lower lr",
            )

    # -------------------------------------------------------------- what is kept
    def _look(self) -> float:
        with torch.no_grad():
            return self.held_out()

    def _keep_best(self, loss: float) -> None:
        if loss < min(found for _, found in self.losses):
            self._best = self._copy()
        self.losses.append((self._step, loss))

    def _copy(self) -> dict[str, Tensor]:
        return {n: p.tensor.detach().clone() for n, p in self.parameters.items()}

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.tensor.copy_(state[name])

    # -------------------------------------------------------------- time and files
    def _elapsed(self) -> float:
        return self._before + time.monotonic() - self._started

    def _late(self) -> bool:
        return bool(self.settings.seconds) and self._elapsed() >= self.settings.seconds

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        tensors = {f"best/{n}": t for n, t in self._best.items()}
        for name, p in self.parameters.items():
            tensors[f"now/{name}"] = p.tensor.detach()
            for key, value in self._adam.state[p.tensor].items():
                tensors[f"{key}/{name}"] = value
        record = {"step": self._step, "seconds": self._elapsed(), "losses": self.losses}
        self.checkpoint.save(tensors, record)

    def _resume(self) -> bool:
        """Go on from the checkpoint, if there is one."""
        found = self.checkpoint.load() if self.checkpoint else None
        if found is None:
            return False
        tensors, record = found
        self._restore({n: tensors[f"now/{n}"] for n in self.parameters})
        self._best = {n: tensors[f"best/{n}"].to(p.tensor) for n, p in self.parameters.items()}
        for name, p in self.parameters.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"step/{name}" in tensors:
                state = {k: tensors[f"{k}/{name}"].clone() for k in keys}
                self._adam.state[p.tensor] = {
                    k: t if k == "step" else t.to(p.tensor) for k, t in state.items()
                }
        self._step, self._before = record["step"], record["seconds"]
        self.losses = [(int(step), float(loss)) for step, loss in record["losses"]]
        return True


def split(count: int, seed: int, most: int) -> tuple[list[int], list[int]]:
    """(training, held out) among `count`: a tenth, at least one and at most `most`, at random.

    A single one is both.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    held = max(1, min(most, count // 10))
    return (order[held:] or order), order[:held]


def chosen(indices: Sequence[int], step: int, batch: int, seed: int) -> list[int]:
    """The `batch` of `indices` of one step: epochs in seeded orders, a function of the step."""
    found: list[int] = []
    for at in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(at, len(indices))
        generator = torch.Generator().manual_seed(seed + 1 + epoch)
        order = torch.randperm(len(indices), generator=generator)
        found.append(indices[int(order[place])])
    return found
