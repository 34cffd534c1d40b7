"""Turning the package's texts into this package's errors: Wasmer 1.1.0 reports every trap as a ``RuntimeError``."""

from __future__ import annotations

import re
from itertools import islice

from ...errors import Frame, TrapError, TrapKind

MAX_FRAMES = 64
_MAX_TEXT = 16384  # a recursion's text may have megabytes

_PREFIX = "RuntimeError: "

# Most kinds carry the text of the specification, which Wasmer uses, too.
_KINDS = {kind.value: kind for kind in TrapKind} | {
    "undefined element: out of bounds table access": TrapKind.TABLE_OUT_OF_BOUNDS,
    "misaligned heap": TrapKind.UNALIGNED_ATOMIC,
}

_FRAME = re.compile(r"^    at (?P<name>.*) \((?P<module>.*)\[(?P<index>\d+)\]:0x(?P<offset>[0-9a-f]+)\)$", re.MULTILINE)


def is_trap(error: BaseException) -> bool:
    """Whether an exception of the package is a trap, not a misuse."""
    return type(error) is RuntimeError and str(error)[: len(_PREFIX)] == _PREFIX


def from_error(error: BaseException, *, out_of_stack: bool) -> TrapError:
    """The trap behind an exception for which :func:`is_trap` holds.

    Args:
        error: The package's exception.
        out_of_stack: The budget of stack is used up: what looks like ``unreachable`` is that.
    """
    text = str(error)[:_MAX_TEXT].removeprefix(_PREFIX)
    reason = text.partition("\n")[0]
    kind = TrapKind.STACK_OVERFLOW if out_of_stack else _KINDS.get(reason, TrapKind.OTHER)
    frames = tuple(
        Frame(
            int(match["index"]),
            None if match["name"] == "<unnamed>" else match["name"],
            None if match["module"] == "<module>" else match["module"],
            int(match["offset"], 16),
        )
        for match in islice(_FRAME.finditer(text), MAX_FRAMES)
    )
    if kind is TrapKind.OTHER:
        return TrapError(reason, kind=kind, frames=frames)
    return TrapError(kind=kind, frames=frames)
