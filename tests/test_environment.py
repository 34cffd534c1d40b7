"""Config, vars, logging and HTTP as guests see them, on every engine (sections 1.3, 1.4 and 8 of the description)."""

from __future__ import annotations

import array
import logging
from collections.abc import Iterator
from typing import Any

import pytest

import extism_engines as extism
from extism_engines import HostFunctionError, HttpNotAllowedError
from extism_engines.engines import api
from extism_engines.host.logs import LEVELS, OFF, TRACE
from extism_engines.host.variables import DEFAULT_MAX_BYTES, Vars, merge_config

from .support import binary, plugin, plugin_text

IMPORTS = """
  (import "extism:host/env" "config_get" (func $config_get (param i64) (result i64)))
  (import "extism:host/env" "var_get" (func $var_get (param i64) (result i64)))
  (import "extism:host/env" "var_set" (func $var_set (param i64 i64)))
  (import "extism:host/env" "log_trace" (func $log_trace (param i64)))
  (import "extism:host/env" "log_debug" (func $log_debug (param i64)))
  (import "extism:host/env" "log_info" (func $log_info (param i64)))
  (import "extism:host/env" "log_warn" (func $log_warn (param i64)))
  (import "extism:host/env" "log_error" (func $log_error (param i64)))
  (import "extism:host/env" "get_log_level" (func $get_log_level (result i32)))
  (import "extism:host/env" "http_request" (func $http_request (param i64 i64) (result i64)))
  (import "extism:host/env" "http_status_code" (func $http_status_code (result i32)))
  (import "extism:host/env" "http_headers" (func $http_headers (result i64)))
"""

# `$key` and `$value` are blocks; `$other` is a later one, so that none of them is the last.
BLOCKS = """
  (global $key (mut i64) (i64.const 0)) (global $value (mut i64) (i64.const 0)) (global $other (mut i64) (i64.const 0))
  (data (i32.const 0) "keyvalue\\ff\\fe")
  (func $blocks
    (global.set $key (call $copy (i32.const 0) (i32.const 3)))
    (global.set $value (call $copy (i32.const 3) (i32.const 5)))
    (global.set $other (call $copy (i32.const 8) (i32.const 2))))
"""

KEY, VALUE, OTHER, NONE = "(global.get $key)", "(global.get $value)", "(global.get $other)", "(i64.const 0)"
INPUT = "(call $input_offset)"


def guest(engine: api.Engine, body: str, limits: dict[str, Any] | None = None, **options: Any) -> extism.Plugin:
    """A plugin whose export ``run`` has this body, with the blocks made before; the body may set the output."""
    text = f'{BLOCKS} (func (export "run") (result i32) (call $blocks) {body} (i32.const 0))'
    manifest = {"wasm": [{"data": binary(plugin_text(text, IMPORTS))}], "memory": limits or {}}
    return extism.Plugin(manifest, engine=engine, functions=[], **options)


def output(engine: api.Engine, body: str, data: bytes = b"", **options: Any) -> bytes:
    with guest(engine, body, **options) as made:
        result: bytes = made.call("run", data)
        return result


def failure(engine: api.Engine, body: str, data: bytes = b"", **options: Any) -> str:
    """The text of the host's error that unwinds this body."""
    with guest(engine, body + " (call $out (call $copy (i32.const 0) (i32.const 3)))", **options) as made:
        with pytest.raises(HostFunctionError) as caught:
            made.call("run", data)
        assert caught.value.exit_code == made.exit_code == -1
        assert (caught.value.function, caught.value.engine) == ("run", engine.name)
        return str(caught.value)


def lengths(engine: api.Engine, body: str, **options: Any) -> tuple[int, int]:
    """How long the key's and the value's block are afterwards, as the guest sees it: 0 when freed."""
    check = f"""{body} (call $store_u8 {OTHER} (i32.wrap_i64 (call $length {KEY})))
      (call $store_u8 (i64.add {OTHER} (i64.const 1)) (i32.wrap_i64 (call $length {VALUE}))) (call $out {OTHER})"""
    key, value = output(engine, check, **options)
    return key, value


def drop(call: str) -> str:
    return f"(drop {call})"


# -- config ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["v", "größe €", "x" * 100_000, "with\0nul"])
def test_config(engine: api.Engine, value: str) -> None:
    body = f"(call $out (call $config_get {KEY}))"
    assert output(engine, body, config={"key": value}) == value.encode()


