"""Jobs that take turns: each has a thread, and one of them runs at a time, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Condition, Thread

Job = Callable[[Callable[[], None]], None]
"""It calls its argument to let the others have their turn, and goes on after them."""


class Stopped(BaseException):
    """Raised in a waiting job when all of them are to end."""


class _Turns:
    def __init__(self, names: list[str]) -> None:
        self.failures: dict[str, Exception] = {}
        self._order = names
        self._changed = Condition()
        self._stopped = False

    def run(self, name: str, job: Job) -> None:
        """Do a job in its turns; afterwards the others go on without it."""
        try:
            self._wait(name)
            job(lambda: self._pass_on(name))
        except Stopped:
            pass
        except Exception as error:
            self.failures[name] = error
        finally:
            with self._changed:
                self._order.remove(name)
                self._changed.notify_all()

    def stop(self) -> None:
        """End each job when its present turn is over."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _wait(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._order[0] == name)
            if self._stopped:
                raise Stopped

    def _pass_on(self, name: str) -> None:
        with self._changed:
            self._order.append(self._order.pop(0))
            self._changed.notify_all()
        self._wait(name)


def in_turn(jobs: Mapping[str, Job]) -> dict[str, Exception]:
    """Do jobs in turns, in their order, until all have ended.

    Args:
        jobs: name → job.

    Returns:
        Name → the error that ended its job. The others went on.

    Raises:
        KeyboardInterrupt: in the caller, once every job has ended its turn.
    """
    turns = _Turns(list(jobs))
    threads = [Thread(target=turns.run, args=job, name=job[0]) for job in jobs.items()]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        turns.stop()
        for thread in threads:
            thread.join()
        raise
    return turns.failures
