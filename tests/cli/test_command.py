"""The command as such: help, version, exit codes, streams, signals, and what it does without its packages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import extism_engines
from extism_engines.cli import main
from extism_engines.cli.app import app

from .conftest import WAT, C, Run

COMMANDS = ("call", "demo", "engines")
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, pipes and terminals of POSIX")


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """The command as a process of its own, wherever this package was imported from."""
    environment = dict(os.environ)
    package = str(Path(extism_engines.__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [environment.get("PYTHONPATH")])])
    environment.update(options.pop("environment", {}))
    wrapper = options.pop("wrapper", ())
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [*wrapper, sys.executable, "-m", "extism_engines", *arguments]
    # A child begins with the default action for Ctrl-C, even where these tests run in the background and ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, env=environment, **streams)
    finally:
        signal.signal(signal.SIGINT, before)


def finish(process: subprocess.Popen[bytes], data: bytes | None = None) -> tuple[int, bytes, bytes]:
    try:
        stdout, stderr = process.communicate(data, timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    return process.returncode, stdout, stderr


# -- help and usage ----------------------------------------------------------------------------------------


def test_version(run: Run) -> None:
    assert run("--version").text == f"extism-engines {extism_engines.__version__}\n"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_has_the_commands_and_the_exit_codes(run: Run, option: str) -> None:
    result = run(option)
    assert result.code == 0
    assert all(f"  {name} " in result.text for name in COMMANDS)
    for code in (0, 1, 2, 3, 4, 5, 130, 141):
        assert f"\n    {code:<4} " in result.text
    assert "\n    4    reserved" in result.text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert f"Usage: extism-engines {command} " in result.text
    assert "--traceback" in result.text
    assert "--no-color" in result.text


@pytest.mark.parametrize(
    "arguments", [["fly"], ["--fly"], ["call"], ["call", C], ["engines", "x"], ["call", C, "f", "g"]]
)
def test_usage(run: Run, arguments: Sequence[str]) -> None:
    result = run(*arguments)
    assert (result.code, result.stdout) == (2, b"")
    assert "Usage: extism-engines" in result.stderr


# -- in this process ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"), [(["call", C, "greet"], 0), (["call", C, "fail"], 3), (["call", C, "f", "--engine", "x"], 5)]
)
def test_runs_under_the_test_runner_of_click(arguments: list[str], code: int) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code


def test_arguments_of_the_process_are_the_default(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["extism-engines", "call", C, "greet", "-i", "argv"])
    assert main() == 0


def test_an_interrupt_has_its_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("extism_engines.cli.call.Plugin", interrupt)
    result = run("call", C, "greet")
    assert (result.code, result.stdout, result.stderr) == (130, b"", "")


def test_the_signal_handler_is_put_back(run: Run) -> None:
    before = signal.getsignal(signal.SIGINT)
    run("call", C, "greet")
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_on_any_thread() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["call", C, "greet", "-o", os.devnull])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_a_fault_of_our_own_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("extism_engines.cli.call.Plugin", fail)
    result = run("call", C, "greet")
    assert result.code == 1
    assert "itself failed: ZeroDivisionError: ours" in result.stderr
    assert "--traceback" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("call", C, "greet", "--traceback").stderr


# -- without click and rich --------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_its_packages_one_line_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == package or name.startswith("extism_engines.cli."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    result = run("--version")
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.count("\n") == 1
    assert 'pip install "extism-engines[cli]"' in result.stderr


def test_the_library_imports_neither() -> None:
    code = "import extism_engines, sys; sys.exit(bool({'click', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(extism_engines.__file__).parents[1]).returncode == 0


# -- as a process ------------------------------------------------------------------------------------------


def test_streams_of_a_process() -> None:
    data = bytes(range(256)) * 1000
    process = start("call", WAT, "echo", "--stdin", stdin=subprocess.PIPE)
    assert finish(process, data) == (0, data, b"")


@pytest.mark.parametrize("arguments", [["call", WAT, "echo", "--stdin"], ["demo", "--engine", "wasmtime"], ["engines"]])
@posix
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = start(*arguments, stdin=subprocess.PIPE, stdout=writing)
    finally:
        os.close(writing)
    code, _, stderr = finish(process, b"x" * 200_000)
    assert (code, stderr) == (141, b"")


@posix
@pytest.mark.parametrize("engine", [info.name for info in extism_engines.engines() if info.available])
def test_ctrl_c_ends_a_plugin_that_loops(tmp_path: Path, engine: str) -> None:
    file = tmp_path / "loop.wat"
    file.write_text(
        """(module
          (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
          (import "extism:host/env" "log_info" (func $log (param i64)))
          (func (export "spin")
            (call $log (call $alloc (i64.const 1)))
            (loop $again (br $again))))""",
        "utf-8",
    )
    process = start("call", str(file), "spin", "--engine", engine, "--log-level", "info")
    assert process.stderr is not None
    # The plugin says when it begins to loop.
    assert process.stderr.readline() == b"info: \\x00\n"
    process.send_signal(signal.SIGINT)
    code, stdout, stderr = finish(process)
    # A shell reports 130 for this.
    assert (code, stdout, stderr) == (-signal.SIGINT, b"", b"")


def closing(descriptor: int, *arguments: str) -> subprocess.Popen[bytes]:
    """The command as a process of its own that begins with one of the standard streams closed."""
    return start(*arguments, stdin=subprocess.DEVNULL, wrapper=["sh", "-c", f'exec "$@" {descriptor}>&-', "sh"])


@posix
@pytest.mark.parametrize(
    ("descriptor", "arguments", "code", "text"),
    [
        (0, ["call", WAT, "echo", "--stdin"], 2, "standard input is closed"),
        (1, ["call", WAT, "trap"], 1, "standard output is closed; use -o FILE"),
        (1, ["call", WAT, "trap", "-o", "-"], 1, "standard output is closed; use -o FILE"),
        (1, ["engines"], 1, "standard output is closed"),
        (1, ["engines", "--json"], 1, "standard output is closed"),
        (1, ["demo"], 1, "standard output is closed"),
        (1, ["demo", "--json"], 1, "standard output is closed"),
    ],
)
def test_a_closed_stream_that_is_needed(descriptor: int, arguments: list[str], code: int, text: str) -> None:
    assert finish(closing(descriptor, *arguments)) == (code, b"", f"error: {text}\n".encode())


@posix
def test_a_closed_stream_that_is_not_needed(tmp_path: Path) -> None:
    file = tmp_path / "out"
    assert finish(closing(0, "call", WAT, "echo", "-i", "x")) == (0, b"x", b"")
    assert finish(closing(1, "call", WAT, "echo", "-i", "x", "-o", str(file))) == (0, b"", b"")
    assert file.read_bytes() == b"x"


@posix
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["call", WAT, "echo", "-i", "x"], (0, b"x")),
        (["call", C, "log", "-i", "x", "--log-level", "info"], (0, b"")),
        (["call", WAT, "trap", "--traceback"], (3, b"")),
        (["call", WAT], (2, b"")),
        (["fly"], (2, b"")),
    ],
)
def test_without_standard_error_messages_go_nowhere(arguments: list[str], expected: tuple[int, bytes]) -> None:
    assert finish(closing(2, *arguments)) == (*expected, b"")


def test_standard_error_is_left_as_it_was(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["call", WAT, "trap"]) == 3
    assert sys.stderr is None


def test_output_in_an_encoding_that_lacks_characters() -> None:
    code, stdout, _ = finish(start("demo", "--engine", "wasmtime", environment={"PYTHONIOENCODING": "ascii"}))
    assert code == 0
    assert b"Welcome, World!" in stdout


# -- terminals ---------------------------------------------------------------------------------------------


def on_a_terminal(*arguments: str, environment: dict[str, str] | None = None, columns: int = 100) -> tuple[int, bytes]:
    """Exit code, and what a terminal of this width was sent."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = start(*arguments, stdin=theirs, stdout=theirs, environment={"TERM": "xterm", **(environment or {})})
    os.close(theirs)
    sent = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side was closed
            break
        if not part:
            break
        sent += part
    os.close(ours)
    assert process.stderr is not None
    process.stderr.close()
    return process.wait(60), sent.replace(b"\r\n", b"\n")


@posix
@pytest.mark.parametrize(("data", "shown"), [("x", b"x\n"), ("x\n", b"x\n"), ("", b"")])
def test_a_terminal_gets_a_line_end(data: str, shown: bytes) -> None:
    assert on_a_terminal("call", WAT, "echo", "-i", data) == (0, shown)


@posix
def test_colors_and_how_to_be_without() -> None:
    command = ("demo", "--engine", "wasmtime")
    assert b"\x1b[" in on_a_terminal(*command)[1]
    assert b"\x1b[" not in on_a_terminal(*command, "--no-color")[1]
    assert b"\x1b[" not in on_a_terminal("--no-color", *command)[1]
    assert b"\x1b[" not in on_a_terminal(*command, environment={"NO_COLOR": "1"})[1]


@posix
@pytest.mark.parametrize("columns", [100, 60])
def test_tables_fit_the_terminal(columns: int) -> None:
    code, sent = on_a_terminal("demo", "--engine", "wasmtime", "--no-color", columns=columns)
    lines = sent.decode().splitlines()
    end = next(number for number, line in enumerate(lines) if line.startswith("Times are"))
    assert code == 0
    assert all(len(line) <= columns for line in lines[:end])
    if columns == 100:
        assert any('{"count":3,"total":6,"vowels":"aeo"}' in line for line in lines)