def test_config_that_is_not_there_or_empty(engine: api.Engine) -> None:
    body = f"(if (i64.ne (call $config_get {KEY}) {NONE}) (then unreachable))"
    configs: list[dict[str, str | None] | None] = [None, {}, {"other": "x"}, {"key": ""}, {"key": None}]
    for config in configs:
        assert output(engine, body, config=config) == b""


def test_config_of_the_empty_key(engine: api.Engine) -> None:
    assert output(engine, f"(call $out (call $config_get {NONE}))", config={"": "nothing"}) == b"nothing"


def test_config_of_the_manifest_and_the_caller(engine: api.Engine) -> None:
    wasm = binary(plugin_text('(func (export "run") (call $out (call $config_get (call $input_offset))))', IMPORTS))
    manifest = {"wasm": [{"data": wasm}], "config": {"a": "1", "b": "2", "c": "3"}}
    compiled = extism.CompiledPlugin(manifest, functions=[], engine=engine)
    with extism.Plugin(compiled, config={"b": "two", "c": None, "d": "4"}) as made, extism.Plugin(compiled) as other:
        assert [made.call("run", key) for key in "abcd"] == [b"1", b"two", b"", b"4"]
        assert [other.call("run", key) for key in "abcd"] == [b"1", b"2", b"3", b""]
        assert dict(made.config) == {"a": "1", "b": "two", "d": "4"}


@pytest.mark.parametrize("config", [{"a": 1}, {"a": b"x"}, {1: "a"}, {"a": "b", "c": ["d"]}])
def test_config_of_anything_but_text(engine: api.Engine, config: Any) -> None:
    with pytest.raises(TypeError, match="config holds text by text"):
        plugin(engine, "", config=config)


@pytest.mark.parametrize("config", [[], [("a", "b")], "", "a", b"{}", 0, 5, False, {"a"}])
def test_config_that_is_no_mapping(engine: api.Engine, config: Any) -> None:
    with pytest.raises(
        TypeError, match=f"^config is a mapping of text to text, such as a dict, not {type(config).__name__}$"
    ):
        plugin(engine, "", config=config)


def test_the_key_of_config_get_is_freed(engine: api.Engine) -> None:
    for config in ({"key": "x"}, {}):
        assert lengths(engine, drop(f"(call $config_get {KEY})"), config=config) == (0, 5)


def test_merging_config() -> None:
    base = {"a": "1"}
    assert merge_config(base, {"a": None, "b": "2", "c": None}) == {"b": "2"}
    assert merge_config(base, None) == base == {"a": "1"}


# -- vars ------------------------------------------------------------------------------------------------------


def test_vars_stay_between_calls(engine: api.Engine) -> None:
    body = f"""(call $out (call $var_get {KEY}))
      (call $var_set (call $copy (i32.const 0) (i32.const 3)) {INPUT})"""
    with guest(engine, body) as made:
        assert [made.call("run", data) for data in (b"1", b"\xff\0", b"", b"4", b"5")] == [
            b"",
            b"1",
            b"\xff\0",
            b"",
            b"4",
        ]
        assert dict(made.vars) == {"key": b"5"}
        made.vars["key"] = b"host"
        assert made.call("run", b"6") == b"host"
        del made.vars["key"]
        assert made.call("run", b"7") == b""


def test_a_var_is_a_copy(engine: api.Engine) -> None:
    body = f"""(call $var_set {KEY} {VALUE})
      (call $store_u8 (call $var_get (call $copy (i32.const 0) (i32.const 3))) (i32.const 0))
      (call $out (call $var_get (call $copy (i32.const 0) (i32.const 3))))"""
    assert output(engine, body) == b"value"


def test_the_empty_key_and_value(engine: api.Engine) -> None:
    body = f"(call $var_set {NONE} {VALUE}) (call $out (call $var_get {NONE}))"
    with guest(engine, body) as made:
        assert made.call("run") == b"value"
        assert dict(made.vars) == {"": b"value"}
    with guest(engine, f"(if (i64.ne (call $var_get {KEY}) {NONE}) (then unreachable))") as made:
        for empty in (b"", bytearray()):
            made.vars["key"] = b"set"
            made.vars["key"] = empty  # type: ignore[assignment]
            assert made.call("run") == b""
            assert dict(made.vars) == {}
        made.vars["key"] = b""
        assert len(made.vars) == 0


