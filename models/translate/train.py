"""Train the reference English-German translator on message catalogs, in bounded time.

    python -m edgec.models.translate.train --catalogs /usr/share/locale --minutes 90 \\
        --out build/translate

Reads gettext catalogs, trains a joint sentencepiece vocabulary, then a small MarianMT model with a
tied embedding: label smoothing, Muon for the hidden matrices and AdamW for the rest, learning rate
warmed up over steps and decayed by a cosine over the time limit. The state is saved every few
minutes, and the same command continues from it. At the end the model is written as float16
safetensors in the transformers layout, with held-out pairs, calibration sentences, BLEU and chrF.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgec.models.translate.data import EOS, Row, batches, encode, pad, prepare, read_pairs
from edgec.models.translate.loss import cross_entropy
from edgec.models.translate.muon import Muon

SAVE_SECONDS = 300
MAX_TOKENS = 128


@dataclass(frozen=True)
class Settings:
    """Everything that the result depends on, besides the catalogs."""

    language: str = "de"
    vocabulary: int = 8000
    width: int = 256
    encoder_layers: int = 4
    decoder_layers: int = 2
    heads: int = 8
    feed_forward: int = 1024
    dropout: float = 0.1
    tokens_per_step: int = 6000
    learning_rate: float = 2e-3
    optimizer: str = "muon"
    smoothing: float = 0.1
    precision: str = "bfloat16"
    minutes: float = 90.0
    seed: int = 0

    @property
    def pad(self) -> int:
        return self.vocabulary - 1

    @property
    def dtype(self) -> torch.dtype:
        """That of the matrix products; weights, sums and the optimizers' states stay float32."""
        return {"bfloat16": torch.bfloat16, "float32": torch.float32}[self.precision]


# ------------------------------------------------------------------ model
def build(settings: Settings) -> Any:
    """A MarianMTModel with random weights."""
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=settings.vocabulary,
        d_model=settings.width,
        encoder_layers=settings.encoder_layers,
        decoder_layers=settings.decoder_layers,
        encoder_attention_heads=settings.heads,
        decoder_attention_heads=settings.heads,
        encoder_ffn_dim=settings.feed_forward,
        decoder_ffn_dim=settings.feed_forward,
        max_position_embeddings=256,
        scale_embedding=True,
        activation_function="relu",
        dropout=settings.dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        init_std=settings.width**-0.5,
        pad_token_id=settings.pad,
        eos_token_id=EOS,
        bos_token_id=None,
        decoder_start_token_id=settings.pad,
        forced_eos_token_id=None,
        tie_word_embeddings=True,
        share_encoder_decoder_embeddings=True,
    )
    model = MarianMTModel(config)
    model.generation_config.max_length = MAX_TOKENS
    model.generation_config.bad_words_ids = [[settings.pad]]
    return model


def optimizers(model: Any, settings: Settings) -> list[torch.optim.Optimizer]:
    """AdamW for embeddings, norms and biases; for the hidden matrices what the settings say."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    hidden = [p for n, p in named if p.ndim == 2 and "embed" not in n and "shared" not in n]
    chosen = {id(p) for p in hidden} if settings.optimizer == "muon" else set()
    rest = [p for _, p in named if id(p) not in chosen]
    rate = settings.learning_rate
    adam = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    return [adam, Muon(hidden, lr=rate, weight_decay=0.01)] if chosen else [adam]


def loss_of(model: Any, rows: list[Row], settings: Settings, smoothing: float) -> torch.Tensor:
    """Mean cross entropy at the real target positions."""
    source = pad([r[0] for r in rows], settings.pad).to(model.device)
    target = pad([r[1] for r in rows], settings.pad).to(model.device)
    start = torch.full_like(target[:, :1], settings.pad)
    with torch.autocast(model.device.type, settings.dtype, settings.dtype != torch.float32):
        hidden = model.model(
            input_ids=source,
            attention_mask=(source != settings.pad).long(),
            decoder_input_ids=torch.cat([start, target[:, :-1]], 1),
        ).last_hidden_state
    real = target != settings.pad
    states, weight = hidden[real].float(), model.lm_head.weight
    return cross_entropy(states, weight, target[real], smoothing, settings.dtype)


def rate(progress: float, step: int, warmup: int = 300) -> float:
    """Fraction of the peak learning rate: warmed up over steps, a cosine over the time spent."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


