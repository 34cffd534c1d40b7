"""The engine ``wasmtime``: the PyPI package of that name.

Compiling, linking and configuring go through the package's public classes. Calls, host functions and memory
go through prepared low-level calls of the library that the package has loaded (:mod:`.library`), because the public
classes ask the library for types at every call, and keep the exception of a host function in one place for all threads.

Variants: ``wasmtime`` compiles to native code; ``wasmtime:pulley`` runs Wasmtime's portable interpreter.
"""

from __future__ import annotations

import importlib.metadata
import os

from ...errors import EngineUnavailableError
from .. import api

VARIANTS = ("pulley",)

TESTED_VERSIONS = ((50, 0, 1), (51, 0, 0))
"""First version that works and first that has not been tried: older ones have holes in what they compile."""


def create(variant: str | None) -> api.Engine:
    """The factory that the registry calls.

    Raises:
        EngineUnavailableError: The package is missing, of an untested version, or its library does not behave.
    """
    try:
        import wasmtime  # noqa: F401 - the attempt is the point
    except ImportError as error:
        raise EngineUnavailableError(
            reason=f"the package wasmtime cannot be imported ({error})", remedy='pip install "wasmtime>=50.0.1,<51"'
        ) from error
    version = importlib.metadata.version("wasmtime")
    _check_version(version)
    from .engine import WasmtimeEngine
    from .library import load

    library = load()
    engine = WasmtimeEngine(library, variant, version, sequential=_forked_after_compiling())
    engine.self_test()
    return engine


def _check_version(version: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    first, last = TESTED_VERSIONS
    if not first <= numbers < last:
        low, high = (".".join(map(str, bound)) for bound in TESTED_VERSIONS)
        raise EngineUnavailableError(
            reason=f"wasmtime {version} is installed; tested are {low} and later, below {high}",
            remedy=f'pip install "wasmtime>={low},<{high}"',
        )


_COMPILED_IN: set[int] = set()


def _forked_after_compiling() -> bool:
    """Whether a parent of this process compiled before the fork. Wasmtime's compiler threads do not live in the
    child, so that a compilation in parallel would wait for them for ever: the child compiles on one thread."""
    forked = any(pid != os.getpid() for pid in _COMPILED_IN)
    _COMPILED_IN.add(os.getpid())
    return forked


__all__ = ["TESTED_VERSIONS", "VARIANTS", "create"]
