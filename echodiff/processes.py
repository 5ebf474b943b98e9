"""Run work in several processes, with results in order and bounded memory."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from echodiff.system import num_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    job: Callable[[Item], Result], items: Sequence[Item], *, workers: int
) -> Iterator[Result]:
    """Yield job(item) for every item, in the order of the items.

    workers: 0 for one process per core, 1 for this process. The job, its items and its results
    must be picklable. At most four results per process wait at any time.
    """
    # A process takes longer to start than a few items to do.
    workers = min(workers or num_cores(), max(1, len(items) // 8))
    if workers == 1:
        yield from map(job, items)
        return
    # A fork would inherit the locks of running threads and a copy of all that this process holds.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_follow_parent)
    try:
        queue = iter(items)
        with _interrupts_held_back():
            waiting = [pool.submit(job, item) for item in islice(queue, 4 * workers)]
        while waiting:
            yield waiting.pop(0).result()
            with _interrupts_held_back():
                waiting.extend(pool.submit(job, item) for item in islice(queue, 1))
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that ignore a keyboard interrupt, which would make each print a traceback.

    The main process receives it after the block and ends them."""
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and hasattr(signal, "pthread_sigmask")):
        yield
        return
    held_back: list[int] = []
    # The mask is what the new processes inherit. It binds this thread alone: where another one (a
    # progress bar's, a library's) takes the signal, Python would still raise it here.
    answer = signal.signal(signal.SIGINT, lambda number, frame: held_back.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, answer)
        if held_back:
            signal.raise_signal(signal.SIGINT)


def _follow_parent() -> None:
    """End a worker when its main process is killed, since it would wait for work forever.

    Interrupts are left to the main process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