# ------------------------------------------------------------------ training
class Trainer:
    """Model, optimizers and progress of one run; saved to and continued from `out/state.pt`."""

    def __init__(
        self,
        settings: Settings,
        folders: list[Path],
        out: Path,
        device: str,
        start: Path | None = None,
    ) -> None:
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(settings.seed)
        s = settings
        pairs = prepare(folders, s.language, s.vocabulary, s.seed, out, start)
        self.settings, self.out = settings, out
        self.rows = encode(pairs, out)
        self.held_out = encode(read_pairs(out / "heldout.tsv"), out)
        self.model = build(settings).to(device)
        if start:
            self._start_from(start)
        self.optimizers = optimizers(self.model, settings)
        self.step, self.seconds, self.epoch = 0, 0.0, 0
        self.mean_loss: float | None = None
        if (out / "state.pt").exists():
            self._restore()
        count = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        print(f"{len(self.rows)} pairs, {count / 1e6:.2f} M parameters, from step {self.step}")

    def _start_from(self, folder: Path) -> None:
        from transformers import MarianMTModel

        saved = MarianMTModel.from_pretrained(folder, dtype=torch.float32)
        self.model.load_state_dict(saved.state_dict())

    def _restore(self) -> None:
        saved = torch.load(self.out / "state.pt", weights_only=True, map_location=self.model.device)
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.step, self.seconds, self.epoch = saved["step"], saved["seconds"], saved["epoch"]

    def save(self) -> None:
        """Write the state beside its old version, then replace that."""
        scratch = self.out / "state.tmp"
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "epoch": self.epoch,
        }
        torch.save(state, scratch)
        scratch.rename(self.out / "state.pt")

    def run(self) -> None:
        """Train until the time is spent."""
        limit, saved = self.settings.minutes * 60, self.seconds
        self.model.train()
        while self.seconds < limit:
            self.epoch += 1
            rng = random.Random(self.settings.seed + self.epoch)
            for batch in batches(self.rows, self.settings.tokens_per_step, rng):
                self._advance([self.rows[i] for i in batch], self.seconds / limit)
                if self.step % 50 == 0:
                    spent = f"{self.seconds / 60:.1f}/{self.settings.minutes} min"
                    print(f"step {self.step} epoch {self.epoch} {spent} loss {self.mean_loss:.3f}")
                if self.seconds - saved > SAVE_SECONDS or self.seconds >= limit:
                    saved = self.seconds
                    self.save()
                    print(f"  held-out loss {self.held_out_loss():.4f}")
                if self.seconds >= limit:
                    return

    def _advance(self, rows: list[Row], progress: float) -> None:
        start = time.monotonic()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * rate(progress, self.step)
            optimizer.zero_grad()
        loss = loss_of(self.model, rows, self.settings, self.settings.smoothing)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        now = loss.item()
        self.mean_loss = now if self.mean_loss is None else 0.98 * self.mean_loss + 0.02 * now
        self.step, self.seconds = self.step + 1, self.seconds + time.monotonic() - start

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Cross entropy per target token, in nats, without smoothing."""
        self.model.eval()
        total, count = 0.0, 0
        for batch in batches(self.held_out, self.settings.tokens_per_step, random.Random(0)):
            rows = [self.held_out[i] for i in batch]
            tokens = sum(len(target) for _, target in rows)
            total += loss_of(self.model, rows, self.settings, 0.0).item() * tokens
            count += tokens
        self.model.train()
        return total / count

    def finish(self) -> dict[str, Any]:
        """Write the float16 checkpoint, score it as written, and write `training.json`."""
        from transformers import MarianMTModel

        self.model.eval().half().save_pretrained(self.out)
        written = MarianMTModel.from_pretrained(self.out, dtype=torch.float32).eval()
        report: dict[str, Any] = {
            "settings": dataclasses.asdict(self.settings),
            "steps": self.step,
            "minutes": round(self.seconds / 60, 1),
            "pairs": len(self.rows),
            "held_out": len(self.held_out),
        }
        for beams in (1, 4):
            report[f"beam{beams}"] = score(written, self.out, beams)
            print(f"beam {beams}: {report[f'beam{beams}']}")
        (self.out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
        return report


# ------------------------------------------------------------------ scores
def score(model: Any, folder: Path, beams: int) -> dict[str, Any]:
    """BLEU and chrF of `model` on the held-out pairs of `folder`, with sacrebleu's signatures."""
    import sacrebleu

    pairs = read_pairs(folder / "heldout.tsv")
    got = translate(model, [s for s, _ in pairs], folder, beams)
    made: dict[str, Any] = {}
    for name, metric in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())):
        made[name] = round(metric.corpus_score(got, [[t for _, t in pairs]]).score, 2)
        made[f"{name}_signature"] = str(metric.get_signature())
    return made


@torch.no_grad()
def translate(model: Any, sources: list[str], folder: Path, beams: int) -> list[str]:
    """Translations by transformers' own generation."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    result = [""] * len(sources)
    last = model.config.pad_token_id
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        ids = pad([[*pieces.encode(sources[i]), EOS] for i in part], last).to(model.device)
        mask = (ids != last).long()
        tokens = model.generate(input_ids=ids, attention_mask=mask, num_beams=beams)
        for i, row in zip(part, tokens.tolist(), strict=True):
            result[i] = pieces.decode([t for t in row if t not in (EOS, last)])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folders = "folders with LANG/LC_MESSAGES/*.mo below"
    parser.add_argument("--catalogs", type=Path, nargs="+", required=True, help=folders)
    parser.add_argument("--out", type=Path, required=True, help="folder for state and result")
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to go on from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    for name, default in dataclasses.asdict(Settings()).items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"default {default}")
    args = vars(parser.parse_args())
    if threads := args.pop("threads"):
        torch.set_num_threads(threads)
    places = {name: args.pop(name) for name in ("out", "device", "start")}
    trainer = Trainer(folders=args.pop("catalogs"), **places, settings=Settings(**args))
    trainer.run()
    trainer.finish()


if __name__ == "__main__":
    main()
