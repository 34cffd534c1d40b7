"""The command ``extism-engines``, also ``python -m extism_engines``.

It needs the packages of the extra ``cli``; the library itself does not, and so nothing here is imported before
:func:`main` is called. :mod:`.app` has the exit codes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_PACKAGES = ("click", "rich")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: The arguments after the command's name; ``None`` takes those of the process.

    Returns:
        The exit code, see :class:`extism_engines.cli.console.Status`.
    """
    try:
        from .app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _PACKAGES:
            raise
        print(f'error: the command needs the package {error.name}: pip install "extism-engines[cli]"', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return run(argv)


__all__ = ["main"]
