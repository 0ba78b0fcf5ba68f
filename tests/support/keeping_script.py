"""
A day in the life of a supervisor, played on a machine of fakes and a clock of its own.

A script is a list of small tuples of numbers, so that Hypothesis can shrink it and a seed can make
thousands: programs ask, with and without `keep_alive`, leave, and come back; people load, unload
and pin; servers load, end, die and run out of memory; the configuration changes; time passes.
Every start and every stop is judged at the moment when it is decided.
"""

import asyncio
import heapq
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from modeld.config.schema import (
    Cache,
    Config,
    Gateway,
    KeepAlive,
    Memory,
    Models,
    Reload,
    Servers,
    Storage,
)
from modeld.core.entities import Exit, LaunchRecord, Origin, Process, Server, ServerState
from modeld.core.events import (
    ConfigRead,
    Event,
    LoadAsked,
    PagesRead,
    PinAsked,
    Selection,
    ServerExited,
    ServerReady,
    ServerStarted,
    Tick,
    UnloadAsked,
)
from modeld.core.fit import booked_bytes
from modeld.core.traffic import RequestsEnded, RequestStarted
from modeld.errors import ModeldError
from modeld.supervisor import settings
from modeld.supervisor.idling import stay_of
from tests.support.fake_ports import FakeMachine

Op = tuple[int, int, int, int]
"""What, of which model, and two more numbers; each is taken modulo what there is."""

NAMES = ("a", "b", "c", "d", "e", "f")
SIZES_GB = (1.0, 1.0, 2.0, 2.0, 3.0, 5.0)
SLOW = ("b", "d")
"""They are read from a slow disk before their server starts."""
KEEP_ALIVES = (None, None, None, None, 0.0, 0.0, 20.0, 900.0, -1.0)
# nothing that people ask for; what they ask for may stop whatever they name
BY_PEOPLE = re.compile(
    r"unload was asked for|replaced by|the same model, with|it holds port|its settings changed"
    r"|was unloaded|was cancelled|with other arguments|^[a-f] was asked for$"
)
QUIET_SECONDS = 4000


def config_of(a: int, b: int) -> Config:
    """Return one of some hundred configurations."""
    return Config(
        models=Models(
            max_concurrent_loaded=1 + a % 3,
            idle_timeout_seconds=(300.0, 30.0, 5.0)[b % 3],
            auto_unload_idle=a % 7 != 6,
            eviction="immediate" if b % 5 == 4 else "lru",
        ),
        keep_alive=KeepAlive(
            strategy=("", "", "", "ram", "ssd", "none")[a % 6],  # type: ignore[arg-type]
            models=(NAMES[b % 6],) if b % 4 == 3 else (),
        ),
        memory=Memory(limit_gb=(4.0, 6.5, 9.0)[(a + b) % 3]),
        reload=Reload(min_reload_seconds=0),
        storage=Storage(ssd_path="/ssd", hdd_paths=("/hdd1",)),
        cache=Cache(promote_min_uses=100),
        gateway=Gateway(batch_seconds=(0.0, 3.0, 10.0)[a % 3], max_wait_seconds=300),
        servers=Servers(stall_seconds=100_000),
    )


