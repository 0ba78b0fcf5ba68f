"""`gateway.karen_health`: each part can be well and unwell, and nothing is loaded to find out."""

import json

import pytest
from msgspec import Struct
from msgspec.structs import replace

from modeld.core import usage
from modeld.core.events import Event, UsageAsked
from modeld.core.usage import Histogram
from modeld.supervisor.counting import Measures
from modeld.supervisor.door import OnProgress
from tests.support.fake_door import FakeDoor
from tests.support.gateway import run, running

PARTS = ("server", "models", "performance", "karen_integration")
WELL = Measures(
    version="1",
    up_seconds=9.0,
    connections=1,
    waiting=0,
    models=1,
    memory_budget_bytes=1 << 30,
    ssd_free_bytes=5 << 30,
    copies=0,
    copied_bytes=0,
    tallies={},
    in_flight={},
    memory_bytes={},
    ready={},
    swap_seconds=Histogram(usage.SWAP_SECONDS),
)


class Door(FakeDoor):
    """One that knows how everything is, and loads nothing."""

    def __init__(self, measures: Measures = WELL) -> None:
        super().__init__()
        self.measures = measures
        self.add("tiny")
        self.default("tiny")

    async def ask(self, event: Event, on_progress: OnProgress | None = None) -> Struct:
        """Answer that alone."""
        assert isinstance(event, UsageAsked)
        return self.measures


def told(door: Door, **settings: object) -> dict[str, object]:
    """Return what the route tells."""
    found: dict[str, object] = {}

    async def main() -> None:
        async with running(door, **settings) as house:
            reply = await house.get(b"/api/v1/health")
            assert reply.status == 200
            found.update(json.loads(reply.body))

    run(main)
    return found


def test_all_is_well() -> None:
    """`status` is what clients of /health look for, whatever the rest says."""
    report = told(Door())

    assert str(report.pop("last_check")).endswith("Z")
    assert report == {
        "status": "ok",
        "overall": "healthy",
        "components": {part: {"status": "healthy"} for part in PARTS},
    }


@pytest.mark.parametrize(
    ("changes", "part", "status"),
    [
        ({"is_saved": False}, "server", "degraded"),
        ({"folder_problems": 1}, "models", "unhealthy"),
        ({"file_problems": 2}, "models", "degraded"),
        ({"models": 0}, "models", "degraded"),
        ({"waiting": 3}, "performance", "degraded"),
        ({"ssd_free_bytes": (1 << 30) - 1}, "performance", "degraded"),
    ],
)
def test_part_is_what_was_measured(changes: dict[str, int], part: str, status: str) -> None:
    """S2-13: the worst part is how the whole is; the others stay as they are."""
    report = told(Door(replace(WELL, **changes)), max_waiting=3)

    components = report["components"]
    assert isinstance(components, dict)
    assert components.pop(part)["status"] == report["overall"] == status
    assert list(components.values()) == [{"status": "healthy"}] * 3


def test_unknown_space_is_no_trouble() -> None:
    """There need be no SSD."""
    assert told(Door(replace(WELL, ssd_free_bytes=None)))["overall"] == "healthy"


def test_what_keeps_every_model_from_being_loaded_is_told() -> None:
    """As /ready tells it, but with 200: modeld itself is there."""
    door = Door()
    door.routes = replace(door.routes, problem="there is no llama-server")
    report = told(door)

    assert report["overall"] == "unhealthy"
    assert report["components"]["server"] == {  # type: ignore[index]
        "status": "unhealthy",
        "reason": "there is no llama-server",
    }


@pytest.mark.parametrize(
    ("default", "is_loaded", "status"),
    [
        ("tiny", False, "healthy"),
        ("", True, "healthy"),
        ("", False, "degraded"),
        ("nothing", False, "degraded"),
        ("code", False, "degraded"),
    ],
)
def test_integration_is_well_where_a_prompt_alone_gets_an_answer(
    default: str, is_loaded: bool, status: str
) -> None:
    """KAREN's extension names no model, and finds out by a 400 otherwise."""
    door = Door()
    door.default(default)
    if is_loaded:
        door.serve("tiny", "/x.sock")
    components = told(door)["components"]

    assert components["karen_integration"]["status"] == status  # type: ignore[index]


def test_nobody_needs_a_key_and_no_name_is_told() -> None:
    """What is asked for by the clock tells nothing of what there is."""

    async def main() -> None:
        door = Door(replace(WELL, folder_problems=1, file_problems=1))
        door.default("a-name-of-somebody")
        async with running(door, keys=(b"k" * 20,)) as house:
            reply = await house.get(b"/api/v1/health")

            assert reply.status == 200
            assert b"a-name-of-somebody" not in reply.body
            assert b"/models" not in reply.body

    run(main)
