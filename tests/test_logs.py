"""Where guests' messages go: ``set_log_file``, ``set_log_custom``, levels, and the format of a line."""

from __future__ import annotations

import gc
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.logging import LogCaptureHandler

import extism_engines as extism
from extism_engines import set_log_custom, set_log_file
from extism_engines.engines import api
from extism_engines.host.logs import LOGGER, OFF, TRACE, guest_level, listens, plugin_logger

from .support import plugin

IMPORTS = "".join(
    f'(import "extism:host/env" "log_{name}" (func ${name} (param i64)))' for name in ("trace", "debug", "info", "warn", "error")
) + '(import "extism:host/env" "get_log_level" (func $level (result i32)))'
BODY = "".join(
    f'(func (export "{name}") (call ${name} (call $input_offset)))' for name in ("trace", "debug", "info", "warn", "error")
) + """(func (export "level") (local $h i64) (local.set $h (call $alloc (i64.const 1)))
  (call $store_u8 (local.get $h) (call $level)) (call $out (local.get $h)))"""

LINE = re.compile(
    r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (TRACE|DEBUG| INFO| WARN|ERROR) extism::pdk: (.*) plugin="([0-9a-f-]{36})"\n', re.DOTALL
)


@pytest.fixture(autouse=True)
def _root() -> Iterator[logging.Logger]:
    """The logger above those of all plugins, as it was before."""
    root = logging.getLogger(LOGGER)
    level = root.level
    root.propagate = False
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers = []
    root.setLevel(level)
    root.propagate = True