def test_value_0_takes_a_var_away(engine: api.Engine) -> None:
    with guest(engine, f"(call $var_set {KEY} {NONE})") as made:
        made.vars.update({"key": b"x", "other": b"y"})
        made.call("run")
        made.call("run")
        assert dict(made.vars) == {"other": b"y"}


def test_what_vars_free(engine: api.Engine) -> None:
    # The key of var_set stays: guests of other hosts use its handle again.
    assert lengths(engine, f"(call $var_set {KEY} {VALUE})") == (3, 0)
    assert lengths(engine, f"(call $var_set {KEY} {NONE})") == (3, 5)
    assert lengths(engine, drop(f"(call $var_get {KEY})")) == (0, 5)
    body = f"(call $var_set {KEY} {VALUE}) (call $var_set {KEY} {OTHER}) (call $out (call $var_get {KEY}))"
    assert output(engine, body) == b"\xff\xfe"


def test_nothing_is_set_when_var_set_fails(engine: api.Engine) -> None:
    with guest(engine, f"(call $var_set {KEY} {VALUE})", {"max_var_bytes": 55}) as made:
        with pytest.raises(HostFunctionError, match=r"^Variable store is full$"):
            made.call("run")
        assert dict(made.vars) == {}


def test_how_much_vars_hold(engine: api.Engine) -> None:
    set_input = f"(call $var_set {KEY} {INPUT})"
    for limit, size in [(51 + 100, 100), (52, 1), (None, DEFAULT_MAX_BYTES - 51), (2**64 - 1, 2_000_000)]:
        with guest(engine, set_input, {"max_var_bytes": limit}) as made:
            for _ in range(2):  # what it replaces is deducted
                made.call("run", bytes(size))
                assert made.vars["key"] == bytes(size)
            if size < 2_000_000:
                with pytest.raises(HostFunctionError, match="^Variable store is full$"):
                    made.call("run", bytes(size + 1))
                assert made.vars["key"] == bytes(size)


def test_the_limit_counts_all_vars(engine: api.Engine) -> None:
    with guest(engine, f"(call $var_set {KEY} {VALUE})", {"max_var_bytes": 2 * 48 + 1 + 3 + 5 + 1}) as made:
        made.vars["a"] = b"1"
        made.call("run")
        made.vars["a"] = b"2"
        with pytest.raises(HostFunctionError, match="Variable store is full"):
            made.vars["a"] = b"xy"
        with pytest.raises(HostFunctionError, match="Variable store is full"):
            made.vars["ä"] = b"1"
        assert dict(made.vars) == {"a": b"2", "key": b"value"}
        made.vars["a"] = b""
        made.vars["ä"] = b""
        made.call("run")
        assert dict(made.vars) == {"key": b"value"}


def test_vars_that_are_switched_off(engine: api.Engine) -> None:
    for body in (f"(call $var_set {KEY} {VALUE})", f"(call $var_set {KEY} {NONE})"):
        assert failure(engine, body, limits={"max_var_bytes": 0}) == "Vars are disabled by this host"
    found = f"(if (i64.ne (call $var_get {KEY}) {NONE}) (then unreachable))"
    assert output(engine, found, limits={"max_var_bytes": 0}) == b""
    with guest(engine, "", {"max_var_bytes": 0}) as made:
        for value in (b"x", b""):
            with pytest.raises(HostFunctionError, match="^Vars are disabled by this host$"):
                made.vars["key"] = value


def test_vars_by_themselves() -> None:
    held = Vars(1000)
    held["ä"] = b"12"
    assert (held["ä"], len(held), list(held), dict(held), repr(held)) == (
        b"12",
        1,
        ["ä"],
        {"ä": b"12"},
        "Vars({'ä': b'12'})",
    )
    wrong: list[tuple[Any, Any]] = [("a", "text"), ("a", 5), (b"a", b"x"), (1, b"x"), (1, 5), ("a", None), ("a", [1])]
    for key, value in wrong:
        with pytest.raises(TypeError, match="vars hold bytes by str"):
            held[key] = value
    with pytest.raises(KeyError):
        held["missing"]
    with pytest.raises(KeyError):
        del held["missing"]
    changing = bytearray(b"xy")
    for given in (changing, memoryview(changing), array.array("B", changing)):
        held["ä"] = given  # type: ignore[assignment]
    changing[0] = 0
    assert (held["ä"], type(held["ä"]), held.find("ä"), held.find("missing")) == (b"xy", bytes, b"xy", None)
    # Freed room is room again, to the byte.
    del held["ä"]
    held["k"] = bytes(1000 - 49)
    with pytest.raises(HostFunctionError):
        held["k"] = bytes(1000 - 48)
    held.clear()
    held["k"] = bytes(1000 - 49)


