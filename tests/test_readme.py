"""The README is true: its programs run and print what it says, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")

PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 3
    assert README.count("```python") == len(PROGRAMS)


@pytest.mark.parametrize(("program", "output"), PROGRAMS, ids=[str(number) for number in range(len(PROGRAMS))])
def test_programs_print_what_is_shown(program: str, output: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.stderr) == (output, "")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "RATIONALE.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text("utf-8")):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_test_command_is_the_one_that_ci_calls() -> None:
    commands = re.findall(r"```sh\n(python3 -m venv .*tox)\n```", README)
    assert commands
    assert commands[-1] in (ROOT / ".ci" / "run").read_text("utf-8")
