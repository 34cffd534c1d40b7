"""What guests log (section 8.3 of the description): it goes to Python's ``logging``.

Each plugin has a logger of its own below :data:`LOGGER`, by its id. A guest that asks for the level is told the level of that
logger, or that logging is off while nobody listens.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any

LOGGER = "extism_engines.guest"

TRACE = 5
"""Level of Python's ``logging`` for the guest's ``trace``."""

LEVELS = {"trace": TRACE, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

OFF = 2147483647
"""What a guest is told when nothing is logged."""


def guest_level(logger: logging.Logger) -> int:
    """The level as a guest asks for it: 0 trace to 4 error, or :data:`OFF`."""
    if not _has_listener(logger):
        return OFF
    level = logger.getEffectiveLevel()
    for number, threshold in enumerate(LEVELS.values()):
        if level <= threshold:
            return number
    return OFF


def _has_listener(logger: logging.Logger | None) -> bool:
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


class _NativeFormatter(logging.Formatter):
    """Lines as the reference runtime writes them: time, level, target, message, plugin."""

    def format(self, record: logging.LogRecord) -> str:
        seconds, fraction = divmod(record.created, 1)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        level = {TRACE: "TRACE", logging.WARNING: "WARN"}.get(record.levelno, record.levelname)
        plugin = getattr(record, "plugin", "")
        return f'{stamp}.{int(fraction * 1e6):06d}Z {level:>5} extism::pdk: {record.getMessage()} plugin="{plugin}"'


class _Callback(logging.Handler):
    """Keeps lines until they are drained, and gives them to a function."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        super().__init__()
        self.function = function
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record) + "\n")

    def drain(self) -> None:
        lines, self.lines = self.lines, []
        for line in lines:
            self.function(line)


class CustomLogger:
    """What :func:`set_log_custom` gives."""

    def __init__(self, handler: _Callback) -> None:
        self._handler = handler

    def set_callback(self, f: Callable[[str], Any]) -> None:
        """Changes the function that gets the lines."""
        self._handler.function = f

    def drain(self) -> None:
        """Gives each line that was logged since the last time to the function, newline included."""
        self._handler.drain()

    def __del__(self) -> None:
        self.drain()


def set_log_file(file: str, level: str | None = None) -> None:
    """Writes what guests log to a file, which is appended to, in the reference runtime's format. A later call replaces an
    earlier one.

    Args:
        file: A path, or ``stderr``, ``-`` or ``stdout`` for a stream.
        level: ``trace``, ``debug``, ``info``, ``warn``, ``error`` or ``off``, or a filter such as ``extism=debug``; ``error``
            by default.

    Raises:
        ValueError: The level is none of these.
        OSError: The file cannot be opened.
    """
    streams = {"stderr": sys.stderr, "-": sys.stderr, "stdout": sys.stdout}
    handler = logging.StreamHandler(streams[file]) if file in streams else logging.FileHandler(file, encoding="utf-8")
    _install(handler, level)


def set_log_custom(f: Callable[[str], Any], level: str | None = None) -> CustomLogger:
    """Keeps what guests log until :meth:`CustomLogger.drain` gives it to a function. A later call replaces an earlier one.

    Args:
        f: Gets each line, newline included.
        level: As for :func:`set_log_file`.
    """
    handler = _Callback(f)
    _install(handler, level)
    return CustomLogger(handler)


def _install(handler: logging.Handler, level: str | None) -> None:
    number = _parse_level(level)
    handler.setFormatter(_NativeFormatter())
    handler.set_name(_HANDLER_NAME)
    logger = logging.getLogger(LOGGER)
    for previous in [found for found in logger.handlers if found.get_name() == _HANDLER_NAME]:
        logger.removeHandler(previous)
        previous.close()
    logger.addHandler(handler)
    logger.setLevel(number)


_HANDLER_NAME = "extism-engines"

_FILTER = re.compile(r"^\s*(?:extism(?:::pdk)?)\s*=\s*(\w+)\s*$")


def _parse_level(level: str | None) -> int:
    if level is None:
        return logging.ERROR
    for part in level.split(","):
        match = _FILTER.match(part)
        name = (match.group(1) if match else part).strip().lower()
        if name == "off":
            return logging.CRITICAL + 1
        if name in LEVELS:
            return LEVELS[name]
    raise ValueError(f"{level!r} is not a level; there are {', '.join(LEVELS)} and off")
