"""The engine ``wasmer-pypi``: the packages ``wasmer`` 1.1.0 and ``wasmer-compiler-…`` from PyPI.

They exist for CPython 3.10 and older on x86-64, and have not changed since 2022. What they lack is made up for here and
above: exhausted stack is caught by a budget that every module keeps, instances are held until their store closes,
compiled code travels between threads in serialised form behind a checksum.

Variants: ``wasmer-pypi`` compiles with Cranelift, ``wasmer-pypi:singlepass`` with Singlepass. The LLVM compiler
package is never imported: on a current system the attempt ends the process.
"""

from __future__ import annotations

import importlib
import platform
import sys

from ...errors import EngineUnavailableError
from .. import api

VARIANTS = ("singlepass",)

VERSION = "1.1.0"


def create(variant: str | None) -> api.Engine:
    """The factory that the registry calls.

    Raises:
        EngineUnavailableError: There are no binaries for this interpreter, or a package is missing.
    """
    compiler = "cranelift" if variant is None else variant
    _check_platform()
    try:
        import wasmer
    except ImportError as error:
        raise EngineUnavailableError(
            reason=f"the package wasmer cannot be imported ({error})",
            remedy=f"pip install wasmer=={VERSION} wasmer-compiler-{compiler}=={VERSION}",
        ) from error
    if wasmer.__version__ != VERSION:
        raise EngineUnavailableError(
            reason=f"wasmer {wasmer.__version__} is installed; only {VERSION} was tested",
            remedy=f"pip install wasmer=={VERSION}",
        )
    try:
        package = importlib.import_module(f"wasmer_compiler_{compiler}")
    except ImportError as error:
        raise EngineUnavailableError(
            reason=f"its compiler is missing ({error})", remedy=f"pip install wasmer-compiler-{compiler}=={VERSION}"
        ) from error
    from .engine import WasmerEngine

    return WasmerEngine(variant, package.Compiler, VERSION)


def _check_platform() -> None:
    if sys.version_info >= (3, 11) or sys.implementation.name != "cpython":
        running = f"{platform.python_implementation()} {platform.python_version()}"
        raise EngineUnavailableError(
            reason=f"PyPI's wasmer has binaries for CPython 3.10 and older only; this is {running}",
            remedy="run with CPython 3.10, or use the engine wasmtime",
        )
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise EngineUnavailableError(
            reason=f"PyPI's wasmer has binaries for x86-64 only; this machine is {platform.machine()}",
            remedy="use the engine wasmtime",
        )
