"""
The user manager over D-Bus, as far as servers need it.

Every call has a deadline.  A connection that is lost is made again, with growing pauses, within
the deadline of whichever call needs it, so a new bus or a manager that starts anew goes
unnoticed.  What is done with the units is the caller's business.
"""

import asyncio
import contextlib
import string
from typing import cast

import msgspec
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusFastError
from msgspec import Struct

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = f"{SYSTEMD}.Manager"
MANAGER_PATH = "/org/freedesktop/systemd1"
CALL_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.05
LAST_PAUSE_SECONDS = 1.0
_LABEL_LETTERS = frozenset(string.ascii_letters + string.digits)


class BusError(Exception):
    """The user manager refused, or cannot be reached."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        """It answered, and said no: asking again will not help."""


class Service(Struct, frozen=True, kw_only=True):
    """What the manager says of one service; all defaults for one that it does not know."""

    active_state: str = ""
    """`active`, `inactive`, `failed`, `activating`, `deactivating`, ..."""
    invocation_id: bytes = b""
    main_pid: int = 0
    """0 where it has none."""
    result: str = ""
    """`success`, `exit-code`, `signal`, `core-dump`, `oom-kill`, `timeout`, ..."""
    exit_kind: int = 0
    """CLD_EXITED, CLD_KILLED or CLD_DUMPED; 0 while it has not ended."""
    exit_status: int = 0
    exited_at_us: int = 0
    """[unix us] 0 while it has not ended."""


# field of Service -> interface and property that it comes from, see org.freedesktop.systemd1(5)
_PROPERTIES = {
    "active_state": ("Unit", "ActiveState"),
    "invocation_id": ("Unit", "InvocationID"),
    "main_pid": ("Service", "MainPID"),
    "result": ("Service", "Result"),
    "exit_kind": ("Service", "ExecMainCode"),
    "exit_status": ("Service", "ExecMainStatus"),
    "exited_at_us": ("Service", "ExecMainExitTimestamp"),
}


class UserManager:
    """One connection to it, made when it is first needed."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._bus: MessageBus | None = None
        self._is_listening = False
        self._connecting = asyncio.Lock()
        self._starts = 0
        self._job_ended = asyncio.Event()
        self._job_results: dict[str, str] = {}
        """Of jobs that ended while somebody waited for any: job -> result."""

    async def start(self, unit: str, seconds: float) -> str:
        """
        Start a unit and return the job's result: `done`, or why not; `timeout` after a while.

        Raises:
            BusError: The manager refused, or cannot be reached.
        """
        self._starts += 1
        try:
            (job,) = await self.call("StartUnit", "ss", unit, "fail")
            async with asyncio.timeout(seconds):
                while str(job) not in self._job_results:
                    self._job_ended.clear()
                    await self._job_ended.wait()
            return self._job_results[str(job)]
        except TimeoutError:
            return "timeout"
        finally:
            self._starts -= 1
            if not self._starts:
                self._job_results.clear()

    async def service(self, unit: str) -> Service:
        """
        Return what the manager knows of a service.

        Raises:
            BusError: It did not answer.
        """
        values = await asyncio.gather(
            *(self._get(unit, *where) for where in _PROPERTIES.values()), return_exceptions=True
        )
        for value in values:
            if isinstance(value, BaseException):
                raise value
        return msgspec.convert(dict(zip(_PROPERTIES, values, strict=True)), Service)

    async def _get(self, unit: str, interface: str, name: str) -> object:
        (value,) = await self.call(
            "Get",
            "ss",
            f"{SYSTEMD}.{interface}",
            name,
            path=f"{MANAGER_PATH}/unit/{_label(unit)}",
            interface="org.freedesktop.DBus.Properties",
        )
        return cast("Variant", value).value

    async def units(self, pattern: str) -> dict[str, str]:
        """
        Return the loaded units that fit a pattern, and the active state of each.

        Raises:
            BusError: The manager did not answer.
        """
        (rows,) = await self.call("ListUnitsByPatterns", "asas", [], [pattern])
        return {row[0]: row[3] for row in cast("list[list[str]]", rows)}

    async def call(
        self,
        member: str,
        signature: str,
        *body: object,
        path: str = MANAGER_PATH,
        interface: str = MANAGER,
    ) -> list[object]:
        """
        Call a method of the manager and return its answer.

        Raises:
            BusError: It refused, or could not be reached in time.
        """
        pause_seconds = FIRST_PAUSE_SECONDS
        problem = "no answer"
        try:
            async with asyncio.timeout(CALL_SECONDS):
                while True:
                    message = Message(SYSTEMD, path, interface, member)
                    message.signature, message.body = signature, list(body)
                    try:
                        return await self._ask(message)
                    except (OSError, EOFError, DBusFastError) as error:
                        problem = str(error) or type(error).__name__
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(LAST_PAUSE_SECONDS, 2 * pause_seconds)
        except TimeoutError as error:
            raise BusError(f"the user manager cannot be reached: {problem}") from error

    async def close(self) -> None:
        """Hang up."""
        if self._bus is not None:
            bus, self._bus = self._bus, None
            bus.disconnect()
            with contextlib.suppress(Exception):  # it is gone, whatever it says
                async with asyncio.timeout(1):
                    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def _ask(self, message: Message) -> list[object]:
        bus = await self._connected()
        reply = await bus.call(message)
        if reply is None:  # that is how the library ends the calls of a connection that we end
            raise ConnectionAbortedError("hung up")
        if reply.message_type is MessageType.ERROR:
            reason = str(reply.body[0]) if reply.body else str(reply.error_name)
            raise BusError(reason, refused=True)
        return list(reply.body)

    async def _connected(self) -> MessageBus:
        """
        Return a connection that hears of the ends of jobs.

        Raises:
            OSError: The bus is not there.
            DBusFastError: It is no bus, or not one for us.
        """
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                self._is_listening = False
                self._bus = await MessageBus(bus_address=self._address).connect()
                self._bus.add_message_handler(self._note_job)
            if not self._is_listening:
                match = Message("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "AddMatch")
                match.signature = "s"
                match.body = [f"type='signal',sender='{SYSTEMD}',member='JobRemoved'"]
                await self._bus.call(match)
                await self._bus.call(Message(SYSTEMD, MANAGER_PATH, MANAGER, "Subscribe"))
                self._is_listening = True
            return self._bus

    def _note_job(self, message: Message) -> None:
        if message.member == "JobRemoved" and self._starts:
            _, job, _, result = message.body
            self._job_results[job] = result
            self._job_ended.set()


def _label(unit: str) -> str:
    """Return a unit's name as the last part of its object path."""
    return "".join(letter if letter in _LABEL_LETTERS else f"_{ord(letter):02x}" for letter in unit)
