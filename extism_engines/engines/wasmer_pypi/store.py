"""Running with PyPI Wasmer: stores, instances and what they export."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import wasmer

from ... import errors
from ...wasm.types import ExternType, FuncType, GlobalType, MemoryType, TableType, ValueType
from .. import api
from ..numbers import wrap
from . import traps
from .module import Group, WasmerModule, native_func_type
from .stack import make_gauge


class WasmerStore(api.Store):
    """One store. It holds every instance made in it until it is closed: in this engine an instance does not keep
    those alive that it imports from."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.native = group.store
        self.closed = False
        self.raised: BaseException | None = None
        """What a host function raised, on its way out: the engine reports traps by the same type as a host
        function's own ``RuntimeError``."""
        self.functions: list[api.HostFunction] = []
        self._instances: list[Any] = []
        self.gauge = make_gauge(reserve=0)
        self.nested = False
        """Whether a host function of this store is running: a call from there continues on the same budget."""
        self.settled = False
        """Whether the last outermost call returned, and gave back what it took from the budget."""
        self.filled = 0
        self._budget = WasmerGlobal(
            self, GlobalType(ValueType.I32, mutable=True), wasmer.Global(self.native, wasmer.Value.i32(0), mutable=True)
        )

    # -- contract --------------------------------------------------------------------------------------

    def host_function(self, type: FuncType, function: api.HostFunction) -> api.Func:
        self.check_open()
        self.functions.append(function)
        entry = _host_entry(weakref.ref(self), len(self.functions) - 1, type)
        return WasmerFunc(self, type, wasmer.Function(self.native, entry, native_func_type(type)))

    def instantiate(self, module: api.Module, imports: Sequence[api.Extern]) -> api.Instance:
        self.check_open()
        assert isinstance(module, WasmerModule)
        namespaces: dict[str, dict[str, Any]] = {}
        for wanted, extern in zip(module.imports, imports, strict=True):
            namespaces.setdefault(wanted.module, {})[wanted.name] = _native(extern)
        import_object = wasmer.ImportObject()
        for namespace, externs in namespaces.items():
            import_object.register(namespace, externs)
        nested = self.nested
        try:
            self.fill_budget()
            native = wasmer.Instance(self._group.load(module), import_object)
        except BaseException as error:
            if not traps.is_trap(error) and type(error) is RuntimeError:
                raise _instantiation_failure(str(error)) from error
            try:
                self.fail(error, nested)
            except errors.TrapError as trap:
                raise api.segment_fault(trap) from trap
        self._instances.append(native)
        return WasmerInstance(self, module, native)

    def stack_budget(self, reserve: int) -> api.Global:
        self.gauge = make_gauge(reserve)
        return self._budget

    def exchange(
        self, entry: api.Func, memory: api.Memory, layout: api.ExchangeLayout, make_room: Callable[[int], None]
    ) -> api.Exchange:
        assert isinstance(entry, WasmerFunc)
        assert isinstance(memory, WasmerMemory)
        return _prepare_exchange(self, entry, memory, layout, make_room)

    def close(self) -> None:
        self.closed = True
        self.functions.clear()
        self._instances.clear()

    # -- for what was made in this store -----------------------------------------------------------------

    def check_open(self) -> None:
        """Raises ``PluginClosedError`` once the store is closed."""
        if self.closed:
            raise errors.PluginClosedError("the plugin is closed")

    def fill_budget(self) -> None:
        """Fills the stack budget. Called before every call; those from inside a host function leave it as it is."""
        if self.nested:
            return
        budget = self.gauge()
        if budget != self.filled:
            self.set_budget(budget)

    def set_budget(self, budget: int) -> None:
        """Sets the bytes of stack that the next call may use."""
        self._budget.native.value = budget
        self.filled = budget

    def fail(self, error: BaseException, nested: bool) -> NoReturn:
        """Raises what a call that did not end well leaves behind.

        Args:
            error: What the engine raised.
            nested: What :attr:`nested` was before the call.
        """
        self.nested = nested
        # Frames that were left by a trap have not given back what they took from the budget.
        self.filled = 0
        out_of_stack = self._budget.native.value < 0
        raised, self.raised = self.raised, None
        try:
            if raised is not None:
                raise raised
            if traps.is_trap(error):
                raise traps.from_error(error, out_of_stack=out_of_stack)
            if type(error).__name__ == "PanicException":
                raise errors.EngineFailureError(f"the engine failed: {error}") from error
            raise error
        finally:
            del raised, error  # or the traceback would keep itself alive through this frame


