"""Plugins come and go: memory stays flat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from extism_engines.engines import api

ROOT = Path(__file__).resolve().parent.parent

MANY = ("wasmtime", "wasmer-pypi")
"""Engines that go through the full number of cycles; their variants share all but the compiler."""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm")
@pytest.mark.parametrize(("kind", "cycles"), [("closed", 10_000), ("forgotten", 2000), ("compiled", 500)])
def test_memory_stays_flat(engine: api.Engine, kind: str, cycles: int) -> None:
    """A leak of half a kilobyte in each of 10,000 cycles would be seen, and one of a page in the shorter runs."""
    if engine.name == "fake":
        pytest.skip("holds nothing outside of Python")
    if engine.name not in MANY:
        cycles //= 5
    run = subprocess.run(
        [sys.executable, "-m", "tests.cycles", engine.name, str(cycles), kind],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 4000
