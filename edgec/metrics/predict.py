"""Predictions of a model on evaluation data: texts of a translator, else outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from edgec.errors import ValidationError
from edgec.ir.graph import Graph
from edgec.metrics.data import Data, Predictions, Tensors, Texts
from edgec.runner import Runner
from edgec.tokenizer import Tokenizer, kept_tokens, load_tokenizer
from edgec.translate import Decoder, Generation, Translator

Progress = Callable[[int], None]
BATCH = 32  # texts that are decoded together
_FILLED = {"attention_mask": 1, "token_type_ids": 0}


def predict(
    runner: Runner, data: Data, whole: bool = False, progress: Progress | None = None
) -> Predictions:
    """One prediction per sample: text where the task makes text, else the first output of the call.

    whole      all floating-point outputs of a call that are no states, as one flat tensor
    progress   called with the number of samples done
    Raises ValidationError where the program cannot take such data.
    """
    if isinstance(data, Texts) and runner.metadata.get("task") == "translate":
        return translator(runner).translate(list(data.sources), batch=BATCH, progress=progress)
    results = []
    calls = data.calls if isinstance(data, Tensors) else tokenized(runner, data.sources)
    for i, (function, inputs) in enumerate(calls):
        outputs = [o.detach() for o in runner.run(function, list(inputs))]
        told = [outputs[i] for i in answers(runner.graphs[function])]
        floats = [o.float().reshape(-1) for o in told if o.is_floating_point()]
        results.append(torch.cat(floats) if whole and floats else outputs[0])
        if progress is not None:
            progress(i + 1)
    return results


def answers(graph: Graph) -> list[int]:
    """Indices of the outputs that are more than a state for the next call; all, where none are."""
    carried = {state.output for state in graph.states}
    found = [i for i, name in enumerate(graph.output_names) if name not in carried]
    return found or list(range(len(graph.output_names)))


def translator(runner: Runner) -> Translator:
    """A translator over the functions `encode` and `step` of `runner`."""
    decoder = Decoder(runner.graphs, runner.run, Generation.of(runner.metadata))
    return Translator(decoder, tokenizer_of(runner))


def tokenizer_of(runner: Runner) -> Tokenizer:
    """The tokenizer of a runner, with the tokens that its program has kept."""
    return load_tokenizer(runner.tokenizer, kept_tokens(runner.metadata))


def tokenized(
    runner: Runner, texts: Sequence[str]
) -> Iterator[tuple[str, tuple[torch.Tensor, ...]]]:
    """A call of the main function per text: ids, masks of ones, types of zeros."""
    if len(runner.graphs) != 1 or not runner.tokenizer:
        got = f"texts for functions {', '.join(runner.graphs)}"
        need = "a tokenizer and one function, or a translator"
        raise ValidationError("evaluation", got, need, "give tensors as .safetensors")
    (name, graph), tokenizer = next(iter(runner.graphs.items())), tokenizer_of(runner)
    unknown = sorted({v.name for v in graph.inputs} - {"input_ids", *_FILLED})
    if unknown:
        got = f"texts for inputs {', '.join(unknown)}"
        raise ValidationError("evaluation", got, "input_ids and attention_mask")
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text)])
        yield (
            name,
            tuple(
                (ids if v.name == "input_ids" else torch.full_like(ids, _FILLED[v.name])).to(
                    v.type.dtype.torch_dtype
                )
                for v in graph.inputs
            ),
        )