def _instantiation_failure(text: str) -> errors.Error:
    if "Error while importing" in text:
        return errors.LinkError(text)
    return errors.InstantiationError(text)


# -- functions -----------------------------------------------------------------------------------------


class WasmerFunc(api.Func):
    """A function."""

    def __init__(self, store: WasmerStore, type: FuncType, native: Any) -> None:
        self.type = type
        self.native = native
        self._store = store
        self._callable = all(kind.is_number for kind in type.params + type.results)

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        store = self._store
        store.check_open()
        if len(args) != len(self.type.params):
            raise TypeError(f"expected {len(self.type.params)} arguments, got {len(args)}")
        if not self._callable:
            raise errors.UnsupportedFeatureError(f"functions of type {self.type} cannot be called from the host")
        numbers = [wrap(kind, value) for kind, value in zip(self.type.params, args, strict=True)]
        nested = store.nested
        store.fill_budget()
        try:
            results = self.native(*numbers)
        except BaseException as error:
            store.fail(error, nested)
        if results is None:
            return ()
        return tuple(results) if isinstance(results, (list, tuple)) else (results,)


def _host_entry(store: weakref.ref[WasmerStore], index: int, type: FuncType) -> Callable[..., Any]:
    """What the engine calls for a host function.

    It knows its store by a weak reference only: the engine holds it in a way that the garbage collector does not see,
    so that a strong one would keep a forgotten plugin alive for ever.
    """
    results = type.results

    def entry(*args: Any) -> Any:
        owner = store()
        if owner is None:
            raise errors.PluginClosedError("the plugin is gone")
        nested = owner.nested
        try:
            owner.nested = True
            given = owner.functions[index](*args)
            if not results:
                return None
            if len(results) == 1:
                return wrap(results[0], given)
            if not isinstance(given, tuple) or len(given) != len(results):
                raise TypeError(f"expected {len(results)} results, got {given!r:.100}")
            return tuple(map(wrap, results, given))
        except BaseException as error:
            owner.raised = error
            raise
        finally:
            owner.nested = nested

    return entry


# -- memories, globals, tables ---------------------------------------------------------------------------


class WasmerMemory(api.Memory):
    """A memory, seen through a view that shows as many bytes as there were when it was made; the base does not move.

    The view is made from the bare address: one over the package's ``Buffer`` could be dropped on its own thread only,
    and the garbage collector does not ask which thread it runs on. :attr:`native` keeps the memory.
    """

    def __init__(self, store: WasmerStore, type: MemoryType, native: Any) -> None:
        self.type = type
        self.native = native
        self._store = store
        self.view = _map(native)

    @property
    def size(self) -> int:
        self._store.check_open()
        size: int = self.native.data_size
        if size != len(self.view):
            self.view = _map(self.native)
        return size

    def read(self, offset: int, length: int) -> bytes:
        end = offset + length
        if self._store.closed or not 0 <= offset <= end <= len(self.view):
            self._check(offset, length)
        return self.view[offset:end].tobytes()

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        if self._store.closed or not 0 <= offset <= end <= len(self.view):
            self._check(offset, len(data))
        self.view[offset:end] = data

    def grow(self, pages: int) -> int:
        self._store.check_open()
        try:
            previous: int = self.native.grow(pages)
        except RuntimeError as error:
            raise MemoryError(f"the memory cannot grow by {pages} pages") from error
        self.view = _map(self.native)
        return previous

    def _check(self, offset: int, length: int) -> None:
        self._store.check_open()
        end = offset + length
        if offset < 0 or length < 0 or (end > len(self.view) and end > self.size):
            raise IndexError(f"bytes {offset} to {end} are not all inside a memory of {self.size} bytes")


