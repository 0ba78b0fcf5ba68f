"""
The command `doctor`: looks at everything that a working modeld needs, and says what cures it.

It changes nothing, works without a daemon, and never waits long for anybody.  What the daemon
knows is asked of it; the rest is read from the machine.  What can't be known is not told.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from modelctl import machine
from modelctl.client import START_HINT
from modelctl.questions import Questions
from modelctl.render import doctor as view
from modelctl.render.answer import engine_text, seconds_since
from modelctl.render.doctor import FAILURE, OK, WARNING, Finding
from modelctl.render.env import reachable
from modeld.errors import ModeldError
from modeld.units import GIB, format_bytes, format_duration
from modeld.wire.configuration import AskConfig, CheckConfig, ConfigChecked, ConfigReport, Value
from modeld.wire.daemon import Happened, Subscribe
from modeld.wire.load import Done
from modeld.wire.models import AskStatus, ListModels, Models, Ps, Servers, StatusReport

if TYPE_CHECKING:
    from modelctl.session import Session

DAY_S = 86_400
ERROR_PRIORITY = 3
MAX_NAMED = 3
"""Names in one line."""
Reply = TypeVar("Reply", bound=Struct)


def doctor(session: Session) -> int:
    """Print what is well and what is not; 1 where anything has failed."""
    findings = list(_Examination(session).findings())
    failures = view.count(findings, FAILURE)
    if session.json:
        warnings = view.count(findings, WARNING)
        listed = [each._asdict() for each in findings]
        session.print_json({"findings": listed, "warnings": warnings, "failures": failures})
    elif session.quiet:
        bad = [each for each in findings if each.state != OK]
        session.print("".join(f"{each.check}\n" for each in bad))
    else:
        session.print(view.findings_text(findings, session.screen))
    return 1 if failures else 0


class _Examination:
    """One look at everything."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._environment = session.surroundings.environment
        self._questions = Questions(session)
        self._status: StatusReport | None = None
        self._settings: dict[str, Value] = {}
        self._is_new = False
        """Whether no folder is configured."""

    def findings(self) -> Iterator[Finding]:
        """Yield what each look finds; what the first ones learn, the others use."""
        for look in (
            self._daemon, self._service, self._configuration, self._engine, self._folders,
            self._space, self._state, self._models, self._memory, self._gpus, self._gateway,
            self._keys, self._failures,
        ):  # fmt: skip
            yield from look()

    def _asked(self, request: Struct, reply: type[Reply]) -> Reply | None:
        """Return an answer of the daemon; None where there is no daemon, or no answer."""
        if self._status is None:
            return None
        try:
            return self._session.ask(request, reply)
        except ModeldError:
            return None

    # --- modeld ------------------------------------------------------------------------------

    def _daemon(self) -> Iterator[Finding]:
        try:
            status = self._status = self._session.ask(AskStatus(), StatusReport)
        except ModeldError as error:
            yield Finding("daemon", FAILURE, error.message, error.hint or START_HINT)
            return
        how = "by systemd" if status.launcher == "systemd" else "without units"
        up = format_duration(status.up_seconds)
        text = f"modeld {status.version} runs, pid {status.pid}, up {up}; starts servers {how}"
        yield Finding("daemon", OK, text)

    def _service(self) -> Iterator[Finding]:
        names = ("modeld.service", "modeld.socket")
        words = ("systemctl", "--user", "show", "-p", "Id,LoadState,UnitFileState", *names)
        told = machine.output_of(words, self._environment).split("\n\n")
        units = {unit.get("Id", ""): unit for unit in map(machine.pairs, told)}
        if not any(units.values()):
            text = "no systemd user manager answers: modeld is started by hand here"
            state, cure = (OK, "") if self._status is not None else (WARNING, "modeld")
            yield Finding("service", state, text, cure)
            return
        missing = [n for n in names if units.get(n, {}).get("LoadState") != "loaded"]
        if missing:
            text = f"not installed as a unit: {', '.join(missing)}"
            yield Finding("service", WARNING, text, "make install")
            return
        states = {name: units[name].get("UnitFileState", "") for name in names}
        is_enabled = any(state.startswith("enabled") for state in states.values())
        text = ", ".join(f"{name} {state or 'unknown'}" for name, state in states.items())
        cure = "" if is_enabled else "systemctl --user enable modeld.socket modeld.service"
        yield Finding("service", OK if is_enabled else WARNING, text, cure)
        yield from self._linger()

    def _linger(self) -> Iterator[Finding]:
        words = ("loginctl", "show-user", str(self._session.surroundings.uid), "-p", "Linger")
        told = machine.pairs(machine.output_of(words, self._environment)).get("Linger")
        if told == "yes":
            yield Finding("linger", OK, "models stay when you log out")
        elif told == "no":
            text = "lingering is off: models stop when you log out"
            yield Finding("linger", WARNING, text, "loginctl enable-linger")

    def _configuration(self) -> Iterator[Finding]:
        try:
            checked = self._questions.ask(CheckConfig(), ConfigChecked)
        except ModeldError as error:
            yield Finding("configuration", FAILURE, error.message, "modelctl config edit")
            checked = None
        try:
            report = self._questions.ask(AskConfig(), ConfigReport)
        except ModeldError:
            return  # said already
        self._settings = {each.key: each.value for each in report.settings}
        folders = {"storage.ssd_path", "storage.hdd_paths"}
        self._is_new = not any(each.origin for each in report.settings if each.key in folders)
        if checked is None:
            return
        own = sum(1 for each in report.settings if each.origin)
        yield Finding("configuration", OK, f"valid; {own} of {len(report.settings)} settings set")
        if self._status is not None and checked.changed:
            restart = bool(checked.needs_restart)
            cure = "systemctl --user restart modeld" if restart else "modelctl reload"
            text = f"not in force yet: {_some(checked.changed)}"
            yield Finding("configuration", WARNING, text, cure)
        if checked.notes:
            yield Finding(
                "configuration", WARNING, "\n".join(checked.notes), "modelctl config edit"
            )

    def _engine(self) -> Iterator[Finding]:
        install = "modelctl config set servers.binary /path/to/llama-server"
        if self._status is not None:
            found, version = engine_text(self._status.binary), self._status.binary_version
            if found:
                yield Finding("engine", OK, f"{found}, {version or 'its version is unknown'}")
            else:
                yield Finding("engine", FAILURE, "there is no llama-server", install)
            return
        wanted = str(self._settings.get("servers.binary") or "")
        path = self._environment.get("PATH")
        found = shutil.which(self._expand(wanted) if wanted else "llama-server", path=path) or ""
        if found:
            yield Finding("engine", OK, found)
        elif wanted:
            yield Finding("engine", FAILURE, f"{wanted} can't be run (servers.binary)", install)
        elif machine.has_embedded():
            yield Finding("engine", OK, engine_text("/modeld/embedded.py"))
        else:
            yield Finding("engine", FAILURE, "there is no llama-server in PATH", install)

    # --- disks -------------------------------------------------------------------------------

    @property
    def _ssd(self) -> str:
        return self._expand(str(self._settings.get("storage.ssd_path") or ""))

    @property
    def _hdds(self) -> list[str]:
        paths = self._settings.get("storage.hdd_paths")
        return [self._expand(each) for each in paths] if isinstance(paths, tuple) else []

    def _expand(self, path: str) -> str:
        home = self._environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
        return home + path[1:] if path == "~" or path.startswith("~/") else path

    def _folders(self) -> Iterator[Finding]:
        for path in filter(None, (self._ssd, *self._hdds)):
            needed = os.R_OK | os.X_OK | (os.W_OK if path == self._ssd else 0)
            if not os.path.isdir(path):  # noqa: PTH112
                is_file = os.path.lexists(path)
                text = f"{path} is no folder" if is_file else f"{path} is not there"
                cure = f"ls -ld {quote(path)}" if is_file else f"mkdir -p {quote(path)}"
                if self._is_new and not is_file:
                    text, cure = f"{text}, and no folder is configured", "modelctl init"
                yield Finding("folders", WARNING, text, cure)
            elif not os.access(path, needed):
                what = "written" if os.access(path, os.R_OK | os.X_OK) else "read"
                cure = f"chmod u+rwx {quote(path)}"
                yield Finding("folders", FAILURE, f"{path} can't be {what}", cure)
            else:
                yield Finding("folders", OK, path)

    def _space(self) -> Iterator[Finding]:
        device = machine.device(self._ssd)
        if device is None:
            return
        disk = os.statvfs(self._ssd)
        free = disk.f_bavail * disk.f_frsize
        least = _number(self._settings.get("cache.ssd_min_free_gb")) * GIB
        text = f"{format_bytes(free)} free on the SSD, {format_bytes(int(least))} are to stay free"
        state = OK if free >= least else WARNING
        yield Finding("space", state, text, "" if state == OK else "modelctl cache plan")
        for path in self._hdds:
            if machine.device(path) == device:
                text = f"{path} is on the same disk as {self._ssd}: copies gain nothing"
                cure = "modelctl config set storage.hdd_paths '[]'"
                yield Finding("space", WARNING, text, cure)

    def _state(self) -> Iterator[Finding]:
        if self._status is not None and self._status.saved:
            yield Finding("state", FAILURE, self._status.saved, "modelctl events -n 50 --no-follow")
            return
        folder = self._environment.get("XDG_STATE_HOME") or self._expand("~/.local/state")
        path = f"{folder}/modeld/stats.json"
        try:
            size = machine.check_state(path)
        except FileNotFoundError:
            if self._status is None:
                yield Finding("state", OK, "there is none yet")
            return
        except (OSError, ValueError) as error:
            text = f"{path}: {error}; what is before it is used"
            yield Finding("state", WARNING, text, f"ls -l {quote(folder)}/modeld")
            return
        yield Finding("state", OK, f"{path}, {format_bytes(size)}")

    def _models(self) -> Iterator[Finding]:
        reply = self._asked(ListModels(), Models)
        if reply is None:
            return
        good = [each for each in reply.models if not each.problem and each.tiers]
        bad = [each for each in reply.models if each.problem]
        if good:
            size = format_bytes(sum(each.size_bytes for each in good))
            yield Finding("models", OK, f"{view.many(len(good), 'model')}, {size}")
        elif not reply.scanning:
            cure = f"cp MODEL.gguf {quote(self._ssd or 'FOLDER')}/"
            yield Finding("models", WARNING, "there is no model on the disks", cure)
        if bad:
            text = f"{len(bad)} can't be used: {_some([f'{e.name} ({e.problem})' for e in bad])}"
            yield Finding("models", WARNING, text, f"modelctl show {quote(bad[0].name)}")

    # --- the machine -------------------------------------------------------------------------

    def _memory(self) -> Iterator[Finding]:
        total = machine.memory_bytes()
        limit = _number(self._settings.get("memory.limit_gb")) * GIB
        if total and limit > total:
            text = f"memory.limit_gb is {limit / GIB:g}, the machine has {format_bytes(total)}"
            yield Finding("memory", WARNING, text, "modelctl config unset memory.limit_gb")
        elif self._status is not None:
            budget, used = self._status.total_ram_gb * GIB, self._status.used_ram_gb * GIB
            text = f"models may take {format_bytes(int(budget))} of {format_bytes(total)}"
            yield Finding("memory", OK, f"{text}, {format_bytes(int(used))} are taken")
        elif total:
            yield Finding("memory", OK, f"the machine has {format_bytes(total)}")

    def _gpus(self) -> Iterator[Finding]:
        if self._status is None:
            return
        for gpu in self._status.gpus:
            sizes = (gpu.total_bytes, gpu.booked_bytes, gpu.in_use_bytes)
            total, booked, in_use = map(format_bytes, sizes)
            text = f"{gpu.name}: {total} for models, {booked} taken; {in_use} in use by everybody"
            yield Finding("gpus", OK, text)
        if not self._status.gpus:
            is_there = os.path.exists("/dev/nvidia0") or os.path.exists("/dev/kfd")  # noqa: PTH110
            text = "a GPU is there, and the engine uses none" if is_there else "none is used"
            cure = "llama-server --list-devices" if is_there else ""
            yield Finding("gpus", WARNING if is_there else OK, text, cure)

    def _gateway(self) -> Iterator[Finding]:
        if self._status is None:
            return
        wanted = self._settings.get("gateway.listen")
        for address in self._status.gateway:
            problem = machine.health(reachable(address))
            text = f"http://{address} {problem or 'answers'}"
            cure = "modelctl logs -n 50" if problem else ""
            yield Finding("gateway", FAILURE if problem else OK, text, cure)
        if not self._status.gateway:
            is_off = not wanted
            text = "off (gateway.listen)" if is_off else "modeld has none, though gateway.listen is"
            cure = "" if is_off else "systemctl --user restart modeld"
            yield Finding("gateway", OK if is_off else FAILURE, text, cure)

    def _keys(self) -> Iterator[Finding]:
        path = self._expand(str(self._settings.get("gateway.key_file") or ""))
        if not path:
            return
        try:
            mode = os.stat(path).st_mode & 0o777  # noqa: PTH116
        except OSError as error:
            text = f"{path}: {error.strerror} (gateway.key_file)"
            yield Finding("keys", FAILURE, text, f"ls -l {quote(path)}")
            return
        is_open = bool(mode & 0o077)
        cure = f"chmod 600 {quote(path)}" if is_open else ""
        yield Finding("keys", FAILURE if is_open else OK, f"{path} has the mode {mode:04o}", cure)

    # --- what went wrong -----------------------------------------------------------------------

    def _failures(self) -> Iterator[Finding]:
        if self._status is None:
            return
        for warning in self._status.warnings:
            yield Finding("warnings", WARNING, warning, "modelctl status")
        servers = self._asked(Ps(), Servers)
        for each in servers.failed if servers is not None else ():
            text = f"{each.name} died, {view.many(each.deaths, 'time')}: {each.cause}"
            yield Finding("failures", FAILURE, text, f"modelctl logs {quote(each.name)}")
        events = self._errors()
        if events:
            text = (
                f"{view.many(len(events), 'error')} in the last day, the last: {events[-1].message}"
            )
            cure = "modelctl events -n 1000 --no-follow"
            yield Finding("failures", WARNING, text, cure)
        else:
            yield Finding("failures", OK, "no error in the last day")

    def _errors(self) -> list[Happened]:
        """Return the errors of the last day that the daemon remembers."""
        from msgspec import msgpack

        decoder: msgpack.Decoder[Happened | Done] = msgpack.Decoder(Happened | Done)
        found = []
        session = self._session
        request = Subscribe(backlog=1000, follow=False)
        try:
            for each in session.client.stream(request, decoder, timeout_s=session.timeout_s):
                if isinstance(each, Done):
                    break
                age = seconds_since(each.at, session.now)
                if each.priority <= ERROR_PRIORITY and age is not None and age < DAY_S:
                    found.append(each)
        except ModeldError:
            pass  # what came before is told
        return found


def _some(words: tuple[str, ...] | list[str]) -> str:
    """Return the first few, and how many more there are."""
    more = f" and {len(words) - MAX_NAMED} more" if len(words) > MAX_NAMED else ""
    return ", ".join(words[:MAX_NAMED]) + more


def _number(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
