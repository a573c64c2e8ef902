"""Settings that all tests share: one thread per worker, no network, the same examples each run."""

from __future__ import annotations

import os
import shutil
from typing import Any

import hypothesis
import pytest

# Set before a test module imports torch or transformers: workers of xdist share the cores, and no
# test may depend on a model hub.
for _name, _value in {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)


def pytest_configure(config: pytest.Config) -> None:
    """Kernels that tests compile are kept where pytest keeps things, for all workers and runs."""
    if (kept := getattr(config, "cache", None)) is not None:
        os.environ.setdefault("EDGEC_CACHE", str(kept.mkdir("kernels")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Idle workers take from busy ones: tests of native code are slow, and stand together."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


hypothesis.settings.register_profile("edgec", derandomize=True, deadline=None)
hypothesis.settings.load_profile("edgec")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that can take screenshots.

    Without one the test is skipped, except where EDGEC_CI is set: there a missing browser is a
    failure of the setup, and a skip would hide it.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        message = "no chromium on PATH; install Debian's package `chromium`, or any Chromium build"
        if os.environ.get("EDGEC_CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
