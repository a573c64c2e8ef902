"""Sequences of calls: what later calls get from earlier ones is made by replaying."""

from __future__ import annotations

import pytest
import torch

from edgec.context import Context, as_calibration
from edgec.errors import ValidationError
from edgec.interpreter import Interpreter
from edgec.sequences import Call, Calls, Replay, links
from tests.programs import decoder

IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])
TOKENS = [torch.tensor([[7], [8]]), torch.tensor([[9], [10]])]


def sequence():
    return [Call("encode", {"ids": IDS}), *(Call("step", {"token": t}) for t in TOKENS)]


def run_of(program):
    return lambda function, inputs: Interpreter(program).run(inputs, function)


def test_states_continue_their_function_and_names_the_other() -> None:
    found = links(decoder().graphs)
    assert found["encode"] == {}
    assert found["step"] == {"cache": ("step", "grown"), "memory": ("encode", "memory")}


def test_what_is_replayed_is_what_calls_by_hand_give() -> None:
    program = decoder()
    run = run_of(program)
    (memory,) = run("encode", [IDS])
    cache = torch.zeros(2, 0, 32)
    wanted = []
    for token in TOKENS:
        logits, cache = run("step", [token, memory, cache])
        wanted.append(logits)
    found = list(Replay(program.graphs).run(sequence(), run))
    assert [c.function for c, _ in found] == ["encode", "step", "step"]
    for (_, outputs), want in zip(found[1:], wanted, strict=True):
        assert torch.equal(outputs[0], want)


def test_an_input_that_is_given_wins() -> None:
    program = decoder()
    run = run_of(program)
    memory = torch.ones(2, 5, 32)
    given = [Call("encode", {"ids": IDS}), Call("step", {"token": TOKENS[0], "memory": memory})]
    (_, (logits, _)) = list(Replay(program.graphs).run(given, run))[1]
    assert torch.equal(logits, run("step", [TOKENS[0], memory, torch.zeros(2, 0, 32)])[0])


def test_gradients_flow_from_a_step_into_the_steps_before_and_the_encoder() -> None:
    program = decoder()
    table = program.constants["table"].encoding.decode()
    table = table.clone().requires_grad_()
    interpreter = Interpreter(program, constants={"table": table})

    def run(function, inputs):
        return interpreter.run(inputs, function, grad=True)

    last = list(Replay(program.graphs).run(sequence(), run))[-1][1][0]
    (gradient,) = torch.autograd.grad(last[:, 0].sum(), table)
    assert all(
        bool(gradient[int(i)].any()) for i in torch.cat([IDS.flatten(), TOKENS[0].flatten()])
    )


def test_inputs_that_nothing_makes_and_unknown_functions_are_refused() -> None:
    program = decoder()
    replay = Replay(program.graphs)
    with pytest.raises(ValidationError, match=r"\[sequence\] got step without memory; need"):
        list(replay.run([Call("step", {"token": TOKENS[0]})], run_of(program)))
    with pytest.raises(ValidationError, match="function main; need one of encode, step"):
        list(replay.run([Call("main", {})], run_of(program)))


def test_calibration_keeps_its_sequences() -> None:
    given = Calls({"encode": [[IDS]]}, [sequence()])
    assert Context(as_calibration(given)).sequences == given.sequences
    assert Context(as_calibration({"encode": [[IDS]]})).sequences == []