class Trial:
    """One script, and what went wrong in it."""

    def __init__(self, config: Config) -> None:
        self.violations: list[str] = []
        self.requests = 0
        self.answered = 0
        self.refused = 0
        self.machine = FakeMachine(config)
        self._programs: list[asyncio.Task[None]] = []
        self._agenda: list[tuple[float, int, Event]] = []
        self._number = 0
        self._seen = 0
        self._ending: set[str] = set()
        lives = self.machine.supervisor.lives
        self._stop: Callable[..., None] = lives.stop
        self._start = self.machine.servers.start
        lives.stop = self._judged_stop  # type: ignore[method-assign]
        self.machine.servers.start = self._judged_start  # type: ignore[method-assign]

    async def play(self, script: Sequence[Op]) -> None:
        """Play a script to its quiet end."""
        for name, size in zip(NAMES, SIZES_GB, strict=True):
            self.machine.add(name, size, "hdd1" if name in SLOW else "ssd")
        self.machine.page_cache.holds = True
        await self.machine.start()
        steps = (
            self._ask, self._ask, self._ask, self._ask, self._wait, self._wait, self._leave,
            self._load, self._unload, self._pin, self._die, self._reconfigure, self._unpin,
        )  # fmt: skip
        for what, model, x, y in script:
            await steps[what % len(steps)](NAMES[model % len(NAMES)], x, y)
            await self._settle()
        await self._be_quiet()

    # --- what people and programs do ---------------------------------------------------------

    async def _ask(self, name: str, x: int, y: int) -> None:
        self.requests += 1
        keep = KEEP_ALIVES[x % len(KEEP_ALIVES)]
        program = asyncio.create_task(self._program(name, keep, 0.1 + y % 40))
        self._programs.append(program)

    async def _program(self, name: str, keep: float | None, seconds: float) -> None:
        """Be a program: go to the server where there is one, else wait for it."""
        door = self.machine.supervisor
        for _ in range(3):
            route = door.routes.ready(door.routes.find(name).id)
            if route is not None:
                self.machine.emit(RequestStarted(server_id=route.server_id))
                self.answered += 1
                end = RequestsEnded(server_id=route.server_id, keep_alive_seconds=keep)
                self._later(seconds, end)
                return
            try:
                await self.machine.request(
                    LoadAsked, selection=Selection(model_id=name), origin=Origin.GATEWAY
                )
            except ModeldError:
                self.refused += 1
                return
        self.refused += 1

    async def _leave(self, name: str, x: int, y: int) -> None:
        waiting = [each for each in self._programs if not each.done()]
        if waiting:
            waiting[x % len(waiting)].cancel()

    async def _load(self, name: str, x: int, y: int) -> None:
        self._person(
            LoadAsked, selection=Selection(model_id=name), keep_others=bool(x % 2), force=y % 3 == 0
        )

    async def _unload(self, name: str, x: int, y: int) -> None:
        if x % 4 == 0:
            self._person(UnloadAsked, idle=True)
        else:
            self._person(UnloadAsked, selections=(Selection(model_id=name),), now=x % 4 == 1)

    async def _pin(self, name: str, x: int, y: int) -> None:
        if len(self.machine.world.state.pins) < 1 + y % 2:
            self._person(PinAsked, selection=Selection(model_id=name), pinned=True)

    async def _unpin(self, name: str, x: int, y: int) -> None:
        for pinned in self.machine.world.state.pins:
            self._person(PinAsked, selection=Selection(model_id=pinned), pinned=False)

    def _person(self, make: Callable[..., Any], **words: object) -> None:
        """Have a person ask; whatever is answered, there must be an answer."""

        async def asking() -> None:
            try:
                await self.machine.request(make, **words)
            except ModeldError:
                self.refused += 1

        self._programs.append(asyncio.create_task(asking()))

    async def _reconfigure(self, name: str, x: int, y: int) -> None:
        self.machine.emit(ConfigRead(request_id="", config=config_of(x, y)))

    async def _die(self, name: str, x: int, y: int) -> None:
        living = list(self.machine.world.servers.values())
        if living and x % 3 == 0:
            server = living[y % len(living)]
            ended = Exit(how="oom-kill") if y % 2 else Exit(code=1)
            self.machine.emit(ServerExited(server_id=server.id, exit=ended))

    # --- the machine -------------------------------------------------------------------------

    async def _wait(self, name: str, x: int, y: int) -> None:
        for _ in range(1 + x % 4):
            await self._pass(0.5 + y % 17)

    async def _pass(self, seconds: float) -> None:
        """Move the clock; what is due meanwhile happens at its time."""
        clock = self.machine.clock
        until = clock.time + seconds
        while self._agenda and self._agenda[0][0] <= until:
            at, _, event = heapq.heappop(self._agenda)
            clock.time = max(clock.time, at)
            self.machine.emit(event)
            await self._settle()
        clock.time = until
        self.machine.emit(Tick())
        await self._settle()

    def _later(self, seconds: float, event: Event) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (self.machine.clock.time + seconds, self._number, event))

    async def _settle(self) -> None:
        """Let the loop handle all that there is, and the machine do as it was told."""
        for _ in range(6):
            await asyncio.sleep(0)
        servers = self.machine.servers
        for record in servers.started[self._seen :]:
            self._load_up(record.server_id)
        self._seen = len(servers.started)
        for read_id in self.machine.page_cache.reads:
            over = PagesRead(read_id=read_id, read_bytes=1, total_bytes=1, is_over=True)
            self._later(1.5, over)
        self.machine.page_cache.reads.clear()
        for server_id in (*servers.stopped, *servers.killed):
            if server_id not in self._ending:
                self._ending.add(server_id)
                end = ServerExited(server_id=server_id, exit=Exit())
                self._later(0.3, end)
        servers.stopped.clear()
        servers.killed.clear()

    def _load_up(self, server_id: str) -> None:
        started = ServerStarted(server_id=server_id, process=Process(pid=1, start_ticks=1))
        self._later(0.1, started)
        ready = ServerReady(server_id=server_id, context_tokens=4096)
        self._later(2.0, ready)

    async def _be_quiet(self) -> None:
        """Nobody asks any more: everything has an end, and memory comes back."""
        for _ in range(20):
            await self._pass(QUIET_SECONDS / 20 / 2)
        world = self.machine.world
        waiting = [each for each in self._programs if not each.done()]
        for each in waiting:
            self.violations.append("a program waits for ever")
            each.cancel()
        for each in self._programs:
            if each.done() and not each.cancelled() and each.exception() is not None:
                self.violations.append(f"a program met {each.exception()!r}")
        if world.waiters or world.jobs or world.unloadings:
            self.violations.append(f"left behind: {world.waiters} {world.jobs} {world.unloadings}")
        for _ in range(20):
            await self._pass(QUIET_SECONDS / 20 / 2)
        for server in world.servers.values():
            stays = stay_of(world, server)
            if not stays.is_endless or server.state is not ServerState.READY or server.in_flight:
                self._note(server, f"stays {stays}")
        await asyncio.gather(*self._programs, return_exceptions=True)
        await self._look_at_the_loop()

    async def _look_at_the_loop(self) -> None:
        """See that it lives, and end it."""
        runner = self.machine.supervisor._runner
        runner.cancel()
        found = (await asyncio.gather(runner, return_exceptions=True))[0]
        if not isinstance(found, asyncio.CancelledError):
            self.violations.append(f"the loop ended: {found!r}")

    # --- the judge ---------------------------------------------------------------------------

    def _judged_start(self, record: LaunchRecord) -> None:
        world = self.machine.world
        budget = settings.budget(world.config, world.machine)
        here = tuple(world.servers.values())
        if len(here) > budget.max_loaded:
            self.violations.append(f"{len(here)} > {budget.max_loaded} loaded")
        if booked_bytes(here) > budget.memory_bytes:
            self.violations.append(f"{booked_bytes(here)} > {budget.memory_bytes} bytes")
        models = [each.record.model_id for each in here]
        if len(set(models)) != len(models):
            self.violations.append(f"two servers of one model: {models}")
        self._start(record)

    def _judged_stop(
        self, server_id: str, because: str, *, drain: bool, patient: bool = False
    ) -> None:
        server = self.machine.world.servers.get(server_id)
        if server is not None and not BY_PEOPLE.search(because):
            self._judge(server, because, patient=patient)
        self._stop(server_id, because, drain=drain, patient=patient)

    def _judge(self, server: Server, because: str, *, patient: bool) -> None:
        world = self.machine.world
        if server.record.model_id in world.state.pins:
            self._note(server, f"pinned, and stopped: {because}")
        if server.state is not ServerState.READY:
            self._note(server, f"{server.state}, and stopped: {because}")
        promise = world.promises.get(server.id)
        is_promised = promise is not None and self.machine.clock.time < promise.until
        if (server.in_flight or is_promised) and not patient:
            self._note(server, f"busy, and stopped: {because}")
        if not re.search(r"\d", because):
            self._note(server, f"stopped without a number: {because}")

    def _note(self, server: Server, what: str) -> None:
        self.violations.append(f"{server.record.model_name}: {what}")


def trial_of(config: Config, script: Sequence[Op]) -> Trial:
    """Play a script in an event loop of its own; return the trial."""

    async def main() -> Trial:
        trial = Trial(config)
        await trial.play(script)
        return trial

    return asyncio.run(main())


def generated(seed: int, requests: int) -> tuple[Config, list[Op]]:
    """Return the script of a seed, with as many requests."""
    dice = random.Random(seed)
    script: list[Op] = []
    left = requests
    while left:
        op = (dice.randrange(13), dice.randrange(6), dice.randrange(64), dice.randrange(64))
        script.append(op)
        left -= op[0] < 4
    return config_of(dice.randrange(42), dice.randrange(60)), script