# -- handles that are none, and keys that are no text ----------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("(drop (call $config_get {}))", "config key"),
        ("(drop (call $var_get {}))", "var key"),
        ("(call $var_set {} (global.get $value))", "var key"),
        ("(call $var_set (global.get $key) {})", "var value"),
        ("(drop (call $http_request {} (i64.const 0)))", "http request"),
    ],
)
def test_invalid_handles(engine: api.Engine, call: str, what: str) -> None:
    for handle, shown in [
        ("(i64.const 4096)", "4096"), ("(i64.const -1)", "18446744073709551615"), ("(i64.const 17)", "17"),
        ("(i64.const 0x100000000)", "4294967296"),
    ]:  # fmt: skip
        assert failure(engine, call.format(handle)) == f"invalid handle offset for {what}: {shown}"
    middle = "(i64.add (global.get $value) (i64.const 1))"
    assert failure(engine, call.format(middle)).startswith(f"invalid handle offset for {what}: ")
    freed = f"(call $free {VALUE}) " + call.format(VALUE)
    if "global.get $value" not in call:
        assert failure(engine, freed).startswith(f"invalid handle offset for {what}: ")


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("(drop (call $config_get {}))", "config key"),
        ("(drop (call $var_get {}))", "var key"),
        ("(call $var_set {} (global.get $value))", "var key"),
        ("(drop (call $http_request {} (i64.const 0)))", "http request"),
    ],
)
def test_keys_that_are_not_utf_8(engine: api.Engine, call: str, what: str) -> None:
    assert failure(engine, call.format(OTHER)).startswith(f"invalid utf-8 sequence in {what}: ")


# -- logging ---------------------------------------------------------------------------------------------------


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def records() -> Records:
    """What comes to :func:`logger`."""
    return Records()


@pytest.fixture
def logger(records: Records) -> Iterator[logging.Logger]:
    """A logger apart from all others, with everything switched on."""
    made = logging.getLogger("extism_engines_tests.environment")
    made.propagate = False
    made.setLevel(TRACE)
    made.addHandler(records)
    yield made
    made.handlers = []
    made.setLevel(logging.NOTSET)


def test_messages_go_to_the_logger(engine: api.Engine, records: Records, logger: logging.Logger) -> None:
    body = "".join(
        f"(call $log_{name} (call $copy (i32.const 0) (i32.const {size})))" for size, name in enumerate(LEVELS)
    )
    with guest(engine, body, logger=logger) as made:
        made.call("run")
        plugin_id = str(made.id)
    assert records.texts == ["", "k", "ke", "key", "keyv"]
    assert [record.levelno for record in records.records] == [5, 10, 20, 30, 40]
    assert {record.plugin for record in records.records} == {plugin_id}  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["größe\nzwei", "50% of {x} %s", "with\0nul", "x" * 100_000])
def test_messages_of_any_text(engine: api.Engine, records: Records, logger: logging.Logger, text: str) -> None:
    with guest(engine, f"(call $log_info {INPUT})", logger=logger) as made:
        made.call("run", text)
    assert records.texts == [text]


def test_messages_that_are_not_utf_8_are_replaced(engine: api.Engine, records: Records, logger: logging.Logger) -> None:
    output(engine, f"(call $log_error {OTHER})", logger=logger)
    assert records.texts == ["��"]


def test_messages_are_freed_even_when_nobody_listens(engine: api.Engine, logger: logging.Logger) -> None:
    for level in (TRACE, logging.CRITICAL):
        logger.setLevel(level)
        assert lengths(engine, f"(call $log_info {VALUE})", logger=logger) == (3, 0)


