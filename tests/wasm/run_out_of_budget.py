"""Run by the budget tests in a process of its own: calls ``f`` of rewritten modules on a thread whose stack has just the
room that was promised, and prints the reason of the trap.

Reads lines ``name path`` from standard input; writes lines ``name reason``, or ``name -`` where the compiler refuses the
module. Arguments are the compiler, and the bytes that are left below the budget.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

BUDGET = 1 << 20
PYTHON = 256 << 10
"""What Python and the engine need to get as far as the first frame."""


def main() -> None:
    from wasmer import Global, Instance, Module, Store, Value, engine

    compiler: Any = importlib.import_module(f"wasmer_compiler_{sys.argv[1]}").Compiler

    def reason(wasm: bytes) -> str:
        store = Store(engine.Universal(compiler))
        try:
            module = Module(store, wasm)
        except RuntimeError:
            return "-"
        stack = Global(store, Value.i32(BUDGET), mutable=True)
        instance = Instance(module, {"extism-engines": {"stack": stack}})
        try:
            instance.exports.f(3)
        except RuntimeError as error:
            return str(error).splitlines()[0].split(":")[-1].strip().replace(" ", "-")
        return "returned"

    def run() -> None:
        for line in sys.stdin:
            name, path = line.split()
            with open(path, "rb") as file:
                print(name, reason(file.read()), flush=True)

    threading.stack_size(BUDGET + int(sys.argv[2]) + PYTHON)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


main()
