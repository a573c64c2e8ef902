"""The two commands of the README: what a new user types is what continuous integration runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def command(name: str) -> str:
    """The fenced block that follows the mark of a command."""
    found = re.findall(rf"^<!-- command: {name} -->\n```sh\n(.*?)\n```$", README, re.M | re.S)
    assert len(found) == 1, f"need exactly one command marked {name}"
    return str(found[0])


@pytest.mark.parametrize("name", ["build", "test"])
def test_a_command_is_one_line_of_shell_that_sets_itself_up(name: str) -> None:
    text = command(name).replace("\\\n", "")
    assert "\n" not in text
    assert subprocess.run(["bash", "-n", "-c", text]).returncode == 0
    steps = [step.strip() for step in text.split("&&")]
    assert steps[0] == "python3.11 -m venv .venv"
    assert steps[1].startswith(".venv/bin/pip install -c .ci/constraints.txt ")


def test_the_build_command_compiles_the_reference_translator() -> None:
    assert ".venv/bin/edgec build models/translate/recipe.toml" in command("build")
    assert (ROOT / "models" / "translate" / "recipe.toml").is_file()


def test_the_test_command_uses_the_editable_install() -> None:
    """`python -m pytest` in the repository takes ./edgec: it has to be the installed one."""
    assert "-e '.[dev]'" in command("test")


def test_continuous_integration_takes_both_commands_from_the_readme() -> None:
    for name in ("build", "test"):
        assert re.search(rf"^(\w+)=\$\(readme_command {name}\)$", CI, re.M)
    assert 'bash -euc "$build"' in CI
    assert 'bash -euc "$tests"' in CI


def test_the_python_examples_run_as_they_stand(tmp_path: Path) -> None:
    """One after the other, as they are read."""
    example = "\n".join(re.findall(r"^```python\n(.*?)\n```$", README, re.M | re.S))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{example}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ACCEPT") == 2
    assert (tmp_path / "classifier" / "release.json").is_file()


def test_links_inside_the_repository_lead_somewhere() -> None:
    pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (ROOT / target).exists(), f"{page} links to {target}"
