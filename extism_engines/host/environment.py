"""The functions of ``extism:host/env`` that the host provides (sections 1.3, 1.4 and 8 of the description)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from ..errors import HostFunctionError, HttpNotAllowedError
from ..wasm.types import FuncType, ValueType
from .current import CurrentPlugin
from .handles import read_handle, take_handle
from .logs import LEVELS, guest_level, listens
from .variables import Vars

_I32, _I64 = ValueType.I32, ValueType.I64


class Environment:
    """Config, vars, logging and HTTP for one plugin instance."""

    def __init__(self, plugin: CurrentPlugin, vars: Vars, logger: logging.Logger, plugin_id: str) -> None:
        self._kernel = plugin._kernel
        self._config = plugin.config
        self._vars = vars
        self._logger = logger
        self._id = plugin_id

    def functions(self) -> dict[str, tuple[FuncType, Callable[..., Any]]]:
        """Every function by name, with its type."""
        found: dict[str, tuple[FuncType, Callable[..., Any]]] = {
            "config_get": (FuncType((_I64,), (_I64,)), self._config_get),
            "var_get": (FuncType((_I64,), (_I64,)), self._var_get),
            "var_set": (FuncType((_I64, _I64)), self._var_set),
            "http_request": (FuncType((_I64, _I64), (_I64,)), self._http_request),
            "http_status_code": (FuncType((), (_I32,)), lambda: 0),
            "http_headers": (FuncType((), (_I64,)), lambda: 0),
            "get_log_level": (FuncType((), (_I32,)), lambda: guest_level(self._logger)),
        }
        for name, level in LEVELS.items():
            found[f"log_{name}"] = (FuncType((_I64,)), self._log_at(level))
        return found

    # -- config and vars -----------------------------------------------------------------------------------

    def _config_get(self, key: int) -> int:
        value = self._config.get(self._take_text(key, "config key"))
        return 0 if value is None else self._kernel.store_block(value.encode())

    def _var_get(self, key: int) -> int:
        value = self._vars.find(self._take_text(key, "var key"))
        return 0 if value is None else self._kernel.store_block(value)

    def _var_set(self, key: int, value: int) -> None:
        self._vars.check_enabled()
        # The key stays alive: some guests use its handle again.
        name = _text(read_handle(self._kernel, key, "var key"), "var key")
        # Handle 0 is the empty value, which takes the variable away.
        self._vars[name] = take_handle(self._kernel, value, "var value")

    # -- logging -------------------------------------------------------------------------------------------

    def _log_at(self, level: int) -> Callable[[int], None]:
        def log(message: int) -> None:
            if listens(self._logger, level):
                text = take_handle(self._kernel, message, "log message").decode("utf-8", "replace")
                self._logger.log(level, "%s", text, extra={"plugin": self._id})
            else:
                self._kernel.free(message)

        return log

    # -- HTTP ----------------------------------------------------------------------------------------------

    def _http_request(self, request: int, _body: int) -> int:
        """This version sends nothing: every host is one that is not allowed."""
        text = self._take_text(request, "http request")
        try:
            url = json.loads(text)["url"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise HostFunctionError(f"the HTTP request is not an object with a url: {error}", exit_code=-1) from error
        raise HttpNotAllowedError(
            f"HTTP request to {url} is not allowed: this version has no HTTP for plugins", exit_code=-1
        )

    def _take_text(self, handle: int, what: str) -> str:
        return _text(take_handle(self._kernel, handle, what), what)


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HostFunctionError(f"invalid utf-8 sequence in {what}: {error}", exit_code=-1) from error
