"""Train the two classifiers of digits, a minute each on one core.

    python -m edgec.models.digits.train --out build/digits

Writes the held-out split, images to calibrate on, the weights of both nets and `training.json`.
The same versions of torch and scikit-learn give the same weights on the same kind of machine.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgec.models.digits.data import copies, split, write
from edgec.models.digits.nets import NETS, TOP


@dataclass(frozen=True)
class Settings:
    """Everything that the weights depend on, beside the images."""

    epochs: int
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    seed: int = 0


SETTINGS = {"convolutional": Settings(200), "transformer": Settings(300)}


def distorted(images: Tensor, generator: torch.Generator) -> Tensor:
    """u8 images turned, scaled and moved a little, each by itself."""

    def within(limit: float) -> Tensor:
        return (torch.rand(len(images), generator=generator) * 2 - 1) * limit

    angle, scale = within(0.2), 1 + within(0.12)
    rows = torch.stack([angle.cos() * scale, -angle.sin() * scale, within(0.3)], 1)
    columns = torch.stack([angle.sin() * scale, angle.cos() * scale, within(0.12)], 1)
    grid = F.affine_grid(torch.stack([rows, columns], 1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, align_corners=False)
    return moved.round().clamp(0, TOP).to(torch.uint8)


def train(name: str, images: Tensor, labels: Tensor) -> nn.Module:
    """A net of NETS, trained with the learning rate of one cycle."""
    settings = SETTINGS[name]
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    net = NETS[name]()
    groups: list[dict[str, Any]] = [
        {"params": [p for p in net.parameters() if p.dim() > 1]},
        {"params": [p for p in net.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = len(labels) // settings.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, settings.epochs * steps
    )
    net.train()
    for _ in range(settings.epochs):
        order = torch.randperm(len(labels), generator=generator)[: steps * settings.batch]
        for part in order.split(settings.batch):
            logits = net(distorted(images[part], generator))
            loss = F.cross_entropy(logits, labels[part], label_smoothing=settings.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def top1(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent of images whose greatest logit is the label's."""
    return 100 * float((net(images).argmax(1) == labels).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    from safetensors.torch import save_file

    write(out)
    training, held_out = split()
    report: dict[str, Any] = {"images": len(training[1]), "held_out": len(held_out[1])}
    for name, settings in SETTINGS.items():
        started = time.process_time()
        net = train(name, *training)
        save_file(net.state_dict(), out / f"{name}.safetensors")
        report[name] = {
            "settings": asdict(settings),
            "parameters": sum(p.numel() for p in net.parameters()),
            "cpu_seconds": round(time.process_time() - started),
            "top1": round(top1(net, *held_out), 2),
            "top1_of_copies": round(top1(net, *copies(*held_out)), 2),
        }
        print(name, report[name])
    (out / "training.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
