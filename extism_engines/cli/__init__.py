"""The command ``extism-engines``, also ``python -m extism_engines``.

It needs the packages of the extra ``cli``; the library itself does not, and so nothing here is imported before
:func:`main` is called. :mod:`.app` has the exit codes.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

_PACKAGES = ("click", "rich")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: The arguments after the command's name; ``None`` takes those of the process.

    Returns:
        The exit code, see :class:`extism_engines.cli.console.Status`.
    """
    with _standard_error():
        try:
            from .app import run
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in _PACKAGES:
                raise
            text = f'error: the command needs the package {error.name}: pip install "extism-engines[cli]"'
            print(text, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
        return run(argv)


@contextlib.contextmanager
def _standard_error() -> Iterator[None]:
    """Where standard error was closed when the process began, Python has ``None`` for it. Messages shall then go
    nowhere: neither fail, nor end up on standard output, which is what ``print`` and click would do."""
    if sys.stderr is not None:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8", errors="backslashreplace") as nowhere:
        sys.stderr = nowhere
        try:
            yield
        finally:
            sys.stderr = None


__all__ = ["main"]
