"""One set of instances: the plugin's modules linked to a kernel, in one store.

:class:`~extism_engines.plugin.Plugin` is what callers hold; it makes one of these when it is created, and a fresh one
on ``reset()`` and after a call of ``_start``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from . import linking
from .compiled import CompiledPlugin
from .engines import api
from .errors import CallError, FunctionNotFoundError, InstantiationError, TrapError
from .host.current import CurrentPlugin
from .host.environment import Environment
from .host.variables import Vars
from .kernel import NAMESPACE, Kernel
from .linking import MAIN, Linkable, Offer
from .wasm import STACK_IMPORT, STACK_TYPE, FuncType

_NOTHING = FuncType()
_INITIALIZE = "_initialize"
_CONSTRUCTORS = "__wasm_call_ctors"
_HASKELL = "hs_init"

_REMEDIES = {
    "wasi_snapshot_preview1": "this version has no WASI",
    "wasi_unstable": "this version has no WASI",
    "extism:host/user": "give a host function of this name in functions=[…]",
    "env": "plugins made before Extism 1.0 cannot be run",
}


class PluginInstance:
    """Instances of all modules of a plugin, a kernel, and the host's functions bound to them."""

    def __init__(
        self,
        compiled: CompiledPlugin,
        vars: Vars,
        config: Mapping[str, str],
        logger: logging.Logger,
        plugin_id: str,
    ) -> None:
        """Makes and links everything, and runs what runs at the start. Nothing is left behind when that fails.

        Raises:
            LinkError, InstantiationError, TrapError: See :meth:`extism_engines.Plugin.__init__`.
        """
        self.compiled = compiled
        self.vars: MutableMapping[str, bytes] = vars
        self.config = config
        self.host_context: Any = None
        self._initialised = False
        self._plugin = CurrentPlugin(self)
        ordered = linking.order(compiled.linkables)
        self.store = compiled.engine.new_store(ordered[-1].module)
        try:
            self.kernel = Kernel(compiled.kernel_code, self.store, compiled.limits.memory_pages)
            offers = self._offers(Environment(self._plugin, vars, logger, plugin_id))
            linking.check(compiled.linkables, offers, _REMEDIES)
            self._instances = linking.link(ordered, offers, self.store, self._start)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drops everything. What was handed out before refuses from now on."""
        self.store.close()

    # -- linking -------------------------------------------------------------------------------------------

    def _offers(self, environment: Environment) -> dict[tuple[str, str], Offer]:
        """What the modules may import beside each other: of two things of one name the later wins."""
        offers: dict[tuple[str, str], Offer] = {}
        for name, function in self.kernel.functions.items():
            assert isinstance(function, api.Func)
            offers[NAMESPACE, name] = Offer(function.type, _constant(function))
        for name, (type, implementation) in environment.functions().items():
            offers[NAMESPACE, name] = Offer(type, self._host_function(type, implementation))
        for user_function in self.compiled.functions:
            type = user_function.wasm_type
            offers[user_function.key] = Offer(type, self._host_function(type, user_function.bind(self._plugin)))
        if not self.compiled.engine.capabilities.guards_stack:
            reserve = max(linkable.stack_reserve for linkable in self.compiled.linkables)
            budget = self.store.stack_budget(reserve)
            offers[STACK_IMPORT] = Offer(STACK_TYPE, _constant(budget))
        return offers

    def _host_function(self, type: FuncType, implementation: Callable[..., Any]) -> linking.Provide:
        return lambda: self.store.host_function(type, implementation)

    def _start(self, linkable: Linkable, instance: api.Instance) -> None:
        """Runs a module's start function, which the rewriter has made an export, and a linked one's initialiser."""
        if linkable.start_export is not None:
            _call(instance, linkable.start_export)
        if linkable.name == MAIN:
            return
        type = linkable.exports.get(_INITIALIZE)
        if type == _NOTHING:
            _call(instance, _INITIALIZE)
        elif isinstance(type, FuncType):
            raise InstantiationError(f"`{_INITIALIZE}` of module `{linkable.name}` must be {_NOTHING}, not {type}")

    # -- calling -------------------------------------------------------------------------------------------

    def initialise(self) -> None:
        """Runs the guest's own initialiser, once (section 5.3 of the description).

        Raises:
            CallError: It failed; the failure is the cause. The instances must not be used further.
            HostFunctionError: A host function raised in it.
        """
        if self._initialised:
            return
        main = self._instances[MAIN]
        types = self.compiled.main.exports
        if isinstance(types.get(_HASKELL), FuncType):
            if types.get(_INITIALIZE) == _NOTHING:
                _initialise(main, _INITIALIZE, "failed to initialize Haskell reactor runtime")
            _initialise(main, _HASKELL, "failed to initialize Haskell using hs_init", 0, 0)
        elif types.get(_CONSTRUCTORS) == _NOTHING:
            _initialise(main, _CONSTRUCTORS, "failed to initialize wasi runtime")
        elif types.get(_INITIALIZE) == _NOTHING:
            _initialise(main, _INITIALIZE, "failed to initialize wasi runtime")
        self._initialised = True

    def prepare_entry(self, name: str) -> api.Exchange:
        """The exchange that calls an export of the main module.

        Raises:
            FunctionNotFoundError: There is no such export, or it is not a function.
            CallError: It has parameters or several results.
        """
        type = self.compiled.main.exports.get(name)
        if not isinstance(type, FuncType):
            raise FunctionNotFoundError(f"Function not found: {name}", exit_code=-1)
        if len(type.results) > 1:
            raise CallError(f"Function {name} has {len(type.results)} results, expected 0 or 1", exit_code=-1)
        if type.params:
            raise CallError(f"expected {len(type.params)} arguments, got 0", exit_code=-1)
        export = self._instances[MAIN].exports[name]
        assert isinstance(export, api.Func)
        return self.kernel.prepare_entry(export)


def _constant(extern: api.Extern) -> linking.Provide:
    return lambda: extern


def _call(instance: api.Instance, name: str, *args: int) -> None:
    function = instance.exports[name]
    assert isinstance(function, api.Func)
    function(*args)


def _initialise(instance: api.Instance, name: str, failure: str, *args: int) -> None:
    try:
        _call(instance, name, *args)
    except (TrapError, TypeError) as error:
        raise CallError(f"{failure}: {error}", exit_code=-1) from error
