"""Running the command in this process, and an engine that is not there."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from extism_engines.cli import main
from extism_engines.errors import EngineUnavailableError

GUESTS = Path(__file__).resolve().parents[2] / "conformance" / "guests"
C = str(GUESTS / "c" / "guest.wasm")
WAT = str(GUESTS / "wat" / "guest.wasm")


@attrs.frozen
class Result:
    """What the command left behind."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode()


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EXTISM_ENGINE", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command: arguments, and ``stdin`` as bytes."""

    def run_command(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(arguments)
        captured = capsysbinary.readouterr()
        return Result(code, captured.out, captured.err.decode())

    return run_command


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the registry, with a fresh registry in it for the time of the test."""
    module = importlib.import_module("extism_engines.engines")
    monkeypatch.setattr(module, "_registry", module._Registry())
    return module


@pytest.fixture
def no_wasmer(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes PyPI's wasmer unavailable, wherever the tests run."""

    def refuse() -> None:
        raise EngineUnavailableError(reason="the moon is in the way", remedy="wait a week")

    # By name: `extism_engines.engines`, as an attribute, is the function of that name.
    adapter = importlib.import_module("extism_engines.engines.wasmer_pypi")
    monkeypatch.setattr(adapter, "_check_platform", refuse)