def test_an_invalid_message_is_no_error_when_nobody_listens(engine: api.Engine, logger: logging.Logger) -> None:
    body = "(call $log_info (i64.const 12345))"
    assert failure(engine, body, logger=logger) == "invalid handle offset for log message: 12345"
    logger.setLevel(logging.WARNING)
    assert output(engine, body, logger=logger) == b""


LEVEL = "(call $store_u8 (global.get $value) (call $get_log_level)) (call $out (global.get $value))"


@pytest.mark.parametrize(
    ("level", "number"),
    [
        (1, 0),
        (TRACE, 0),
        (6, 1),
        (logging.DEBUG, 1),
        (logging.INFO, 2),
        (25, 3),
        (logging.WARNING, 3),
        (logging.ERROR, 4),
    ],
)
def test_the_level_that_guests_see(engine: api.Engine, logger: logging.Logger, level: int, number: int) -> None:
    logger.setLevel(level)
    assert output(engine, LEVEL, logger=logger)[0] == number


def test_the_level_is_off_while_nobody_listens(engine: api.Engine, logger: logging.Logger) -> None:
    body = f"(if (i32.ne (call $get_log_level) (i32.const {OFF})) (then unreachable))"
    with guest(engine, body, logger=logger) as made:
        logger.setLevel(logging.CRITICAL)
        made.call("run")
        logger.setLevel(TRACE)
        with pytest.raises(extism.TrapError):
            made.call("run")
        logger.handlers = [logging.NullHandler()]
        made.call("run")
        logger.handlers = []
        made.call("run")


def test_a_message_that_nobody_listens_to_is_not_printed(
    engine: api.Engine, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python prints warnings of loggers without handlers; a plugin's are its own."""
    logger.handlers = []
    output(engine, f"(call $log_error {VALUE})", logger=logger)
    assert capsys.readouterr() == ("", "")


def test_what_a_handler_raises_comes_out(engine: api.Engine, logger: logging.Logger) -> None:
    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ZeroDivisionError

    logger.addHandler(Raises())
    with guest(engine, f"(call $log_info {VALUE})", logger=logger) as made, pytest.raises(ZeroDivisionError):
        made.call("run")


def test_a_logger_of_each_plugin(engine: api.Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "extism_engines.guest")
    body = f"(call $log_info {VALUE})"
    with guest(engine, body) as one, guest(engine, body) as two:
        one.call("run")
        two.call("run")
        names = [f"extism_engines.guest.{made.id}" for made in (one, two)]
    assert [(record.name, record.getMessage()) for record in caplog.records] == [(name, "value") for name in names]


# -- HTTP ------------------------------------------------------------------------------------------------------


def test_every_request_is_refused(engine: api.Engine) -> None:
    with guest(engine, drop(f"(call $http_request {INPUT} {NONE})")) as made:
        for request in (b'{"url": "https://example.org/"}', b'{"url":"https://example.org/","method":"POST","more":1}'):
            with pytest.raises(HttpNotAllowedError) as caught:
                made.call("run", request)
            assert str(caught.value).startswith("HTTP request to https://example.org/ is not allowed")
            assert "this version has no HTTP" in str(caught.value)
            assert (caught.value.exit_code, caught.value.engine) == (-1, engine.name)


def test_allowed_hosts_change_nothing(engine: api.Engine) -> None:
    text = f'{BLOCKS} (func (export "run") (drop (call $http_request {INPUT} {NONE})))'
    manifest = {"wasm": [{"data": binary(plugin_text(text, IMPORTS))}], "allowed_hosts": ["*"]}
    with extism.Plugin(manifest, engine=engine, functions=[]) as made, pytest.raises(HttpNotAllowedError):
        made.call("run", b'{"url": "http://localhost/"}')


@pytest.mark.parametrize(
    "request_text", [b"", b"{", b"[]", b"5", b'"url"', b"{}", b'{"uri": "x"}', b"[" * 100_000, b"9" * 10_000]
)
def test_requests_that_are_none(engine: api.Engine, request_text: bytes) -> None:
    text = failure(engine, drop(f"(call $http_request {INPUT} {NONE})"), request_text)
    assert text.startswith("the HTTP request is not an object with a url: ")


def test_status_and_headers_before_any_request(engine: api.Engine) -> None:
    body = f"""(if (i32.ne (call $http_status_code) (i32.const 0)) (then unreachable))
      (if (i64.ne (call $http_headers) {NONE}) (then unreachable))"""
    assert output(engine, body) == b""
