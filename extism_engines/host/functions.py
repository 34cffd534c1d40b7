"""Host functions of the user: ``@host_fn`` and what it makes (section 10.3 of the description)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import wasm
from ..errors import HostFunctionError, UnsupportedFeatureError
from .codecs import Signature, infer
from .current import CurrentPlugin
from .values import WASM_TYPES, Val, ValType, check_number, type_name

NAMESPACE = "extism:host/user"
"""Where guests import the user's functions from, unless told otherwise."""


class Function:
    """A host function. The same one may be given to any number of plugins.

    Attributes:
        namespace: Module name that guests import it from.
        name: Name that guests import it by.
        args: Types of the parameters, as numbers of :class:`ValType`.
        returns: Types of the results, likewise.
        f: The Python function.
        user_data: Further arguments for it.
        wasm_type: Its type in wasm.
    """

    def __init__(
        self,
        namespace: str | None,
        name: str,
        args: Sequence[ValType],
        returns: Sequence[ValType],
        f: Callable[..., Any],
        *user_data: Any,
    ) -> None:
        """
        Raises:
            ValueError: A type is none of :class:`ValType`.
            UnsupportedFeatureError: It is a vector or reference type.
        """
        self.namespace = namespace
        self.name = name
        self._params = tuple(map(ValType, args))
        self._results = tuple(map(ValType, returns))
        self.args = [kind.value for kind in self._params]
        self.returns = [kind.value for kind in self._results]
        self.f = f
        self.user_data = user_data
        self.wasm_type = self._find_wasm_type()

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name, as guests import it."""
        return (NAMESPACE if self.namespace is None else self.namespace, self.name)

    def _find_wasm_type(self) -> wasm.FuncType:
        try:
            return wasm.FuncType(
                tuple(WASM_TYPES[kind] for kind in self._params), tuple(WASM_TYPES[kind] for kind in self._results)
            )
        except KeyError as error:
            raise UnsupportedFeatureError(
                f"host function {'::'.join(self.key)}: values of type {type_name(error.args[0])} cannot pass to Python"
            ) from None

    def bind(self, plugin: CurrentPlugin) -> Callable[..., Any]:
        """What the engine calls: takes and gives numbers.

        Whatever the function raises comes out as the cause of a ``HostFunctionError``; what is not an ``Exception``
        (``KeyboardInterrupt`` …) passes as it is.
        """
        run = self._run

        def bound(*numbers: Any) -> Any:
            try:
                return run(plugin, numbers)
            except Exception as error:
                text = f"host function {'::'.join(self.key)} raised {type(error).__name__}: {_text(error)}"
                raise HostFunctionError(text, exit_code=-1) from error

        return bound

    def _run(self, plugin: CurrentPlugin, numbers: tuple[Any, ...]) -> Any:
        inputs = [Val(kind, number) for kind, number in zip(self._params, numbers, strict=True)]
        outputs = [Val(kind, 0) for kind in self._results]
        self.f(plugin, inputs, outputs, *self.user_data)
        values = _values(outputs, self._results)
        if not values:
            return None
        return values if len(values) != 1 else values[0]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the Python function in its low-level form: plugin, inputs, outputs."""
        return self.f(*args, **kwargs)


def _values(outputs: list[Val], kinds: tuple[ValType, ...]) -> tuple[int | float, ...]:
    """What an explicit function has put into its outputs."""
    if len(outputs) != len(kinds):
        raise TypeError(f"{len(kinds)} outputs expected, {len(outputs)} are there")
    for slot, kind in zip(outputs, kinds, strict=True):
        if not isinstance(slot, Val) or slot.t is not kind:
            raise TypeError(f"an output of type {type_name(kind)} expected, got {slot!r:.100}")
    return tuple(check_number(kind, slot.value) for slot, kind in zip(outputs, kinds, strict=True))


class ExplicitFunction(Function):
    """A host function whose signature was given: it gets the plugin, inputs and outputs.

    It has name, documentation and attributes of the Python function, which is its ``__wrapped__``.
    """

    __name__: str
    __wrapped__: Callable[..., Any]

    def __init__(
        self,
        namespace: str | None,
        name: str,
        args: Sequence[ValType],
        returns: Sequence[ValType],
        func: Callable[..., Any],
        user_data: Sequence[Any] = (),
    ) -> None:
        """
        Raises:
            ValueError: A type is none of :class:`ValType`.
            UnsupportedFeatureError: It is a vector or reference type.
        """
        # First, so that attributes of the Python function never stand in for this one's own.
        functools.update_wrapper(self, func)
        super().__init__(namespace, name, args, returns, func, *user_data)
        self.func = func


