"""The engine ``fake``: the interpreter behind the engine contract, and nothing but what is mandatory.

Also the shortest complete example of an adapter.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from extism_engines.engines import api
from extism_engines.errors import EngineNotFoundError, LinkError, PluginClosedError
from extism_engines.wasm.types import FuncType, ValueType

from . import interpreter
from .module import DecodedModule
from .numeric import round_to_f32, to_signed

_BITS = {ValueType.I32: 32, ValueType.I64: 64}

_PROPOSALS = frozenset(
    {
        "bulk-memory",
        "extended-const",
        "multi-value",
        "mutable-globals",
        "reference-types",
        "saturating-float-to-int",
        "sign-extension",
    }
)


def create(variant: str | None) -> FakeEngine:
    """The factory of the entry point; this engine has no variants."""
    if variant is not None:
        raise EngineNotFoundError(f"the fake engine has no variant {variant!r}")
    return FakeEngine()


def _from_host(type: ValueType, value: Any) -> Any:
    """The interpreter's value for a number of the host's. Raises ``TypeError`` for anything else."""
    if type in _BITS:
        return operator.index(value) & (1 << _BITS[type]) - 1
    if not type.is_number or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number of type {type}")
    return round_to_f32(value) if type is ValueType.F32 else float(value)


def _to_host(type: ValueType, value: Any) -> Any:
    return to_signed(value, _BITS[type]) if type in _BITS else value


def _all_from_host(types: Sequence[ValueType], values: Sequence[Any]) -> list[Any]:
    if len(types) != len(values):
        raise TypeError(f"{len(types)} values are needed, {len(values)} were given")
    return list(map(_from_host, types, values))


class FakeEngine(api.Engine):
    name = "fake"
    version = "1"
    # Calls between guests take no stack of Python's, so exhausting it is always a clean trap.
    capabilities = api.Capabilities(proposals=_PROPOSALS)

    def compile(self, wasm: bytes) -> FakeModule:
        return FakeModule(wasm)

    def new_store(self, main: api.Module | None = None) -> FakeStore:
        return FakeStore()


class FakeModule(api.Module):
    def __init__(self, wasm: bytes) -> None:
        self.decoded = DecodedModule(wasm)
        super().__init__(wasm)


class FakeStore(api.Store):
    def __init__(self) -> None:
        self.closed = False

    def host_function(self, type: FuncType, function: api.HostFunction) -> FakeFunc:
        self.check_open()

        def call(arguments: list[Any]) -> list[Any]:
            result = function(*map(_to_host, type.params, arguments))
            if not type.results:
                result = ()
            elif len(type.results) == 1:
                result = (result,)
            return _all_from_host(type.results, result)

        return FakeFunc(self, interpreter.Function(type, call))

    def instantiate(self, module: api.Module, imports: Sequence[api.Extern]) -> FakeInstance:
        self.check_open()
        if not isinstance(module, FakeModule):
            raise LinkError("the module was compiled by another engine")
        inner = []
        for item in imports:
            if not isinstance(item, _Handle) or item.store is not self:
                raise LinkError("an import is not from this store")
            inner.append(item.inner)
        return FakeInstance(self, interpreter.Instance(module.decoded, inner))

    def close(self) -> None:
        self.closed = True

    def check_open(self) -> None:
        if self.closed:
            raise PluginClosedError("the store is closed")


class _Handle:
    """What all exports have in common."""

    def __init__(self, store: FakeStore, inner: Any) -> None:
        self.store = store
        self._inner = inner
        self.type = inner.type

    @property
    def inner(self) -> Any:
        self.store.check_open()
        return self._inner


class FakeFunc(_Handle, api.Func):
    def __call__(self, *args: Any) -> tuple[Any, ...]:
        inner = self.inner
        results = interpreter.run(inner, _all_from_host(inner.type.params, args))
        return tuple(map(_to_host, inner.type.results, results))


class FakeMemory(_Handle, api.Memory):
    @property
    def size(self) -> int:
        return len(self.inner.data)

    def _range(self, offset: int, length: int) -> slice:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise IndexError(f"{length} bytes at {offset} are outside a memory of {self.size} bytes")
        return slice(offset, offset + length)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.inner.data[self._range(offset, length)])

    def write(self, offset: int, data: bytes) -> None:
        self.inner.data[self._range(offset, len(data))] = data

    def grow(self, pages: int) -> int:
        old: int | None = self.inner.grow(pages)
        if old is None:
            raise MemoryError(f"the memory cannot grow by {pages} pages")
        return old


class FakeGlobal(_Handle, api.Global):
    def get(self) -> int | float:
        value: int | float = _to_host(self.inner.type.content, self.inner.value)
        return value

    def set(self, value: int | float) -> None:
        self.inner.value = _from_host(self.inner.type.content, value)


class FakeTable(_Handle, api.Table):
    @property
    def size(self) -> int:
        return len(self.inner.elements)


_HANDLES: dict[type, Any] = {
    interpreter.Function: FakeFunc,
    interpreter.Memory: FakeMemory,
    interpreter.Global: FakeGlobal,
    interpreter.Table: FakeTable,
}


class FakeInstance(api.Instance):
    def __init__(self, store: FakeStore, inner: interpreter.Instance) -> None:
        self._exports = {name: _HANDLES[type(item)](store, item) for name, item in inner.exports.items()}

    @property
    def exports(self) -> Mapping[str, api.Extern]:
        return self._exports
