"""Run by the calibration tests in a process of its own: overflows the stack of threads, and prints what a frame took.

Reads lines ``name path`` from standard input (a module of :mod:`hungry`); writes lines ``name bytes``, or ``name -``
where the compiler refuses the module. The argument is the compiler.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

STACK = 8 << 20
ENTRY = 64 << 10
"""Bytes that the thread has used before the first frame, at most. Subtracted, so frames may come out too small, by less
than 1 %."""


def main() -> None:
    from wasmer import Instance, Module, Store, engine

    compiler: Any = importlib.import_module(f"wasmer_compiler_{sys.argv[1]}").Compiler

    def measure(wasm: bytes) -> float | None:
        store = Store(engine.Universal(compiler))
        try:
            module = Module(store, wasm)
        except RuntimeError:
            return None
        exports = Instance(module).exports
        try:
            exports.f(3)
        except RuntimeError:
            # Most say "call stack exhausted". A frame larger than the guard page may say "out of bounds memory access".
            return (STACK - ENTRY) / float(exports.depth.value)
        raise AssertionError("the stack did not overflow")

    def run() -> None:
        for line in sys.stdin:
            name, path = line.split()
            with open(path, "rb") as file:
                size = measure(file.read())
            print(name, "-" if size is None else round(size), flush=True)

    threading.stack_size(STACK)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


main()
