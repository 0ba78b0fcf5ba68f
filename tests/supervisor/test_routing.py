"""What routing goes by follows the world; who would answer is told, and logged when it happens."""

import pytest

from modeld.config.schema import (
    Config,
    Entry,
    KeepAlive,
    Memory,
    Models,
    Options,
    Roles,
    Routing,
    Rule,
    Servers,
)
from modeld.core.entities import Origin
from modeld.core.events import FolderChanged, LoadAsked, NamesAsked, Selection, VerdictAsked
from modeld.core.limits import Row
from modeld.core.names import NameChange
from modeld.core.routing import Ask
from modeld.core.traffic import RequestsRouted
from modeld.errors import Ambiguous, UnknownModel, Usage
from modeld.supervisor import views
from modeld.supervisor.routing import route, suits
from modeld.wire.load import Verdict
from modeld.wire.routing import AskRoute
from tests.supervisor.test_loads import load, named
from tests.supervisor.test_reloading import reload
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous

ROLES = Config(routing=Routing(roles=Roles(code="coder", fast="gone")))


@asynchronous
async def test_guide_follows_a_new_name_a_new_file_and_a_new_configuration() -> None:
    """Otherwise a request goes where things were at the start."""
    machine = FakeMachine(ROLES)
    await machine.start("tool", "coder")
    ask = Ask(text=lambda: "debug this")

    assert machine.world.routes.guide.router.decide(ask).model_id == "coder"

    await reload(machine, Config(routing=Routing(roles=Roles(code="nick"))))
    with pytest.raises(UnknownModel):
        machine.world.routes.guide.router.decide(ask)

    change = NameChange(add_nicknames=("nick",))
    await machine.request(NamesAsked, selection=named("tool"), change=change)
    await machine.settle()
    assert machine.world.routes.guide.router.decide(ask).model_id == "tool"

    machine.add("code")
    machine.emit(FolderChanged(tier="ssd"))
    await machine.settle()
    assert "code" in machine.world.routes.guide.facts


@asynchronous
async def test_guide_follows_arguments_that_are_stored() -> None:
    """They set the context that prompts are held against."""
    machine = FakeMachine()
    await machine.start("tool")
    assert machine.world.routes.guide.contexts["tool"] == 8192

    await load(machine, "tool", arguments=("-c", "2048"), store=True)

    assert machine.world.routes.guide.contexts["tool"] == 2048


@asynchronous
async def test_guide_stays_the_same_while_nothing_that_it_shows_changes() -> None:
    """It is made of every model: not for every request, load or tick."""
    machine = FakeMachine()
    await machine.start("tool")
    before = machine.world.routes.guide

    await load(machine, "tool")
    await machine.pass_time(20)

    assert machine.world.routes.guide is before


@asynchronous
async def test_guide_leaves_out_what_no_empty_machine_could_hold() -> None:
    """It would be chosen for ever, and refused for ever."""
    machine = FakeMachine(Config(memory=Memory(limit_gb=4)))
    machine.add("llama3.1-70b", gigabytes=40)
    await machine.start("qwen2.5-7b")
    machine.world.limits = (Row(pattern="*", context_tokens=32_768),)
    machine.emit(FolderChanged(tier="ssd"))
    await machine.settle()

    reply = route(machine.world, AskRoute(profile="general", explain=True))

    assert reply.model == "qwen2.5-7b"
    assert "Insufficient RAM" in reply.candidates[-1].left_out


@asynchronous
async def test_a_routed_load_has_the_context_of_its_options() -> None:
    """Unless an argument says it, or a server runs already."""
    machine = FakeMachine()
    await machine.start("tool", "other")
    for name, expected in (("tool", 2048), ("other", 1024)):
        arguments = ("-c", "1024") if name == "other" else None
        task = machine.request(
            LoadAsked,
            selection=Selection(model_id=name),
            origin=Origin.GATEWAY,
            context_tokens=2048,
            arguments=arguments,
        )
        await machine.settle()
        await machine.brings_up(name)
        await task
        assert machine.server(name).record.context_tokens == expected


@asynchronous
async def test_route_tells_who_would_answer_with_everything_behind_it() -> None:
    """The very router of the gateway decides."""
    options = Options(temperature=0.1, num_ctx=512)
    routing = Routing(
        roles=Roles(code="coder", fast="gone"),
        rules=(Rule(pattern="^x", model="tool"),),
        options={"general": Options(top_p=0.5)},
    )
    machine = FakeMachine(
        Config(routing=routing, models=Models(entries={"coder": Entry(options=options)}))
    )
    await machine.start("tool", "coder")

    reply = route(machine.world, AskRoute(text="debug this"))

    assert (reply.model, reply.route) == ("coder", "heuristic:code")
    assert [step.what for step in reply.steps] == ["rule 1", "role code"]
    assert reply.options == {"temperature": 0.1, "num_ctx": 512}
    assert reply.warnings == ("routing.roles.fast: there is no model 'gone' now",)
    assert reply.warnings[0] in views.status(machine.world, None).warnings


@asynchronous
async def test_route_without_a_text_is_a_request_that_names_nothing() -> None:
    """The default answers it; not whoever looks for what a model can do."""
    machine = FakeMachine(
        Config(models=Models(default="tool"), routing=Routing(overrides={"general": "coder"}))
    )
    await machine.start("tool", "coder")

    assert route(machine.world, AskRoute()).route == "default"
    assert route(machine.world, AskRoute(capabilities=("streaming",))).model == "coder"


