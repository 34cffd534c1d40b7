"""Limits of one plugin, as values."""

from __future__ import annotations

from typing import Any

import attrs


def _count(_limits: Any, field: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{field.name} must be a whole number or None, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{field.name} must not be negative")


@attrs.frozen(kw_only=True)
class Limits:
    """What one plugin may take. ``None`` means no limit of ours; the engine's own still hold.

    Attributes:
        memory_pages: Pages of 64 KiB that each memory of the plugin may have, and the blocks of one call together. A
            memory that begins larger is refused with ``oom``; growing further fails for the guest (``memory.grow``
            gives -1), and a block beyond it ends the call with ``oom``. ``memory.max_pages`` of a manifest sets the
            same.
        table_elements: Elements that each table may have.
        input_bytes: Bytes of input that a call takes.
        output_bytes: Bytes of output that a call may give.
        module_bytes: Bytes of one module, before it is compiled.
    """

    memory_pages: int | None = attrs.field(default=None, validator=_count)
    table_elements: int | None = attrs.field(default=1_000_000, validator=_count)
    input_bytes: int | None = attrs.field(default=None, validator=_count)
    output_bytes: int | None = attrs.field(default=None, validator=_count)
    module_bytes: int | None = attrs.field(default=None, validator=_count)
