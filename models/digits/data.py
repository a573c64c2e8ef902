"""scikit-learn's digits: 1797 grey images of 8 x 8, split once; what is held out is stored here."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

CHECKPOINT = Path(__file__).parent / "checkpoint"
TRAINING = 1000  # images to train on; the other 797 are held out
CALIBRATION = 256  # of the images to train on
SHIFTS = (0, -1, 1)  # columns: the outer two of an image are nearly always empty


def split() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images u8[n, 1, 8, 8] of 0..16, labels i64[n]) to train on, and held out. Needs sklearn."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(found.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    first, rest = order[:TRAINING], order[TRAINING:]
    return (images[first], labels[first]), (images[rest], labels[rest])


def shifted(images: Tensor, columns: int) -> Tensor:
    """Moved to the right by some columns (to the left by negative ones), 0 where nothing was."""
    moved = torch.roll(images, columns, dims=3)
    if columns > 0:
        moved[..., :columns] = 0
    elif columns < 0:
        moved[..., columns:] = 0
    return moved


def copies(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Every image where it is and moved by a column each way: three times as many."""
    made = torch.cat([shifted(images, n) for n in SHIFTS])
    return made, labels.repeat(len(SHIFTS))


def write(folder: Path) -> None:
    """The held-out images with labels, and images to calibrate on, as `edgec build` reads them."""
    from safetensors.torch import save_file

    (images, _), held_out = split()
    moved, labels = copies(*held_out)
    save_file({"images": moved, "labels": labels}, folder / "heldout.safetensors")
    save_file({"images": images[:CALIBRATION].clone()}, folder / "calibration.safetensors")


def held_out() -> tuple[Tensor, Tensor]:
    """(images u8[2391, 1, 8, 8], labels i64[2391]) from the repository; no sklearn needed."""
    from safetensors.torch import load_file

    found = load_file(CHECKPOINT / "heldout.safetensors")
    return found["images"], found["labels"]
