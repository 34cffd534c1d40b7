"""The version of extism-engines, in one place."""

from __future__ import annotations

__version__ = "0.1.0"


def extism_version() -> str:
    """Version of the runtime: of this package, which is the runtime here."""
    return __version__