class TypeInferredFunction(ExplicitFunction):
    """A host function whose signature was inferred from its annotations."""

    def __init__(
        self, namespace: str | None, name: str, func: Callable[..., Any], user_data: Sequence[Any] = ()
    ) -> None:
        """
        Raises:
            TypeError: The annotations do not say how the function is to be called.
        """
        signature = infer(func, len(user_data))
        super().__init__(
            namespace,
            name,
            [param.type for param in signature.params],
            [result.type for result in signature.results],
            _low_level(signature, func),
            user_data,
        )
        self.__wrapped__ = func
        self._signature = signature
        self._function = func

    def _run(self, plugin: CurrentPlugin, numbers: tuple[Any, ...]) -> Any:
        signature = self._signature
        given = self._function(*signature.decode(plugin, numbers), *self.user_data)
        return signature.encode(plugin, given)


def _low_level(signature: Signature, function: Callable[..., Any]) -> Callable[..., None]:
    """The form with plugin, inputs and outputs of a function that takes and gives plain values."""

    @functools.wraps(function)
    def run(plugin: CurrentPlugin, inputs: list[Val], outputs: list[Val], *user_data: Any) -> None:
        values = signature.decode(plugin, tuple(value.value for value in inputs))
        given = signature.encode(plugin, function(*values, *user_data))
        for slot, value in zip(outputs, given if isinstance(given, tuple) else (given,), strict=False):
            slot.value = value

    return run


def check_functions(functions: Iterable[Function] | None) -> tuple[Function, ...]:
    """What a caller passes as ``functions=``, at this moment; nothing for ``None``.

    Raises:
        TypeError: It is not an iterable of what :func:`host_fn` makes.
    """
    if functions is None:
        return ()
    if not isinstance(functions, Iterable):
        raise TypeError(f"functions=[…] takes what @host_fn() makes, in a list, not {functions!r:.100}")
    found = tuple(functions)
    for each in found:
        if not isinstance(each, Function):
            raise TypeError(f"functions=[…] takes what @host_fn() makes, not {each!r:.100}")
    return found


def _further_arguments(user_data: object) -> list[Any]:
    if user_data is None:
        return []
    if isinstance(user_data, bytes):
        return [user_data]
    if isinstance(user_data, Sequence) and not isinstance(user_data, str):
        return list(user_data)
    raise TypeError(f"user_data is bytes or a list of further arguments, not {type(user_data).__name__}")


HOST_FN_REGISTRY: list[Function] = []
"""Every function that :func:`host_fn` made in this process: what a plugin gets that is given no ``functions``. Kept for
compatibility with the official SDK; pass ``functions=[…]`` to leave it alone."""


def host_fn(
    name: str | None = None,
    namespace: str | None = None,
    signature: tuple[Sequence[ValType], Sequence[ValType]] | None = None,
    user_data: bytes | Sequence[Any] | None = None,
) -> Callable[[Callable[..., Any]], ExplicitFunction]:
    """Makes a host function of a Python function, and registers it.

    Args:
        name: What guests import it by; the function's own name by default.
        namespace: Where guests import it from; ``extism:host/user`` by default.
        signature: Types of parameters and of results. The function then gets the plugin, a list of inputs and a list of
            outputs, and sets ``outputs[i].value``. Without it the types come from the annotations: ``str`` and
            ``bytes`` pass as blocks, ``int``, ``float`` and ``bool`` as numbers, a ``tuple[…]`` result as several. A
            first parameter annotated ``CurrentPlugin`` gets the plugin. Parameters without annotation come last and
            take the user data.
        user_data: Further arguments: ``bytes`` for one, a sequence for several.

    Raises:
        TypeError: An annotation is missing or cannot pass, or the function does not take as many arguments as it would
            get; or ``@host_fn`` was written without parentheses.
        UnsupportedFeatureError: A type of the signature is a vector or a reference.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"write @host_fn(): its first argument is what guests import, not {name!r:.100}")
    data = _further_arguments(user_data)

    def decorate(function: Callable[..., Any]) -> ExplicitFunction:
        given_name = name or getattr(function, "__name__", None)
        if not given_name:
            raise TypeError("a host function without a name of its own needs name=…")
        made: ExplicitFunction
        if signature is None:
            made = TypeInferredFunction(namespace, given_name, function, data)
        else:
            params, results = signature
            made = ExplicitFunction(namespace, given_name, params, results, function, data)
        HOST_FN_REGISTRY.append(made)
        return made

    return decorate


def _text(error: Exception) -> str:
    """An exception's text; what it says of itself may fail, too."""
    try:
        return str(error)
    except Exception as failure:
        return f"(its text cannot be had: {type(failure).__name__})"
