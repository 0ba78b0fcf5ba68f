"""
Copies models between tiers, and removes copies that modeld made: the `Copier` port.

Each copy has a thread of its own, each tier one for everything else, so that a dead disk holds up
nobody but itself; the loop never waits for a disk.  Which model goes where, and when, is decided
elsewhere.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from os.path import normpath
from pathlib import Path

from modeld.core.events import CopyEnded, Event
from modeld.host.copy import errands
from modeld.host.copy.disks import Turns, disk_of
from modeld.host.copy.job import Job, Left, Outcome, Tools
from modeld.host.copy.ledger import Ledger
from modeld.host.copy.sink import Ways
from modeld.host.copy.tier import relative_to
from modeld.supervisor.ports import CopyOrder, Emit, Folder

MAX_COPIES = 64
"""Waiting ones included; a policy that wants more at once has gone wrong."""
CLOSE_SECONDS = 5.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class FileCopier:
    """The `Copier` port."""

    def __init__(self, emit: Emit, boot_id: str = "") -> None:
        self._emit = emit
        self._boot_id = boot_id or BOOT_ID.read_text(encoding="ascii").strip()
        self._turns = Turns()
        self._tools = Tools(turns=self._turns, ways=Ways())
        self._jobs: dict[str, Job] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._tiers: dict[str, _Tier] = {}
        self._loads: dict[str, int] = {}
        self._disks: dict[str, str] = {}
        """Path that is being loaded -> its disk, as soon as that is known."""
        self._is_closed = threading.Event()

    def start(self, order: CopyOrder) -> None:
        """Begin: `CopyMoved` now and then, `CopyEnded` once.  One reader a disk; others queue."""
        assert order.copy_id not in self._jobs, f"{order.copy_id} runs already"
        if self._is_closed.is_set():
            return
        loop = asyncio.get_running_loop()
        if len(self._jobs) >= MAX_COPIES:
            sentence = f"{MAX_COPIES} copies are waiting already"
            ended = CopyEnded(copy_id=order.copy_id, error=sentence, reason="refused")
            loop.call_soon(self._emit, ended)
            return
        ledger = self._tier(order.target_path).ledger
        job = Job(order, ledger, self._tools, lambda event: self._tell(loop, event))
        self._jobs[order.copy_id] = job
        name = f"modeld-copy-{order.copy_id}"
        thread = threading.Thread(target=self._run, args=(job, loop), name=name, daemon=True)
        self._threads[order.copy_id] = thread
        thread.start()

    def make_urgent(self, copy_id: str) -> None:
        """Somebody waits for it now: full speed, and the pages stay in the cache."""
        if copy_id in self._jobs:
            self._jobs[copy_id].hurry()

    def pause(self, copy_id: str) -> None:
        """Stop after the present chunk, and keep what is there."""
        if copy_id in self._jobs:
            self._jobs[copy_id].pause(paused=True)

    def resume(self, copy_id: str) -> None:
        """Go on."""
        if copy_id in self._jobs:
            self._jobs[copy_id].pause(paused=False)

    def cancel(self, copy_id: str) -> None:
        """Give it up; nothing of it stays.  Idempotent."""
        if copy_id in self._jobs:
            self._jobs[copy_id].cancel()

    def yield_to_load(self, path: str, busy: bool) -> None:
        """A server loads `path` (or is done): background copies from its disk hold still."""
        count = self._loads.get(path, 0) + (1 if busy else -1)
        if count > 0:
            self._loads[path] = count
        else:
            self._loads.pop(path, None)
            self._disks.pop(path, None)
        if busy and count == 1:
            # A thread: even to ask where a file is can take for ever on a dead disk.
            loop = asyncio.get_running_loop()
            threading.Thread(
                target=self._find_disk, args=(path, loop), name="modeld-disk", daemon=True
            ).start()
        self._turns.set_loading(frozenset(self._disks.values()))

    def remove(self, model_id: str, folder: str, paths: Sequence[str]) -> None:
        """Remove copies below `folder`, only those that modeld made: `FilesRemoved`."""
        tier = self._tier(folder)
        relatives = [relative_to(folder, path) for path in paths]
        tier.do(self._later(lambda: errands.remove(model_id, tier.path, relatives, tier.ledger)))

    def is_ours(self, folder: str, path: str) -> bool:
        """Whether modeld made this copy (asked of what `survey` read; touches no disk)."""
        return relative_to(folder, path) in self._tier(folder).ledger.files

    def is_verified(self, folder: str, path: str) -> bool:
        """Whether a copy may be used unread; False after the machine went down without a word."""
        entry = self._tier(folder).ledger.files.get(relative_to(folder, path))
        return entry is None or entry.is_verified

    def verify(self, folder: str, paths: Sequence[str], urgent: bool) -> None:
        """Read copies again and compare their checksums: `CopiesVerified`."""
        tier = self._tier(folder)
        relatives = [relative_to(folder, path) for path in paths]
        work = self._later(
            lambda: errands.verify(
                tier.path, relatives, tier.ledger, keep=urgent, check=self._check_open
            )
        )
        # Not in the tier's thread: this can take minutes.
        threading.Thread(target=work, name="modeld-verify", daemon=True).start()

    def survey(self, folder: Folder) -> None:
        """Measure a tier, discard leftovers of copies: `SpaceMeasured`."""
        tier = self._tier(folder.path)
        if not tier.is_survey_waiting:
            tier.is_survey_waiting = True
            tier.do(self._later(lambda: tier.survey(folder)))

    async def close(self) -> None:
        """Stop all copies; what was written stays for the next daemon to discard.  Bounded."""
        self._is_closed.set()
        for job in self._jobs.values():
            job.leave()
        await asyncio.to_thread(self._join)

    # --- threads -------------------------------------------------------------------------------

    def _run(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        """Copy, in the copy's thread."""
        began = time.monotonic()
        error: BaseException | None = None
        try:
            outcome = job.run()
        except Left:
            return
        except BaseException as caught:  # noqa: BLE001  (raised again, where somebody sees it)
            error = caught
            outcome = Outcome(error=f"a bug in modeld: {caught!r}", reason="io")
        ended = CopyEnded(
            copy_id=job.order.copy_id,
            error=outcome.error,
            reason=outcome.reason,
            seconds=time.monotonic() - began,
        )
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._finish, ended, error)

    def _finish(self, ended: CopyEnded, error: BaseException | None) -> None:
        """Report the end of a copy, in the loop's thread."""
        del self._jobs[ended.copy_id], self._threads[ended.copy_id]
        if not self._is_closed.is_set():
            self._emit(ended)
        if error is not None:
            raise error

    def _later(self, work: Callable[[], Event]) -> Callable[[], None]:
        """Return what does some work in whatever thread, and reports it in this one."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            with contextlib.suppress(Left):
                self._tell(loop, work())

        return run

    def _tell(self, loop: asyncio.AbstractEventLoop, event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._pass_on, event)

    def _pass_on(self, event: Event) -> None:
        if not self._is_closed.is_set():
            self._emit(event)

    def _find_disk(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            disk = disk_of(Path(path).stat().st_dev)
            loop.call_soon_threadsafe(self._found_disk, path, disk)

    def _found_disk(self, path: str, disk: str) -> None:
        if path in self._loads:
            self._disks[path] = disk
            self._turns.set_loading(frozenset(self._disks.values()))

    def _check_open(self) -> None:
        if self._is_closed.is_set():
            raise Left

    def _join(self) -> None:
        """Wait for all threads, and note that the tiers were left in order."""
        end = time.monotonic() + CLOSE_SECONDS
        for thread in list(self._threads.values()):
            thread.join(max(0.0, end - time.monotonic()))
        for tier in self._tiers.values():
            tier.close()
        for tier in self._tiers.values():
            tier.join(max(0.0, end - time.monotonic()))

    def _tier(self, path: str) -> "_Tier":
        path = normpath(path)
        if path not in self._tiers:
            self._tiers[path] = _Tier(path, self._boot_id)
        return self._tiers[path]


class _Tier:
    """A tier's folder, its list of copies, and a thread for what is done there."""

    def __init__(self, path: str, boot_id: str) -> None:
        self.path = path
        self.ledger = Ledger(boot_id)
        self.is_survey_waiting = False
        self._condition = threading.Condition()
        self._waiting: list[Callable[[], None]] = []
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], None]) -> None:
        """Have the thread do this, after what it has to do already."""
        if self._thread is None:
            name = f"modeld-tier-{Path(self.path).name}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()
        with self._condition:
            self._waiting.append(work)
            self._condition.notify()

    def survey(self, folder: Folder) -> Event:
        """Survey, in the thread."""
        self.is_survey_waiting = False
        return errands.survey(folder, self.ledger)

    def close(self) -> None:
        """Have the thread end when its work is done, and note that all is in order."""
        self.do(lambda: None)  # a tier that was only written to has no thread yet
        with self._condition:
            self._is_closing = True
            self._condition.notify()

    def join(self, seconds: float) -> None:
        """Wait for that, and no longer than this."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    break
                work = self._waiting.pop(0)
            work()
        errands.let_go(self.path, self.ledger)
