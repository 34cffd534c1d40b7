"""``extism-engines call``."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

import extism_engines
from extism_engines.errors import PluginTimeoutError

from .conftest import GUESTS, WAT, C, Run

ANY_BYTES = bytes(range(256)) * 3
on_every_engine = pytest.mark.parametrize("engine", [info.name for info in extism_engines.engines() if info.available])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({"wasm": [{"path": C}], "config": {"greeting": "Servus"}}), "utf-8")
    return file


# -- what goes in, and what comes out ----------------------------------------------------------------------


def test_prints_the_output_and_nothing_else(run: Run) -> None:
    result = run("call", C, "greet", "--input", "World")
    assert (result.code, result.stdout, result.stderr) == (0, b"Hello, World!", "")


@on_every_engine
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xfe\0\r\n", b"line\n", ANY_BYTES, b"x" * 300_000])
def test_bytes_pass_unchanged_from_stdin_to_stdout(run: Run, engine: str, data: bytes) -> None:
    result = run("call", WAT, "echo", "--stdin", "--engine", engine, stdin=data)
    assert (result.code, result.stdout, result.stderr) == (0, data, "")


def test_without_input_the_input_is_empty(run: Run) -> None:
    assert run("call", C, "greet", stdin=b"not read").stdout == b"Hello, !"


def test_input_is_text(run: Run) -> None:
    assert run("call", WAT, "echo", "-i", "grüß dich").stdout == os.fsencode("grüß dich")


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are text there")
def test_input_that_is_not_text_is_the_bytes_that_were_typed(run: Run) -> None:
    assert run("call", WAT, "echo", "-i", os.fsdecode(b"\xff\x80")).stdout == b"\xff\x80"


@pytest.mark.parametrize("text", ["", "x"])
def test_input_and_stdin_exclude_each_other(run: Run, text: str) -> None:
    result = run("call", WAT, "echo", "--input", text, "--stdin")
    assert (result.code, result.stdout) == (2, b"")
    assert "--input and --stdin exclude each other" in result.stderr


def test_output_goes_to_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "out"
    result = run("call", WAT, "echo", "--stdin", "--output", str(file), stdin=ANY_BYTES)
    assert (result.code, result.stdout, file.read_bytes()) == (0, b"", ANY_BYTES)


def test_output_to_a_dash_is_standard_output(run: Run) -> None:
    assert run("call", WAT, "echo", "-i", "x", "-o", "-").stdout == b"x"


def test_output_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "no folder" / "out"
    result = run("call", WAT, "echo", "-i", "x", "-o", str(file))
    assert (result.code, result.stdout) == (1, b"")
    assert result.stderr == f"error: {file}: No such file or directory\n"


def test_a_failed_call_leaves_the_output_file_alone(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"old")
    assert run("call", C, "fail", "-o", str(file)).code == 3
    assert file.read_bytes() == b"old"


# -- what is called ----------------------------------------------------------------------------------------


@on_every_engine
def test_module_as_text(run: Run, engine: str) -> None:
    assert run("call", str(GUESTS / "wat" / "guest.wat"), "echo", "-i", "x", "--engine", engine).stdout == b"x"


@pytest.mark.parametrize("options", [(), ("--manifest",), ("-m",)])
def test_manifest_in_json(run: Run, manifest: Path, options: tuple[str, ...]) -> None:
    assert run("call", str(manifest), "greet", "-i", "du", *options).stdout == b"Servus, du!"


@pytest.mark.parametrize("options", [(), ("--manifest",)])
def test_manifest_in_toml(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    file = tmp_path / "manifest.toml"
    file.write_text(f"[[wasm]]\npath = {json.dumps(C)}\n", "utf-8")
    assert run("call", str(file), "greet", "-i", "you", *options).stdout == b"Hello, you!"


def test_a_module_is_no_manifest(run: Run) -> None:
    result = run("call", C, "greet", "--manifest")
    assert result.code == 2
    assert "Unknown manifest format (it is not text in UTF-8)" in result.stderr
    assert f"  plugin: {C}\n" in result.stderr
    assert result.stderr.endswith("  next: with --manifest, FILE is a manifest (JSON or TOML)\n")


def test_faulty_manifest_names_the_fault(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text('{"wasm": [{"path": "x", "hsah": "1"}]}', "utf-8")
    result = run("call", str(file), "greet")
    assert result.code == 2
    assert result.stderr.startswith("error: wasm[0].hsah: unknown field")
    assert f"  plugin: {file}\n" in result.stderr


def test_missing_file(run: Run, tmp_path: Path) -> None:
    result = run("call", str(tmp_path / "none.wasm"), "greet")
    assert (result.code, result.stdout) == (2, b"")
    assert "none.wasm' does not exist" in result.stderr


def test_text_that_looks_like_a_manifest_is_still_a_file_name(run: Run) -> None:
    result = run("call", '{"wasm": []}', "greet")
    assert result.code == 2
    assert "does not exist" in result.stderr


def test_missing_module_of_a_manifest(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text('{"wasm": [{"path": "none.wasm"}]}', "utf-8")
    result = run("call", str(file), "greet")
    assert result.code == 2
    assert result.stderr.splitlines() == [
        'error: Unable to compile Extism plugin: Unable to load Wasm file "none.wasm": '
        f"entity not found ({os.strerror(errno.ENOENT)})",
        f"  plugin: {file}",
    ]


@pytest.mark.parametrize("content", [b"\xff\xfe\x80", b"\x89PNG\r\n\x1a\n", b"hello there\n", b"{", b"[[wasm", b"17"])
def test_file_that_is_neither_module_nor_manifest(run: Run, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    result = run("call", str(file), "greet")
    assert (result.code, result.stdout) == (2, b"")
    assert f"\n  plugin: {file}\n" in result.stderr
    assert result.stderr.endswith(
        "  next: FILE is a WebAssembly module (binary or text) or a manifest (JSON or TOML)\n"
    )


@pytest.mark.parametrize(("name", "kind", "other"), [("a.json", "JSON", "TOML"), ("a", "TOML", "JSON")])
def test_one_text_for_a_file_that_is_neither(run: Run, tmp_path: Path, name: str, kind: str, other: str) -> None:
    file = tmp_path / name
    file.write_text("hello there\n", "utf-8")
    first, *more = run("call", str(file), "greet").stderr.splitlines()
    assert f"Unknown manifest format (not valid {kind}: " in first
    assert other not in first
    assert [line.split(":")[0] for line in more] == ["  plugin", "  next"]


@pytest.mark.parametrize("options", [(), ("--manifest",)])
def test_empty_file(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    file = tmp_path / "empty.wasm"
    file.touch()
    result = run("call", str(file), "greet", *options)
    assert result.code == 2
    assert result.stderr.splitlines()[:2] == [
        f'error: Unable to compile Extism plugin: Unable to load Wasm file "{file}": the file is empty',
        f"  plugin: {file}",
    ]
    assert "  next: " in result.stderr


@on_every_engine
@pytest.mark.parametrize(
    "content",
    [b"\0asm", b"\0asm\1\0\0", b"\0asm\1\0\0\0\xff\xff", b"(module", b"(module\n  (nonsense))"],
)
def test_damaged_module(run: Run, tmp_path: Path, engine: str, content: bytes) -> None:
    file = tmp_path / "bad.wasm"
    file.write_bytes(content)
    result = run("call", str(file), "greet", "--engine", engine)
    assert result.code == 3
    assert result.stderr.startswith("error: Unable to compile Extism plugin: ")
    assert f"\n  plugin: {file}\n" in result.stderr
    assert "\n  next: FILE is a whole core module of WebAssembly" in result.stderr


def test_faults_in_the_text_format_are_shown_once(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "bad.wat"
    file.write_text("(module\n  (nonsense))", "utf-8")
    assert run("call", str(file), "greet").stderr.count("(nonsense)") == 1


@on_every_engine
def test_component(run: Run, tmp_path: Path, engine: str) -> None:
    file = tmp_path / "component.wasm"
    file.write_bytes(b"\0asm\x0d\0\1\0")
    result = run("call", str(file), "greet", "--engine", engine)
    assert result.code == 3
    assert f"\n  plugin: {file}\n" in result.stderr
    assert "\n  next: FILE is a core module, not a component" in result.stderr


@pytest.mark.parametrize("options", [(), ("--manifest",)])
def test_urls_are_not_downloaded(run: Run, options: tuple[str, ...]) -> None:
    result = run("call", "https://example.com/p.wasm", "greet", *options)
    assert (result.code, result.stdout) == (5, b"")
    assert result.stderr.startswith("error: https://example.com/p.wasm: this version does not download")
    assert result.stderr.endswith("  next: `curl -fLO https://example.com/p.wasm` fetches it\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in names there")
def test_a_file_may_be_named_like_a_url(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("https:/example.com").mkdir(parents=True)
    Path("https:/example.com/p.wasm").write_bytes(Path(WAT).read_bytes())
    assert run("call", "https://example.com/p.wasm", "echo", "-i", "x").stdout == b"x"


@on_every_engine
def test_engine(run: Run, engine: str) -> None:
    result = run("call", C, "fail", "-i", "here", "--engine", engine)
    assert f"  engine: {engine}\n" in result.stderr


# -- options -----------------------------------------------------------------------------------------------


def test_config(run: Run) -> None:
    result = run("call", C, "count_vowels", "-i", "a=b=c", "--config", "vowels=b=", "--config", "other=")
    assert json.loads(result.stdout) == {"count": 3, "total": 3, "vowels": "b="}


def test_the_last_config_value_of_a_key_counts(run: Run, manifest: Path) -> None:
    result = run("call", str(manifest), "greet", "--config", "greeting=A", "--config", "greeting=B")
    assert result.stdout == b"B, !"


@pytest.mark.parametrize("item", ["vowels", "=x", ""])
def test_bad_config(run: Run, item: str) -> None:
    result = run("call", C, "greet", "--config", item)
    assert result.code == 2
    assert f"{item!r} is not of the form KEY=VALUE" in result.stderr


@on_every_engine
def test_memory_max(run: Run, engine: str) -> None:
    data = b"x" * 70_000
    command = ("call", C, "greet", "--stdin", "--engine", engine)
    assert run(*command, "--memory-max", "10", stdin=data).code == 0
    result = run(*command, "--memory-max", "1", stdin=data)
    assert (result.code, result.stdout) == (3, b"")
    assert result.stderr.startswith("error: oom\n")
    assert "--memory-max 1 allows 64 KiB" in result.stderr


@pytest.mark.parametrize("pages", ["-1", "many"])
def test_bad_memory_max(run: Run, pages: str) -> None:
    assert run("call", C, "greet", f"--memory-max={pages}").code == 2


@pytest.mark.parametrize("level", ["trace", "debug", "info", "INFO"])
def test_logs_go_to_stderr(run: Run, level: str) -> None:
    result = run("call", C, "log", "-i", "so it goes", "--log-level", level)
    assert (result.code, result.stdout, result.stderr) == (0, b"", "info: so it goes\n")


@pytest.mark.parametrize("options", [(), ("--log-level", "off"), ("--log-level", "warn")])
def test_logs_below_the_level_are_not_shown(run: Run, options: tuple[str, ...]) -> None:
    assert run("call", C, "log", "-i", "so it goes", *options).stderr == ""


def test_without_a_level_not_even_errors_are_logged(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "logs.wat"
    file.write_text(
        """(module
          (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
          (import "extism:host/env" "log_error" (func $log (param i64)))
          (func (export "complain") (call $log (call $alloc (i64.const 3)))))""",
        "utf-8",
    )
    quiet = run("call", str(file), "complain", "--engine", "wasmtime")
    assert (quiet.code, quiet.stdout, quiet.stderr) == (0, b"", "")
    # What would steer the terminal is escaped.
    loud = run("call", str(file), "complain", "--engine", "wasmtime", "--log-level", "error")
    assert loud.stderr == "error: \\x00\\x00\\x00\n"


def test_bad_log_level(run: Run) -> None:
    assert run("call", C, "greet", "--log-level", "loud").code == 2


# -- errors ------------------------------------------------------------------------------------------------


def test_the_plugin_reports_failure(run: Run) -> None:
    result = run("call", C, "fail", "-i", "on purpose", "--engine", "wasmtime")
    assert (result.code, result.stdout) == (3, b"")
    assert result.stderr.splitlines() == [
        "error: failed as asked: on purpose",
        f"  plugin: {C}",
        "  function: fail",
        "  engine: wasmtime",
        "  exit code: 1",
        "  next: --log-level debug shows what the plugin logged",
    ]


def test_the_texts_of_a_plugin_cannot_steer_the_terminal(run: Run) -> None:
    result = run("call", C, "fail", "-i", "\x1b[2J\nsecond line")
    assert result.stderr.startswith("error: failed as asked: \\x1b[2J\n  second line\n  plugin: ")


@on_every_engine
def test_trap(run: Run, engine: str) -> None:
    result = run("call", WAT, "trap", "--log-level", "debug", "--engine", engine)
    assert (result.code, result.stdout) == (3, b"")
    assert "  trap: unreachable\n" in result.stderr
    assert "--log-level" not in result.stderr
    assert "Traceback" not in result.stderr


def test_traceback_on_request(run: Run) -> None:
    for arguments in (["--traceback", "call", WAT, "trap"], ["call", WAT, "trap", "--traceback"]):
        result = run(*arguments)
        assert result.code == 3
        assert result.stderr.startswith("Traceback (most recent call last):\n")
        assert "\nerror: wasm trap: unreachable\n" in result.stderr


def test_deep_stacks_are_shortened(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "deep.wat"
    file.write_text('(module (func $deep (export "deep") (call $deep) (call $deep)))', "utf-8")
    result = run("call", str(file), "deep", "--engine", "wasmtime")
    assert result.code == 3
    assert "  trap: call stack exhausted\n" in result.stderr
    assert result.stderr.count("  frame: ") == 8
    assert " more frames)\n" in result.stderr


def test_function_that_is_not_there(run: Run) -> None:
    result = run("call", WAT, "nope")
    assert result.code == 3
    assert result.stderr.startswith("error: Function not found: nope\n")
    assert result.stderr.endswith("  next: the plugin exports echo, reverse, greet, trap, noop\n")


def test_the_names_of_exports_cannot_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "names.wat"
    file.write_text('(module (func (export "\\1b[2J")))', "utf-8")
    assert run("call", str(file), "nope").stderr.endswith("  next: the plugin exports \\x1b[2J\n")


def test_missing_import(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "import.wat"
    file.write_text('(module (import "extism:host/user" "help" (func)) (func (export "f")))', "utf-8")
    result = run("call", str(file), "f", "--engine", "wasmtime")
    assert result.code == 3
    assert "help" in result.stderr
    assert f"  plugin: {file}\n" in result.stderr


def test_timeout_has_its_own_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def time_is_up(*_: object) -> None:
        raise PluginTimeoutError("timeout")

    monkeypatch.setattr("extism_engines.cli.call.Plugin.call", time_is_up)
    result = run("call", C, "greet")
    assert (result.code, result.stderr.splitlines()[0]) == (4, "error: timeout")


def test_unknown_engine(run: Run) -> None:
    result = run("call", C, "greet", "--engine", "steam")
    assert (result.code, result.stdout) == (5, b"")
    first = result.stderr.splitlines()[0]
    assert first.startswith("error: no engine is called 'steam'; there are ")
    assert {"wasmtime,", "wasmer-pypi,", "wasmer,", "auto"} <= set(first.split())
    assert "`extism-engines engines`" in result.stderr


@pytest.mark.usefixtures("no_wasmer")
def test_unavailable_engine(run: Run) -> None:
    result = run("call", C, "greet", "--engine", "wasmer-pypi")
    assert (result.code, result.stdout) == (5, b"")
    assert "the moon is in the way" in result.stderr
    assert "wait a week" in result.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PyPI's wasmer can be there")
def test_wasmer_without_a_wasmer_says_what_it_needs(run: Run) -> None:
    result = run("call", C, "greet", "--engine", "wasmer")
    assert result.code == 5
    assert "CPython 3.10" in result.stderr


def test_engine_by_environment_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTISM_ENGINE", "wasmtime:pulley")
    assert "  engine: wasmtime:pulley\n" in run("call", WAT, "trap").stderr
    # The option goes before it.
    assert "  engine: wasmtime\n" in run("call", WAT, "trap", "--engine", "wasmtime").stderr
    monkeypatch.setenv("EXTISM_ENGINE", "steam")
    assert run("call", WAT, "echo").code == 5
