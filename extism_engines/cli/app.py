"""The group of commands, and what becomes of their errors.

Exit codes, the same for every command:

====  ====================================================================================================
0     success
1     ``demo``: the engines did not agree; anything else that went wrong, such as an output that cannot be written
2     usage: wrong arguments, a file that cannot be read or is neither module nor manifest, a faulty manifest
3     the plugin: it cannot be loaded, or the call failed (the plugin's own error, a trap, a host function …)
4     reserved: the time was up (this version sets no time limit)
5     the engine: unknown, not available here, or without what the plugin needs
130   interrupted by Ctrl-C
141   whoever read the output stopped reading
====  ====================================================================================================
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import click

from .. import errors
from .._version import __version__
from .call import call
from .console import ClosedStreamError, Failure, Settings, Status, settings, shared_options, show_error
from .demo import demo
from .engines import engines

NAME = "extism-engines"

_EPILOG = """\b
Exit codes:
  0    success
  1    demo: the engines did not agree; or another failure
  2    usage: wrong arguments, unreadable file, neither module nor
       manifest, faulty manifest
  3    the plugin cannot be loaded, or the call failed
  4    reserved, for a call whose time was up
  5    the engine is unknown, not available, or lacks a feature
  130  interrupted by Ctrl-C
  141  the reader of the output went away
"""


class App(click.Group):
    """The group; turns what a command raises into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            ctx.exit(Status.INTERRUPTED)
        except BrokenPipeError:
            _forget_output()
            ctx.exit(Status.BROKEN_PIPE)
        except Exception as error:
            ctx.exit(_report(error, settings(ctx)))


def _report(error: Exception, given: Settings) -> Status:
    if isinstance(error, Failure):
        show_error(error.error, error.error.report(), given, error.next_steps or _next_steps(error.error))
        return error.status
    if isinstance(error, ClosedStreamError):
        show_error(error, str(error), given)
        return error.status
    if isinstance(error, errors.Error):
        show_error(error, error.report(), given, _next_steps(error))
        return Status.of(error)
    if isinstance(error, OSError) and error.strerror:
        show_error(error, f"{error.filename}: {error.strerror}" if error.filename else error.strerror, given)
        return Status.FAILED
    text = f"{NAME} {__version__} itself failed: {type(error).__name__}: {error}"
    show_error(error, text, given, () if given.traceback else ("with --traceback it shows where; please report it",))
    return Status.FAILED


def _next_steps(error: errors.Error) -> tuple[str, ...]:
    if isinstance(error, errors.EngineError):
        return (f"`{NAME} engines` shows which engines there are and what they can do",)
    return ()


def _forget_output() -> None:
    """Nobody reads standard output: Python's own flush at the end must not complain about it."""
    if sys.stdout is None:
        return
    with contextlib.suppress(OSError, ValueError):  # a stream without a file, in a test
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@click.group(NAME, cls=App, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")
@shared_options
def app() -> None:
    """Run Extism plugins on the WebAssembly engine of your choice."""


app.add_command(call)
app.add_command(engines)
app.add_command(demo)


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (default: those of the process) and gives its exit code."""
    with _ctrl_c_ends_the_process():
        try:
            app.main(args=None if argv is None else list(argv), prog_name=NAME)
        except SystemExit as ending:
            return ending.code if isinstance(ending.code, int) else Status.SUCCESS
    return Status.SUCCESS


@contextlib.contextmanager
def _ctrl_c_ends_the_process() -> Iterator[None]:
    """Python sees a signal only after the engine's call has returned, which a looping plugin never does. So the
    system's own action is put in place: it ends the process at once, and shells report 130."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    # Whoever has a handler of their own, or ignores the signal (nohup), keeps that.
    if not on_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