def own_handlers(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers of a logger, without those by which pytest listens."""
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, LogCaptureHandler)]
    return logger.handlers


def logging_plugin(engine: api.Engine) -> extism.Plugin:
    """A plugin with an export for each level that logs its input, and ``level``, which gives the level it is told."""
    return plugin(engine, BODY, IMPORTS)


def log_all(made: extism.Plugin) -> None:
    for name in ("trace", "debug", "info", "warn", "error"):
        made.call(name, f"a {name}")


@pytest.mark.parametrize(
    ("level", "expected", "number"),
    [
        ("trace", ["TRACE", "DEBUG", " INFO", " WARN", "ERROR"], 0),
        ("Debug", ["DEBUG", " INFO", " WARN", "ERROR"], 1),
        ("INFO", [" INFO", " WARN", "ERROR"], 2),
        ("extism=info", [" INFO", " WARN", "ERROR"], 2),
        ("wasmtime=trace,extism::pdk=warn", [" WARN", "ERROR"], 3),
        ("error,extism=warn", [" WARN", "ERROR"], 3),
        (" warn ", [" WARN", "ERROR"], 3),
        ("error", ["ERROR"], 4),
        (None, ["ERROR"], 4),
        ("off", [], OFF % 256),
    ],
)
def test_a_file(engine: api.Engine, tmp_path: Path, level: str | None, expected: list[str], number: int) -> None:
    path = tmp_path / "guest.log"
    set_log_file(str(path), level)
    with logging_plugin(engine) as made:
        log_all(made)
        assert made.call("level")[0] == number
        plugin_id = str(made.id)
    found = [LINE.fullmatch(line) for line in path.read_text("utf-8").splitlines(keepends=True)]
    assert [match and match[1] for match in found] == expected
    assert [match and match[2] for match in found] == [f"a {name.strip().lower()}" for name in expected]
    assert {match and match[3] for match in found} <= {plugin_id}


def test_a_file_is_appended_to(engine: api.Engine, tmp_path: Path) -> None:
    path = tmp_path / "guest.log"
    path.write_text("before\n")
    with logging_plugin(engine) as made:
        for _ in range(2):
            set_log_file(str(path), "info")
            made.call("info", "größe\nzweite Zeile")
    text = path.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.count(" extism::pdk: größe\nzweite Zeile plugin=") == 2


@pytest.mark.parametrize(("name", "stream"), [("stderr", 1), ("-", 1), ("stdout", 0)])
def test_streams(engine: api.Engine, capsys: pytest.CaptureFixture[str], name: str, stream: int) -> None:
    set_log_file(name, "info")
    with logging_plugin(engine) as made:
        made.call("warn", "hello")
        made.call("debug", "not this")
    captured = capsys.readouterr()
    assert (match := LINE.fullmatch(captured[stream]))
    assert (match[1], match[2]) == (" WARN", "hello")
    assert captured[1 - stream] == ""
    set_log_file(name, "off")
    sys.stderr.write("open")  # the stream is not closed with its handler


@pytest.mark.parametrize("level", ["", "loud", "extism=loud", "wasmtime=info", "extism", "inf", "10"])
def test_levels_that_are_none(tmp_path: Path, level: str) -> None:
    path = tmp_path / "guest.log"
    with pytest.raises(ValueError, match="is not a level; there are trace, debug, info, warn, error and off"):
        set_log_file(str(path), level)
    with pytest.raises(ValueError, match="is not a level"):
        set_log_custom(print, level)
    assert not path.exists()
    assert not own_handlers(logging.getLogger(LOGGER))


def test_a_file_that_cannot_be_opened(engine: api.Engine, tmp_path: Path) -> None:
    lines: list[str] = []
    custom = set_log_custom(lines.append, "info")
    with pytest.raises(OSError):
        set_log_file(str(tmp_path / "missing" / "guest.log"), "info")
    # What was there before still works.
    with logging_plugin(engine) as made:
        made.call("info", "x")
    custom.drain()
    assert len(lines) == 1


def test_a_function(engine: api.Engine) -> None:
    lines: list[str] = []
    custom = set_log_custom(lines.append, "debug")
    with logging_plugin(engine) as made:
        log_all(made)
        assert lines == []
        custom.drain()
        assert [LINE.fullmatch(line)[2] for line in lines] == ["a debug", "a info", "a warn", "a error"]  # type: ignore[index]
        custom.drain()
        assert len(lines) == 4
        other: list[str] = []
        made.call("info", "later")
        custom.set_callback(other.append)
        custom.drain()
    assert (len(lines), len(other)) == (4, 1)


def test_a_function_that_raises_loses_only_its_line(engine: api.Engine) -> None:
    lines: list[str] = []

    def fails_once(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:
            raise ValueError("full")

    custom = set_log_custom(fails_once, "info")
    with logging_plugin(engine) as made:
        log_all(made)
    with pytest.raises(ValueError, match="full"):
        custom.drain()
    custom.drain()
    assert len(lines) == 3


def test_what_is_not_drained_is_when_the_logger_goes(engine: api.Engine) -> None:
    lines: list[str] = []
    custom = set_log_custom(lines.append, "info")
    with logging_plugin(engine) as made:
        made.call("info", "one")
        assert lines == []
        del custom
        gc.collect()
        assert len(lines) == 1
        # And nothing piles up when there is nobody left to drain it.
        made.call("info", "two")
        assert len(lines) == 2


def test_a_later_destination_replaces_an_earlier_one(engine: api.Engine, tmp_path: Path) -> None:
    first: list[str] = []
    second: list[str] = []
    path = tmp_path / "guest.log"
    with logging_plugin(engine) as made:
        one = set_log_custom(first.append, "info")
        made.call("info", "1")
        two = set_log_custom(second.append, "warn")
        made.call("info", "2")
        made.call("warn", "3")
        set_log_file(str(path), "trace")
        made.call("trace", "4")
        for custom in (one, two):
            custom.drain()
        assert made.call("level") == b"\0"
    assert ([len(first), len(second)], path.read_text().count("\n")) == ([1, 1], 1)


def test_handlers_of_one_s_own_stay(engine: api.Engine, _root: logging.Logger) -> None:
    seen: list[str] = []

    class Own(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    _root.addHandler(Own())
    for _ in range(2):
        set_log_custom(lambda _line: None, "info")
    with logging_plugin(engine) as made:
        made.call("info", "x")
    assert seen == ["x"]
    assert len(own_handlers(_root)) == 2


def test_two_plugins_are_told_apart(engine: api.Engine) -> None:
    lines: list[str] = []
    custom = set_log_custom(lines.append, "info")
    with logging_plugin(engine) as one, logging_plugin(engine) as two:
        for made in (one, two, one):
            made.call("info", "x")
        custom.drain()
        found = [match[3] for line in lines if (match := LINE.fullmatch(line))]
        assert found == [str(one.id), str(two.id), str(one.id)]


# -- loggers by themselves -------------------------------------------------------------------------------------


def test_levels_of_a_plugin_s_logger(_root: logging.Logger) -> None:
    logger = plugin_logger("some-id")
    assert (logger.name, logger.parent) == (f"{LOGGER}.some-id", _root)
    _root.setLevel(TRACE)
    assert not own_handlers(_root)
    assert guest_level(logger) == OFF
    handler: Any = logging.NullHandler()
    _root.addHandler(handler)
    assert guest_level(logger) == OFF
    _root.addHandler(logging.StreamHandler())
    for level, number in [(TRACE, 0), (logging.DEBUG, 1), (logging.INFO, 2), (logging.WARNING, 3), (logging.ERROR, 4),
                          (logging.CRITICAL, OFF)]:  # fmt: skip
        _root.setLevel(level)
        assert guest_level(logger) == number
    _root.setLevel(TRACE)
    try:
        logging.disable(logging.INFO)
        assert guest_level(logger) == 3
        assert (listens(logger, logging.INFO), listens(logger, logging.WARNING)) == (False, True)
    finally:
        logging.disable(logging.NOTSET)
    assert guest_level(logger) == 0


def test_a_logger_that_keeps_to_itself(_root: logging.Logger) -> None:
    logger = plugin_logger("some-id")
    _root.addHandler(logging.StreamHandler())
    _root.setLevel(TRACE)
    logger.propagate = False
    assert guest_level(logger) == OFF
    logger.addHandler(logging.StreamHandler())
    assert guest_level(logger) == 0
