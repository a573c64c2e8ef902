"""Cases of recurrent layers."""

from __future__ import annotations

from dataclasses import replace

from tests.cases.case import Case

SEQUENCES = ({"b": 1, "t": 1}, {"b": 2, "t": 5})
BATCHES = ({"b": 1}, {"b": 3})


def _weights(
    gates: int, inputs: int, hidden: int, layers: int, directions: int, bias: bool
) -> list[str]:
    """Constant operands in torch's order."""
    rows = gates * hidden
    found: list[str] = []
    for layer in range(layers):
        inner = inputs if layer == 0 else directions * hidden
        for _ in range(directions):
            found += [
                f"const f32[{rows}, {inner}] -0.6..0.6",
                f"const f32[{rows}, {hidden}] -0.6..0.6",
            ]
            found += [f"const f32[{rows}] -0.6..0.6"] * (2 * bias)
    return found


def _case(
    op: str,
    layers: int,
    bidirectional: bool,
    bias: bool,
    x: str,
    batch_first: bool,
    sizes: tuple[dict[str, int], ...],
) -> Case:
    """Inputs of 3 features, hidden states of 4."""
    gates, states = {"lstm": (4, 2), "gru": (3, 1), "rnn": (1, 1)}[op]
    directions = 2 if bidirectional else 1
    batch = x[4:-1].split(", ")[0 if batch_first else 1]
    state = f"f32[{layers * directions}, {batch}, 4]"
    attributes = (
        f"hidden=4, layers={layers}, bidirectional={bidirectional}, bias={bias}, "
        f"batch_first={batch_first}"
    )
    weights = _weights(gates, 3, 4, layers, directions, bias)
    return Case(op, attributes, (x, *[state] * states, *weights), sizes)


_FORMS: tuple[tuple[int, bool, bool, str, bool, tuple[dict[str, int], ...]], ...] = (
    (1, False, True, "f32[b, t, 3]", True, SEQUENCES),
    (1, False, False, "f32[b, 4, 3]", True, BATCHES),
    (1, True, True, "f32[b, t, 3]", True, SEQUENCES),
    (2, False, True, "f32[t, b, 3]", False, SEQUENCES),
    (2, True, True, "f32[b, 3, 3]", True, BATCHES),
    (2, True, False, "f32[5, 2, 3]", False, ({},)),
)

CASES = tuple(_case(op, *form) for op in ("lstm", "gru", "rnn") for form in _FORMS)
CASES += tuple(
    replace(case, attributes=f"{case.attributes}, activation=relu", rough="a kink")
    for case in CASES
    if case.op == "rnn"
)
