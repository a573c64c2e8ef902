"""Sequence-to-sequence decoding over two functions, `encode` and `step`: greedy and beam search.

The functions may be those of an artifact or of the interpreter. Operands of `step` are found by
name: the token, the attention mask, the states that it declares, and the outputs of `encode`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from edgec.errors import ValidationError
from edgec.ir import dims
from edgec.ir.graph import Graph
from edgec.sequences import Call, CallSequence
from edgec.tokenizer import Tokenizer

Run = Callable[[str, list[torch.Tensor]], Sequence[torch.Tensor]]
Pair: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""Token ids of a text and of its translation."""


@dataclass(frozen=True)
class Generation:
    """Token ids and limits of decoding.

    start        first decoder token           eos     token that ends a sentence
    pad          filler of finished rows       banned  tokens that are never generated
    forced_bos   token that must come first (multilingual models), or None
    max_length   generated tokens at most
    """

    start: int
    eos: int
    pad: int
    banned: tuple[int, ...] = ()
    forced_bos: int | None = None
    max_length: int = 128

    @staticmethod
    def of(metadata: Mapping[str, Any]) -> Generation:
        """From a program's metadata["generation"]. Raises ValidationError when keys are missing."""
        settings = metadata.get("generation") or {}
        names = {"start": "decoder_start", "eos": "eos", "pad": "pad"}
        missing = [key for key in names.values() if settings.get(key) is None]
        if missing:
            got = f"generation settings without {', '.join(missing)}"
            raise ValidationError("translate", got, "a sequence-to-sequence release")
        return Generation(
            **{own: int(settings[key]) for own, key in names.items()},
            banned=tuple(settings.get("banned") or ()),
            forced_bos=settings.get("forced_bos"),
            max_length=int(settings.get("max_length") or 128),
        )


