"""`supervisor.views`: what the world looks like to somebody who asks."""

import pytest

from modeld.core.entities import Exit
from modeld.core.events import PinAsked, Selection
from modeld.core.names import NameChange
from modeld.errors import Ambiguous, UnknownName
from modeld.supervisor import memory_views, views
from tests.supervisor.test_loads import UNTHROTTLED, load, named
from tests.support.fake_ports import GB, FakeMachine
from tests.support.running import asynchronous


@asynchronous
async def test_status_counts_in_the_keys_of_s4() -> None:
    """S4-13, and S4-03: available is total less what is loaded."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    machine.clock.time += 5
    report = views.status(machine.world, None)

    assert report.total_ram_gb == 16
    assert report.used_ram_gb + report.available_ram_gb == 16
    assert (report.loaded_models_count, report.local_models_count) == (1, 1)
    assert report.loaded_models[0].name == "tool"
    assert report.loaded_models[0].idle_seconds == 5
    assert report.disk_bytes == {"ssd": GB}


@asynchronous
async def test_status_of_one_model_tells_whether_it_is_loaded() -> None:
    """S1-09."""
    machine = FakeMachine()
    await machine.start("tool", "other")
    await load(machine, "tool")

    assert views.status(machine.world, named("tool")).loaded is True
    assert views.status(machine.world, named("other")).loaded is False


@asynchronous
async def test_list_puts_the_lowest_rank_first() -> None:
    """S0-C6."""
    machine = FakeMachine()
    await machine.start("used", "unused")
    await load(machine, "used")

    assert [row.name for row in views.models(machine.world, ()).models] == ["unused", "used"]
    assert [row.name for row in views.models(machine.world, ("un*",)).models] == ["unused"]


@asynchronous
async def test_list_keeps_models_whose_file_is_gone_but_whose_name_is_not() -> None:
    """S0-C6 `st`: a disk may come back."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool", names=NameChange(set_nickname="foo"))
    machine.folders.files.clear()
    machine.folders.scan(())
    await machine.settle()
    rows = views.models(machine.world, ()).models

    assert [(row.name, row.problem) for row in rows] == [("tool", "the file is gone")]


@asynchronous
async def test_ps_shows_what_failed_and_why() -> None:
    """The cause must not be only in the journal."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    await machine.ends(machine.server("tool").id, Exit(how="oom-kill"))
    failed = views.servers(machine.world).failed

    assert (failed[0].name, failed[0].deaths) == ("tool", 1)
    assert "want of memory" in failed[0].cause


@asynchronous
async def test_can_load_answers_in_the_order_and_words_of_s4() -> None:
    """S4-01."""
    machine = FakeMachine(UNTHROTTLED)
    machine.add("huge", 20)
    await machine.start("a", "b", "c")
    await load(machine, "a", keep_others=True)
    reasons = {
        name: memory_views.verdict(machine.world, named(name)).reason
        for name in ("no", "a", "huge", "b")
    }

    assert reasons["no"] == "Model no not found in registry"
    assert reasons["a"] == "Model already loaded"
    assert reasons["huge"].startswith("Insufficient RAM: need 2")
    assert reasons["b"] == "Model can be loaded"

    await load(machine, "b", keep_others=True)
    verdict = memory_views.verdict(machine.world, named("c"))
    assert (verdict.can_load, verdict.reason) == (False, "Max concurrent models (2) reached")


@asynchronous
async def test_show_tells_header_arguments_need_and_rank_of_one_model() -> None:
    """Everything about one model, on one page."""
    machine = FakeMachine()
    await machine.start("tool")
    shown = views.show(machine.world, named("tool"))

    assert shown.header["architecture"] == "llama"
    assert shown.need_source == "size"
    assert set(shown.rank_terms) == {"recent_7d", "recent_30d", "total", "recency", "idle"}
    assert shown.argv[0] == "/usr/bin/llama-server"


@asynchronous
async def test_choose_fails_as_a_load_would() -> None:
    """One rule for names everywhere (decision 7)."""
    machine = FakeMachine()
    await machine.start("qwen-a", "qwen-b")

    with pytest.raises(Ambiguous):
        views.choose(machine.world, Selection(pattern="qwen", only=True))
    with pytest.raises(UnknownName):
        views.choose(machine.world, Selection(slot="none"))


@asynchronous
async def test_pins_are_shown_wherever_a_model_is() -> None:
    """Who wonders why nothing is unloaded has to see it."""
    machine = FakeMachine()
    await machine.start("tool")
    await machine.request(PinAsked, selection=named("tool"), pinned=True)

    assert views.models(machine.world, ()).models[0].pinned
