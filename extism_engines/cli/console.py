"""What the commands share: exit codes, options, and how things are shown."""

from __future__ import annotations

import enum
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO, TypeVar

import attrs
import click
from rich.console import Console
from rich.text import Text

from .. import errors

_Command = TypeVar("_Command", bound=Callable[..., Any])

MAX_FRAMES = 8
"""Frames of wasm that an error shows; a stack that overflowed has thousands."""

_NO_WRAPPING = 10_000
"""Columns where nobody looks at columns: a file or a pipe gets every line whole."""


class Status(enum.IntEnum):
    """Exit codes."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    PLUGIN = 3
    TIMEOUT = 4
    ENGINE = 5
    INTERRUPTED = 130
    BROKEN_PIPE = 141

    @classmethod
    def of(cls, error: errors.Error) -> Status:
        """The exit code for an error of the library."""
        if isinstance(error, errors.ManifestError):
            return cls.USAGE
        if isinstance(error, errors.EngineError):
            return cls.ENGINE
        if isinstance(error, errors.PluginTimeoutError):
            return cls.TIMEOUT
        return cls.PLUGIN


class Failure(Exception):
    """An error of the library, together with what the user can do next."""

    def __init__(self, error: errors.Error, next_steps: Sequence[str], status: Status | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.next_steps = tuple(next_steps)
        self.status = Status.of(error) if status is None else status


class ClosedStreamError(Exception):
    """A standard stream that is needed was closed when the command began."""

    def __init__(self, text: str, status: Status) -> None:
        super().__init__(text)
        self.status = status


@attrs.define
class Settings:
    """What the options that every command takes were set to."""

    no_color: bool = False
    traceback: bool = False


def shared_options(command: _Command) -> _Command:
    """Adds the options that every command takes; they end up in the :class:`Settings` of the context."""

    def remember(context: click.Context, option: click.Parameter, given: bool) -> None:
        # Both `extism-engines --traceback call …` and `extism-engines call … --traceback` are typed.
        if given:
            setattr(settings(context), str(option.name), True)

    for name, text in (
        ("--traceback", "Show the Python traceback of an error, too."),
        ("--no-color", "Use no colors; so does the environment variable NO_COLOR."),
    ):
        command = click.option(name, is_flag=True, expose_value=False, callback=remember, help=text)(command)
    return command


def settings(context: click.Context) -> Settings:
    """The settings of this run of the command."""
    return context.find_root().ensure_object(Settings)


# -- showing -----------------------------------------------------------------------------------------------


def standard_input() -> TextIO:
    """Standard input.

    Raises:
        ClosedStreamError: It is closed.
    """
    # Python has None for a stream that was closed when the process began.
    if sys.stdin is None:
        raise ClosedStreamError("standard input is closed", Status.USAGE)
    return sys.stdin


def standard_output(complaint: str = "standard output is closed") -> TextIO:
    """Standard output.

    Raises:
        ClosedStreamError: It is closed; ``complaint`` is the text.
    """
    if sys.stdout is None:
        raise ClosedStreamError(complaint, Status.FAILED)
    return sys.stdout


def stdout_console(given: Settings) -> Console:
    """For tables and sentences on standard output."""
    stream = standard_output()
    if isinstance(stream, io.TextIOWrapper):
        # Output of plugins may have characters that the stream's encoding lacks.
        stream.reconfigure(errors="backslashreplace")
    return _console(stream, given)


def _console(stream: TextIO, given: Settings) -> Console:
    plain = given.no_color or bool(os.environ.get("NO_COLOR"))
    return _QuietConsole(
        file=stream,
        color_system=None if plain else "auto",
        width=None if stream.isatty() else _NO_WRAPPING,
        highlight=False,
        markup=False,
        emoji=False,
    )


class _QuietConsole(Console):
    def on_broken_pipe(self) -> None:
        """Left to the command: by itself rich would choose the exit code."""
        raise BrokenPipeError


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in ("\t", "\n")}


def printable(text: str) -> str:
    """A text from a plugin without what would steer the terminal; tabs and newlines stay."""
    return text.translate(_CONTROLS)


def in_one_line(content: bytes) -> str:
    """Bytes from a plugin as text: what is not UTF-8, or would steer the terminal, is escaped."""
    text = content.decode("utf-8", "backslashreplace")
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def show_error(error: BaseException, text: str, given: Settings, next_steps: Iterable[str] = ()) -> None:
    """Writes an error to standard error: its text, then indented what is known about it, then what to do.

    Args:
        error: For the traceback.
        text: The text, facts on further lines.
        given: Whether there shall be a traceback, and colors.
        next_steps: Sentences. They may have names from a plugin in them.
    """
    if given.traceback:
        click.echo(printable("".join(traceback.format_exception(error))), err=True, nl=False)
    first, *more = _shorten(printable(text).splitlines() or [""])
    shown = Text.assemble(("error:", "bold red"), " ", first)
    for line in more:
        shown.append("\n" + (line if line.startswith("  ") else f"  {line}"))
    for step in next_steps:
        shown.append(f"\n  next: {printable(step)}")
    _console(sys.stderr, given).print(shown, soft_wrap=True)


def _shorten(report: Sequence[str]) -> list[str]:
    """A report with the innermost frames only."""
    frames = [number for number, line in enumerate(report) if line.startswith("  frame: ")]
    hidden = set(frames[MAX_FRAMES:])
    lines = [line for number, line in enumerate(report) if number not in hidden]
    if hidden:
        lines.insert(frames[MAX_FRAMES], f"  ({len(hidden)} more frames)")
    return lines
