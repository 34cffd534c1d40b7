"""What guests log (section 8.3 of the description): it goes to Python's ``logging``.

Each plugin has a logger of its own below :data:`LOGGER`, by its id. A guest that asks for the level is told the level
of that logger, or that logging is off while nobody listens.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

LOGGER = "extism_engines.guest"

TRACE = 5
"""Level of Python's ``logging`` for the guest's ``trace``."""

LEVELS = {"trace": TRACE, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

OFF = 2147483647
"""What a guest is told when nothing is logged."""


class _PluginLogger(logging.Logger):
    """A logger that ``logging`` does not keep: its registry holds every logger for ever, and plugins come and go."""

    def isEnabledFor(self, level: int) -> bool:
        # Without the cache of the base class, which only registered loggers are told to forget.
        return self.manager.disable < level and level >= self.getEffectiveLevel()


def plugin_logger(plugin_id: str) -> logging.Logger:
    """A plugin's own logger: below :data:`LOGGER`, which has the handlers and the level."""
    logger = _PluginLogger(f"{LOGGER}.{plugin_id}")
    logger.parent = logging.getLogger(LOGGER)
    return logger


def guest_level(logger: logging.Logger) -> int:
    """The level as a guest asks for it: 0 trace to 4 error, or :data:`OFF`."""
    return next((number for number, level in enumerate(LEVELS.values()) if listens(logger, level)), OFF)


def listens(logger: logging.Logger, level: int) -> bool:
    """Whether messages of a level go anywhere: without a handler they do not, not even to Python's last resort."""
    return logger.isEnabledFor(level) and any(
        not isinstance(handler, logging.NullHandler) for each in _lineage(logger) for handler in each.handlers
    )


def _lineage(logger: logging.Logger) -> Iterator[logging.Logger]:
    """A logger, and those that its messages go on to."""
    each: logging.Logger | None = logger
    while each is not None:
        yield each
        each = each.parent if each.propagate else None


class _NativeFormatter(logging.Formatter):
    """Lines as the reference runtime writes them: time, level, target, message, plugin."""

    def format(self, record: logging.LogRecord) -> str:
        seconds, fraction = divmod(record.created, 1)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        level = {TRACE: "TRACE", logging.WARNING: "WARN"}.get(record.levelno, record.levelname)
        plugin = getattr(record, "plugin", "")
        return f'{stamp}.{int(fraction * 1e6):06d}Z {level:>5} extism::pdk: {record.getMessage()} plugin="{plugin}"'


class _Callback(logging.Handler):
    """Keeps lines until they are drained, and gives them to a function. At once when nobody is left to drain them."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        super().__init__()
        self.function = function
        self.keeps = True
        self._lines: deque[str] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record) + "\n")
        if not self.keeps:
            self.drain()

    def drain(self) -> None:
        while self._lines:
            self.function(self._lines.popleft())


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
        self._handler.keeps = False
        self.drain()


def set_log_file(file: str, level: str | None = None) -> None:
    """Writes what guests log to a file, which is appended to, in the reference runtime's format. A later call replaces
    an earlier one.

    Args:
        file: A path, or ``stderr``, ``-`` or ``stdout`` for a stream.
        level: ``trace``, ``debug``, ``info``, ``warn``, ``error`` or ``off``, or a filter such as ``extism=debug``;
            ``error`` by default.

    Raises:
        ValueError: The level is none of these.
        OSError: The file cannot be opened.
    """
    number = _parse_level(level)
    streams = {"stderr": sys.stderr, "-": sys.stderr, "stdout": sys.stdout}
    handler = logging.StreamHandler(streams[file]) if file in streams else logging.FileHandler(file, encoding="utf-8")
    _install(handler, number)


def set_log_custom(f: Callable[[str], Any], level: str | None = None) -> CustomLogger:
    """Keeps what guests log until :meth:`CustomLogger.drain` gives it to a function, or gives it at once where what is
    returned here is not kept. A later call replaces an earlier one.

    Args:
        f: Gets each line, newline included.
        level: As for :func:`set_log_file`.
    """
    number = _parse_level(level)
    handler = _Callback(f)
    _install(handler, number)
    return CustomLogger(handler)


def _install(handler: logging.Handler, level: int) -> None:
    handler.setFormatter(_NativeFormatter())
    handler.set_name(_HANDLER_NAME)
    logger = logging.getLogger(LOGGER)
    for previous in [found for found in logger.handlers if found.get_name() == _HANDLER_NAME]:
        logger.removeHandler(previous)
        previous.close()
    logger.addHandler(handler)
    logger.setLevel(level)


_HANDLER_NAME = "extism-engines"

_FILTER = re.compile(r"^\s*(?:extism(?:::pdk)?)\s*=\s*(\w+)\s*$")


def _parse_level(level: str | None) -> int:
    if level is None:
        return logging.ERROR
    parts = level.split(",")
    for_guests = [match.group(1) for part in parts if (match := _FILTER.match(part))]
    for name in (part.strip().lower() for part in [*for_guests, *parts]):
        if name == "off":
            return logging.CRITICAL + 1
        if name in LEVELS:
            return LEVELS[name]
    raise ValueError(f"{level!r} is not a level; there are {', '.join(LEVELS)} and off")
