"""The functions of ``extism:host/env`` that the host provides (sections 1.3, 1.4 and 8 of the description)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from ..errors import HostFunctionError, HttpNotAllowedError
from ..wasm.types import FuncType, ValueType
from .current import CurrentPlugin
from .logs import LEVELS, guest_level, listens
from .variables import Vars

_I32, _I64 = ValueType.I32, ValueType.I64


class Environment:
    """Config, vars, logging and HTTP for one plugin instance."""

    def __init__(self, plugin: CurrentPlugin, vars: Vars, logger: logging.Logger, plugin_id: str) -> None:
        self._plugin = plugin
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
        value = self._plugin.config.get(self._take_text(key, "config key"))
        return 0 if value is None else self._plugin.write_handle(value.encode())

    def _var_get(self, key: int) -> int:
        value = self._vars.get(self._take_text(key, "var key"))
        return 0 if value is None else self._plugin.write_handle(value)

    def _var_set(self, key: int, value: int) -> None:
        self._vars.check_enabled()
        # The key stays alive: some guests use its handle again.
        name = self._text(key, "var key")
        if not value:
            self._vars.pop(name, None)
            return
        self._vars[name] = self._plugin.read_handle(value, "var value")
        self._free(value)

    # -- logging -------------------------------------------------------------------------------------------

    def _log_at(self, level: int) -> Callable[[int], None]:
        def log(message: int) -> None:
            if listens(self._logger, level):
                text = self._plugin.read_handle(message, "log message").decode("utf-8", "replace")
                self._logger.log(level, "%s", text, extra={"plugin": self._id})
            self._free(message)

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

    # -- blocks --------------------------------------------------------------------------------------------

    def _take_text(self, handle: int, what: str) -> str:
        text = self._text(handle, what)
        self._free(handle)
        return text

    def _text(self, handle: int, what: str) -> str:
        try:
            return self._plugin.read_handle(handle, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise HostFunctionError(f"invalid utf-8 sequence in {what}: {error}", exit_code=-1) from error

    def _free(self, handle: int) -> None:
        if handle:
            self._plugin.free_handle(handle)
