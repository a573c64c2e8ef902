"""Models of transformers whose own attention is sparse, by the names of their modules."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module

from torch import nn

# transformers' module -> "module:context manager" that adapts the models in it
SPARSE = {
    "transformers.models.longformer.modeling_longformer": (
        "edgec.capture.longformer:sparse_longformer"
    ),
    "transformers.models.led.modeling_led": "edgec.capture.longformer:sparse_led",
    "transformers.models.big_bird.modeling_big_bird": "edgec.capture.big_bird:sparse_big_bird",
    "transformers.models.bigbird_pegasus.modeling_bigbird_pegasus": (
        "edgec.capture.big_bird:sparse_big_bird_pegasus"
    ),
}


@contextlib.contextmanager
def sparse_models(module: nn.Module) -> Iterator[None]:
    """Within the block every part of `module` that has such attention computes it in our form.

    Only models whose code is loaded can be in `module`: nothing is imported for others.
    """
    with contextlib.ExitStack() as stack:
        used = {type(part).__module__ for part in module.modules()} & SPARSE.keys()
        for name in sorted(used & sys.modules.keys()):
            home, _, adapter = SPARSE[name].partition(":")
            stack.enter_context(getattr(import_module(home), adapter)(module))
        yield
