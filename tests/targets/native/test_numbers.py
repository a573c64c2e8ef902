"""Numbers in C source: the float that is meant, and no warning."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgec.targets.native.function_source import float_literal

NUMBERS = (0.0, -0.0, 1.0, 0.1, 1e-5, -2.5e38, 1e-300, 1e-40, 1e39, -math.inf, math.inf, 16777217.0)


@pytest.mark.parametrize("number", NUMBERS)
def test_literals_are_the_nearest_float(number: float) -> None:
    text = float_literal(number)
    with np.errstate(over="ignore"):
        want = np.float32(number)
    got = math.inf if "1e300" in text else float(text.strip("-f"))
    got = -got if text.startswith("-") else got
    assert np.float32(got).tobytes() == want.tobytes()


def test_compilers_do_not_complain(tmp_path: Path) -> None:
    rows = ", ".join(map(float_literal, (*NUMBERS, math.nan)))
    (tmp_path / "a.c").write_text(f"const float numbers[] = {{{rows}}};\n")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run(["cc", *flags, "a.c"], cwd=tmp_path, check=True)
