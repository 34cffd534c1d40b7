"""The thread that runs things for others."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from extism_engines.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("a worker of the tests")
    yield made
    made.stop()


def thread_named(name: str) -> threading.Thread | None:
    return next((thread for thread in threading.enumerate() if thread.name == name), None)


def test_everything_runs_on_one_thread_of_that_name(worker: Worker) -> None:
    seen = {worker.run(threading.current_thread) for _ in range(5)}
    assert seen == {thread_named("a worker of the tests")}
    assert threading.current_thread() not in seen
    assert next(iter(seen)).daemon


def test_results_come_back(worker: Worker) -> None:
    for result in (None, 5, [1], ValueError("a result")):
        assert worker.run(lambda result=result: result) is result  # type: ignore[misc]


@pytest.mark.parametrize("raised", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), StopIteration()])
def test_exceptions_come_out_as_they_are(worker: Worker, raised: BaseException) -> None:
    def fail() -> None:
        raise raised

    for _ in range(2):
        with pytest.raises(type(raised)) as caught:
            worker.run(fail)
        assert caught.value is raised
    assert worker.run(lambda: 1) == 1


def test_on_the_thread_itself_it_is_a_plain_call(worker: Worker) -> None:
    assert worker.run(lambda: worker.run(lambda: worker.run(threading.get_ident))) == worker.run(threading.get_ident)


def test_many_threads_take_turns(worker: Worker) -> None:
    running = 0
    seen: list[int] = []

    def work() -> None:
        nonlocal running
        running += 1
        assert running == 1
        time.sleep(0.0005)
        running -= 1
        seen.append(1)

    threads = [threading.Thread(target=lambda: [worker.run(work) for _ in range(10)]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 50


def test_what_is_queued_before_the_stop_still_runs() -> None:
    worker = Worker("stopped")
    thread = thread_named("stopped")
    assert thread is not None
    entered, go_on = threading.Event(), threading.Event()
    results: list[int] = []

    def wait() -> None:
        entered.set()
        go_on.wait(10)

    waiting = threading.Thread(target=worker.run, args=(wait,))
    waiting.start()
    entered.wait(10)
    queued = threading.Thread(target=lambda: results.append(worker.run(lambda: 7)))
    queued.start()
    while worker._queue.qsize() == 0:
        time.sleep(0.001)
    worker.stop()
    go_on.set()
    for each in (waiting, queued, thread):
        each.join(10)
        assert not each.is_alive()
    assert results == [7]


class Kept:
    """Something that can be watched."""


def test_nothing_is_kept_of_what_is_done(worker: Worker) -> None:
    def watched() -> weakref.ref[Kept]:
        kept = Kept()
        assert worker.run(lambda: kept) is kept
        with pytest.raises(ValueError, match="with it"):
            worker.run(lambda: _raise_with(kept))
        return weakref.ref(kept)

    reference = watched()
    # The worker lets go right after it has handed over the result.
    worker.run(lambda: None)
    gc.collect()
    assert reference() is None


def _raise_with(_kept: Kept) -> None:
    raise ValueError("with it")