class Decoder:
    """Decodes with the `encode` and `step` functions of one program.

    graphs   the two functions (for names, types, states, dimension ranges)
    run      runs a function by name on flat tensors
    """

    def __init__(self, graphs: Mapping[str, Graph], run: Run, generation: Generation) -> None:
        if not {"encode", "step"} <= graphs.keys():
            got = f"functions {', '.join(graphs)}"
            raise ValidationError("translate", got, "encode and step", "build a translation model")
        self.run, self.generation = run, generation
        self.encode, self.step = graphs["encode"], graphs["step"]
        self.states = {s.input: s.output for s in self.step.states}
        self._logits = self.step.output_names.index("logits")
        self.max_source = self.encode.dims["src"].max if "src" in self.encode.dims else 2**31
        batches = [g.dims["batch"].max for g in (self.encode, self.step) if "batch" in g.dims]
        self.max_batch = min(batches, default=2**31)
        past = self.step.dims.get("past")
        self.max_tokens = min(generation.max_length, past.max if past else generation.max_length)

    # -------------------------------------------------------------- one call each
    def start(self, sources: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Operands of the first step for a batch of source ids, the token excepted."""
        longest = max(map(len, sources))
        if longest > self.max_source:
            got = f"a sentence of {longest} tokens"
            raise ValidationError("translate", got, f"at most {self.max_source}", "split the text")
        ids, mask = filled(sources, self.generation.pad)
        made = self.run("encode", [ids, mask])
        operands = dict(zip(self.encode.output_names, made, strict=True))
        operands["attention_mask"] = mask
        env = {"batch": len(sources), "past": 0, "src": longest}
        for value in self.step.inputs:
            if value.name in self.states:
                shape = [dims.evaluate(d, env) for d in value.type.shape]
                operands[value.name] = torch.zeros(shape, dtype=value.type.dtype.torch_dtype)
        return operands

    def advance(self, operands: dict[str, torch.Tensor], token: torch.Tensor) -> torch.Tensor:
        """One step: token i64[B] -> log probabilities f32[B, V]; `operands` get the new states."""
        operands["token"] = token[:, None]
        made = self.run("step", [operands[v.name] for v in self.step.inputs])
        results = dict(zip(self.step.output_names, made, strict=True))
        for state, output in self.states.items():
            operands[state] = results[output]
        scores = torch.log_softmax(made[self._logits].float(), -1)
        scores = scores.reshape(scores.shape[0], -1)
        if self.generation.banned:
            scores[:, list(self.generation.banned)] = -torch.inf
        return scores

    def _allowed(self, scores: torch.Tensor, position: int) -> torch.Tensor:
        forced = self.generation.forced_bos
        if position > 0 or forced is None:
            return scores
        only = torch.full_like(scores, -torch.inf)
        only[:, forced] = 0.0
        return only

    def forced(self, pairs: Sequence[Pair]) -> CallSequence:
        """The calls that lead one batch through given translations; rows count until they end."""
        sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
        ids, mask = filled(sources, self.generation.pad)
        names = [v.name for v in self.encode.inputs]
        calls = [Call("encode", dict(zip(names, (ids, mask), strict=True)))]
        starts = [[self.generation.start, *t][: self.max_tokens] for t in targets]
        fed, counts = filled(starts, self.generation.pad)
        for token, rows in zip(fed.T, counts.T.bool(), strict=True):
            inputs = {"token": token[:, None], "attention_mask": mask}
            calls.append(Call("step", inputs, None if bool(rows.all()) else rows))
        return calls

    # -------------------------------------------------------------- strategies
    def greedy(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        """The most probable token at each step, a batch at a time, until every row has ended."""
        g = self.generation
        operands = self.start(sources)
        token = torch.full((len(sources),), g.start)
        rows: list[list[int]] = [[] for _ in sources]
        done = torch.zeros(len(sources), dtype=torch.bool)
        for position in range(self.max_tokens):
            scores = self._allowed(self.advance(operands, token), position)
            token = torch.where(done, torch.tensor(g.pad), scores.argmax(-1))
            done = done | (token == g.eos)
            for row, t, ended in zip(rows, token.tolist(), done.tolist(), strict=True):
                if not ended and t != g.pad:
                    row.append(t)
            if bool(done.all()):
                break
        return rows

    def beam(self, source: Sequence[int], beams: int, length_penalty: float = 1.0) -> list[int]:
        """Beam search for one sentence; hypotheses are ranked by log probability / length**penalty.

        Ends when no open hypothesis beats the worst of `beams` finished ones at its present length.
        """
        if beams > self.max_batch:
            need = f"at most {self.max_batch}: the greatest batch of the program"
            raise ValidationError("translate", f"{beams} beams", need)
        operands = self.start([source])
        operands = {k: v.repeat_interleave(beams, 0) for k, v in operands.items()}
        token = torch.full((beams,), self.generation.start)
        totals = torch.tensor([0.0] + [-torch.inf] * (beams - 1))
        rows: list[list[int]] = [[] for _ in range(beams)]
        finished: list[tuple[float, list[int]]] = []
        for position in range(self.max_tokens):
            scores = self._allowed(self.advance(operands, token), position) + totals[:, None]
            best, where = scores.flatten().topk(2 * beams)
            chosen: list[tuple[float, int, int]] = []
            for place, (total, index) in enumerate(zip(best.tolist(), where.tolist(), strict=True)):
                row, t = divmod(index, scores.shape[1])
                if t == self.generation.eos:
                    if place >= beams:
                        continue  # an end that is worse than `beams` continuations is no candidate
                    rank = total / (position + 1) ** length_penalty
                    finished.append((rank, rows[row]))
                elif len(chosen) < beams:
                    chosen.append((total, row, t))
            finished = sorted(finished, key=lambda f: -f[0])[:beams]
            reachable = chosen[0][0] / (position + 1) ** length_penalty
            if len(finished) == beams and finished[-1][0] >= reachable:
                break
            order = torch.tensor([row for _, row, _ in chosen])
            for state in self.states:
                operands[state] = operands[state].index_select(0, order)
            rows = [[*rows[row], t] for _, row, t in chosen]
            token = torch.tensor([t for _, _, t in chosen])
            totals = torch.tensor([total for total, _, _ in chosen])
        if not finished:
            return rows[0]
        return finished[0][1]


def filled(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens filled up at the end, and 1 where there is no filler: both i64[B, T]."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*r, *[pad] * (longest - len(r))] for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
    return ids, mask


class Translator:
    """Text to text with a decoder and a tokenizer."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer) -> None:
        self.decoder, self.tokenizer = decoder, tokenizer

    def translate(
        self,
        texts: Sequence[str],
        beams: int = 1,
        batch: int = 16,
        progress: Callable[[int], None] | None = None,
    ) -> list[str]:
        """Translations in the order of `texts`; `progress` gets the number of sentences done.

        A blank text has a blank translation. Raises ValidationError for a text of too many tokens.
        """
        ids = {i: self.tokenizer.encode(t) for i, t in enumerate(texts) if t.strip()}
        self._check_lengths(texts, ids)
        order = sorted(ids, key=lambda i: len(ids[i]))
        out = [""] * len(texts)
        size = min(batch, self.decoder.max_batch) if beams == 1 else 1
        for start in range(0, len(order), size):
            part = order[start : start + size]
            if beams == 1:
                rows = self.decoder.greedy([ids[i] for i in part])
            else:
                rows = [self.decoder.beam(ids[i], beams) for i in part]
            for i, row in zip(part, rows, strict=True):
                out[i] = self.tokenizer.decode(row)
            if progress is not None:
                progress(start + len(part))
        return out

    def _check_lengths(self, texts: Sequence[str], ids: Mapping[int, Sequence[int]]) -> None:
        limit = self.decoder.max_source
        if long := [i for i, found in ids.items() if len(found) > limit]:
            named = ", ".join(f"text {i + 1} ({texts[i][:30]!r}...)" for i in long[:3])
            more = f" and {len(long) - 3} more" if len(long) > 3 else ""
            got = f"{named}{more} of up to {max(len(ids[i]) for i in long)} tokens"
            raise ValidationError("translate", got, f"at most {limit} tokens", "split the text")