def _map(native: Any) -> memoryview:
    size: int = native.data_size
    if not size:
        return memoryview(b"")
    with memoryview(native.buffer) as whole:
        if not whole:
            return memoryview(b"")  # the package has no length for 4 GiB
        address = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


class WasmerGlobal(api.Global):
    """A global."""

    def __init__(self, store: WasmerStore, type: GlobalType, native: Any) -> None:
        self.type = type
        self.native = native
        self._store = store

    def get(self) -> int | float:
        self._store.check_open()
        value: int | float = self.native.value
        return value

    def set(self, value: int | float) -> None:
        self._store.check_open()
        self.native.value = wrap(self.type.content, value)


class WasmerTable(api.Table):
    """A table."""

    def __init__(self, store: WasmerStore, type: TableType, native: Any) -> None:
        self.type = type
        self.native = native
        self._store = store

    @property
    def size(self) -> int:
        self._store.check_open()
        size: int = self.native.size
        return size


class WasmerInstance(api.Instance):
    """An instance. Exports are looked up once."""

    def __init__(self, store: WasmerStore, module: api.Module, native: Any) -> None:
        self._store = store
        self._module = module
        self._native = native
        self._exports: dict[str, api.Extern] | None = None

    @property
    def exports(self) -> Mapping[str, api.Extern]:
        if self._exports is None:
            self._store.check_open()
            # By iteration: attribute access cannot reach names such as `__class__`.
            natives = dict(iter(self._native.exports))
            wrapped = ((export.name, export.type) for export in self._module.exports)
            self._exports = {name: _wrap_export(self._store, type, natives[name]) for name, type in wrapped}
        return self._exports


def _wrap_export(store: WasmerStore, type: ExternType, native: Any) -> api.Extern:
    if isinstance(type, FuncType):
        return WasmerFunc(store, type, native)
    if isinstance(type, MemoryType):
        return WasmerMemory(store, type, native)
    if isinstance(type, GlobalType):
        return WasmerGlobal(store, type, native)
    assert isinstance(type, TableType)
    return WasmerTable(store, type, native)


def _native(extern: api.Extern) -> Any:
    assert isinstance(extern, (WasmerFunc, WasmerMemory, WasmerGlobal, WasmerTable))
    return extern.native


# -- one call in one crossing ------------------------------------------------------------------------------


def _prepare_exchange(
    store: WasmerStore,
    entry: WasmerFunc,
    memory: WasmerMemory,
    layout: api.ExchangeLayout,
    make_room: Callable[[int], None],
) -> api.Exchange:
    """The exchange with everything looked up beforehand: one crossing, and plain reads and writes of memory."""
    call = entry.native
    gauge = store.gauge
    start, state = layout.input, layout.state
    read_state = api.EXCHANGE_STATE.unpack_from

    def exchange(data: bytes) -> bytes | None:
        if store.closed:
            store.check_open()
        # A signal handler can raise between the end of a call and `fail`: nothing of that counts any more.
        store.raised = None
        store.nested = False
        # Before anything is written: a call that is refused for want of stack leaves nothing behind.
        budget = gauge()
        if budget != store.filled or not store.settled:
            store.set_budget(budget)
        store.settled = False
        length = len(data)
        end = start + length
        if end > len(memory.view) and end > memory.size:
            make_room(end)
        memory.view[start:end] = data
        try:
            call(length)
        except BaseException as error:
            store.fail(error, nested=False)
        store.settled = True
        view = memory.view
        status, offset, length, error_handle = read_state(view, state)
        if status or error_handle:
            return None
        end = offset + length
        if end > len(view) and end > memory.size:
            raise errors.EngineFailureError("the output lies outside the kernel's memory")
        return memory.view[offset:end].tobytes()

    return exchange