@asynchronous
async def test_a_reload_warns_of_what_routing_names_and_is_not_there() -> None:
    """It may be a disk that is away, or a name that is mistyped: no reason to refuse all of it."""
    machine = FakeMachine()
    await machine.start("tool")
    config = Config(
        routing=Routing(overrides={"code": "gone", "fast": "tool"}),
        models=Models(default="nobody"),
    )

    reply = await reload(machine, config)

    assert reply.warnings == (  # type: ignore[attr-defined]
        "routing.overrides.code: there is no model 'gone' now",
        "models.default: there is no model 'nobody' now",
    )


@asynchronous
async def test_a_reload_warns_of_everything_else_that_has_no_effect_now() -> None:
    """A name that is mistyped, and arguments with which nothing loads, would be silent."""
    machine = FakeMachine()
    await machine.start("tool")
    models = Models(
        preload=("gone", "tool"),
        entries={"tool": Entry(), "a b": Entry(arguments=("--tools", "all"))},
    )
    servers = Servers(arguments=("--temp", "1", "--bogus"))
    config = Config(models=models, keep_alive=KeepAlive(models=("off",)), servers=servers)

    reply = await reload(machine, config)

    warnings = reply.warnings  # type: ignore[attr-defined]
    *names, arguments, denied = warnings
    assert names == [
        "models.preload: there is no model 'gone' now",
        "keep_alive.models: there is no model 'off' now",
        "models.entries.\"a b\": there is no model 'a b' now",
    ]
    assert arguments.startswith("servers.arguments: this llama-server has no '--bogus' (")
    assert denied.startswith("models.entries.\"a b\".arguments: '--tools' is not passed on")
    assert set(warnings) <= set(views.status(machine.world, None).warnings)


@asynchronous
async def test_a_reload_warns_of_a_budget_that_the_machine_does_not_have() -> None:
    """It is obeyed, and what fits into it may not fit into the machine."""
    machine = FakeMachine()
    await machine.start("tool")

    enough = await reload(machine, Config(memory=Memory(limit_gb=16)))
    more = await reload(machine, Config(memory=Memory(limit_gb=17)))
    nothing = await reload(machine, Config(memory=Memory(headroom_mb=16 * 1024)))
    little = await reload(machine, Config(memory=Memory(headroom_mb=16 * 1024 - 1)))

    assert enough.warnings == ()  # type: ignore[attr-defined]
    assert more.warnings == (  # type: ignore[attr-defined]
        "memory.limit_gb: 17 GB is more than the machine's 16.0",
    )
    assert nothing.warnings == (  # type: ignore[attr-defined]
        "memory.headroom_mb: 16384 leaves nothing of the machine's 16.0 GB: no model fits",
    )
    assert little.warnings == ()  # type: ignore[attr-defined]


@asynchronous
async def test_route_fails_where_nobody_would_answer_unless_it_is_to_explain() -> None:
    """A script wants the status, a person wants the reasons."""
    machine = FakeMachine()
    await machine.start("tool")

    with pytest.raises(UnknownModel):
        route(machine.world, AskRoute(profile="code"))
    told = route(machine.world, AskRoute(profile="code", explain=True))
    assert told.model == ""
    assert told.candidates[0].left_out.startswith("context 4096 <")
    with pytest.raises(Usage):
        route(machine.world, AskRoute(profile="codes", explain=True))
    with pytest.raises(Usage):
        route(machine.world, AskRoute(capabilities=("sight",)))


@asynchronous
async def test_suits_tells_what_is_known_and_what_lacks() -> None:
    """S1-18."""
    machine = FakeMachine()
    await machine.start("phi-2")

    reply = suits(machine.world, named("phi-2"), "", ())

    assert (reply.family, reply.context_tokens, reply.context_source) == ("phi", 2048, "table")
    assert [each.suits for each in reply.profiles] == [False] * 4
    assert reply.profiles[0].lacks == ("context 2048 < 4096 tokens",)
    assert len(suits(machine.world, named("phi-2"), "fast", ("vision",)).profiles) == 1


@asynchronous
async def test_suits_tells_the_most_output_that_the_users_table_has() -> None:
    """S1-19: a key that may be written and is never seen again is worse than none."""
    machine = FakeMachine()
    machine.world.limits = (Row(pattern="*", max_output_tokens=2048),)
    await machine.start("phi-2")

    assert suits(machine.world, named("phi-2"), "", ()).max_output_tokens == 2048


@asynchronous
async def test_what_was_routed_is_logged_with_the_rule_and_without_the_message() -> None:
    """S3-13, and what people say is nobody's business."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.emit(
        RequestsRouted(
            model_id="tool", route="rule:1", reason="rule 1: '^x' fits", pattern="^x", requests=3
        )
    )
    await machine.settle()

    logged = next(each for each in machine.journal.recent(20) if each.event == "routed")
    assert logged.message == "tool answers by rule:1, 3 times (rule 1: '^x' fits)"


@asynchronous
async def test_a_verdict_is_given_over_the_door() -> None:
    """S4-01, in its words; a name that means several is an error for programs."""
    machine = FakeMachine()
    machine.add("a/tool")
    machine.add("b/tool")
    await machine.start("big")

    async def verdict(name: str) -> Verdict:
        return await machine.request(  # type: ignore[no-any-return]
            VerdictAsked, selection=Selection(pattern=name, exact=True)
        )

    assert (await verdict("big")).reason == "Model can be loaded"
    assert (await verdict("bi")).reason == "Model bi not found in registry"
    with pytest.raises(Ambiguous):
        await verdict("tool")
