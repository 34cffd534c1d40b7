"""A thread that runs things for others, for plugins with ``any_thread=True`` whose engine binds them to a thread."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from .errors import EngineFailureError, PluginClosedError

T = TypeVar("T")


class Worker:
    """One thread with a queue. Carrying a call to it and back costs about 0.1 ms."""

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._is_stopped = False
        self._pid = os.getpid()
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=_serve, args=(self._queue,), name=name, daemon=True)
        self._thread.start()

    def run(self, function: Callable[[], T]) -> T:
        """Runs a function on the thread and waits; gives its result, or raises what it raised.

        On the thread itself it is called directly.

        Raises:
            PluginClosedError: The thread was stopped.
        """
        if threading.get_ident() == self._thread.ident:
            return function()
        future: Future[T] = Future()
        with self._lock:
            # Nothing may get in behind the end of the queue, where nobody would ever take it out.
            if self._is_stopped:
                raise PluginClosedError("the plugin is closed")
            if self._pid != os.getpid():
                raise EngineFailureError("the plugin's thread does not live in a forked child; make the plugin there")
            self._queue.put((future, function))
        try:
            return future.result()
        finally:
            del future  # or the traceback of what it raised would keep itself alive

    def stop(self) -> None:
        """Lets the thread end after what is queued. Twice is fine."""
        with self._lock:
            self._is_stopped = True
            self._queue.put(None)


def _serve(tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while True:
        task = tasks.get()
        if task is None:
            return
        future, function = task
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)
        # Nothing of the finished task may stay alive while the thread waits for the next.
        del task, future, function
