"""Models of transformers whose own attention is sparse, by the names of their modules."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, TypeAlias

from torch import nn

from edgec.errors import CaptureError

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


Put: TypeAlias = Callable[[Any, str, Callable[..., Any]], None]


@contextlib.contextmanager
def replacing() -> Iterator[Put]:
    """put(owner, name, function): the method of this instance, until the block ends."""
    changed: list[Any] = []

    def put(owner: Any, name: str, function: Callable[..., Any]) -> None:
        # a partial of its own: a shared function would keep hold of the model it once stood for
        stock = getattr(owner, name)
        setattr(owner, name, functools.update_wrapper(functools.partial(function), stock))
        changed.append((owner, name))

    try:
        yield put
    finally:
        for owner, name in changed:
            delattr(owner, name)


def refuse_shown_attention(model: Any) -> None:
    """Raises CaptureError for a model that returns weights of attention: ours has no matrix."""
    if model.config.output_attentions:
        where, got = type(model).__name__, "config.output_attentions=True"
        raise CaptureError(where, got, "a model whose weights of attention stay inside")
