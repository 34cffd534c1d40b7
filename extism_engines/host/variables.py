"""A plugin's variables and config (sections 8.1 and 8.2 of the description)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

from ..errors import HostFunctionError
from .memory import as_bytes

_PER_ENTRY = 48
"""Bytes that an entry counts beside its key and value."""

DEFAULT_MAX_BYTES = 1 << 20


class Vars(MutableMapping[str, bytes]):
    """Variables of one plugin, up to a number of bytes. An entry counts its key, its value and 48 bytes."""

    def __init__(self, max_bytes: int | None) -> None:
        """
        Args:
            max_bytes: Most that all entries together may count; 0 forbids setting any, ``None`` is a mebibyte.
        """
        self._max_bytes = DEFAULT_MAX_BYTES if max_bytes is None else max_bytes
        self._values: dict[str, bytes] = {}
        self._used = 0

    def __getitem__(self, key: str) -> bytes:
        return self._values[key]

    def find(self, key: str) -> bytes | None:
        """A variable, or ``None``: the short way of ``get``."""
        return self._values.get(key)

    def __setitem__(self, key: str, value: bytes) -> None:
        """Sets a variable; the empty value takes it away.

        An empty variable and one that is not there are the same to a guest, whose ``var_get`` gives handle 0 for both
        and whose ``var_set`` with handle 0 deletes. So that host and guest always see the same, none is kept here.

        Args:
            key: Its name.
            value: Its bytes, which are copied from whatever holds bytes.

        Raises:
            HostFunctionError: Variables are disabled, or the store would be over its size. What it replaces does not
                count.
            TypeError: The key is not text, or the value does not hold bytes.
        """
        if type(value) is not bytes:
            value = _copied(key, value)
        if not isinstance(key, str):
            raise TypeError(f"vars hold bytes by str, not by {type(key).__name__}")
        self.check_enabled()
        if not value:
            self.pop(key, None)
            return
        before = self._values.get(key)
        more = len(value) - len(before) if before is not None else _PER_ENTRY + len(key.encode()) + len(value)
        if self._used + more > self._max_bytes:
            raise HostFunctionError("Variable store is full", exit_code=-1)
        self._values[key] = value
        self._used += more

    def __delitem__(self, key: str) -> None:
        value = self._values.pop(key)
        self._used -= _PER_ENTRY + len(key.encode()) + len(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Vars({self._values!r})"

    def check_enabled(self) -> None:
        """Raises ``HostFunctionError`` when this plugin may not set variables."""
        if not self._max_bytes:
            raise HostFunctionError("Vars are disabled by this host", exit_code=-1)


def _copied(key: object, value: object) -> bytes:
    try:
        return as_bytes(value)
    except TypeError:
        raise TypeError(f"vars hold bytes by str, not {type(value).__name__} by {type(key).__name__}") from None


def merge_config(base: Mapping[str, str], update: Mapping[str, str | None] | None) -> dict[str, str]:
    """The manifest's config with the caller's on top; ``None`` takes a key away.

    Raises:
        TypeError: What is on top is no mapping, or a key or value of it is not text. Nothing is ever ignored.
    """
    config = dict(base)
    if update is None:
        return config
    if not isinstance(update, Mapping):
        raise TypeError(f"config is a mapping of text to text, such as a dict, not {type(update).__name__}")
    for key, value in update.items():
        if not isinstance(key, str) or not isinstance(value, (str, type(None))):
            raise TypeError(f"config holds text by text; {key!r} has {type(value).__name__}")
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    return config
