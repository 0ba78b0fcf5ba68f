"""What routing goes by: made of the configuration and of what there is."""

from modeld.config.schema import Config, Entry, Models, Options, Parameters, Roles, Routing, Rule
from modeld.core.limits import Row
from modeld.core.routing import Ask
from modeld.supervisor.guide import Guide, Prospect, default_model, guide, outlook
from tests.support.routing import model

LLAMA = model("llama3.1-8b", context_tokens=131_072, has_chat_template=True)
PHI = model("phi3-mini", context_tokens=4096)
INDEX = {"llama3.1-8b": ("llama3.1-8b",), "phi3-mini": ("phi3-mini",), "nick": ("phi3-mini",)}
COLD = Options(temperature=0.1, num_ctx=2048)


def _guide(config: Config | None = None, *prospects: Prospect, rows: tuple[Row, ...] = ()) -> Guide:
    both = (*prospects, Prospect(), Prospect())[:2]
    return guide(
        config or Config(),
        [outlook(model, each, rows) for model, each in zip((LLAMA, PHI), both, strict=True)],
        INDEX,
    )


def test_guide_has_the_words_of_the_configuration() -> None:
    """What is configured under any name is found by its id."""
    routing = Routing(roles=Roles(fast="nick"), rules=(Rule(pattern="^hi", model="fast"),))
    found = _guide(Config(routing=routing, models=Models(default="nick")))

    assert found.router.decide(Ask(text=lambda: "hi")).route == "rule:1"
    assert found.router.decide(Ask(text=lambda: "oh")).route == "heuristic:short"
    assert found.router.decide(Ask(text=lambda: "x" * 200)).route == "default"
    assert found.router.decide(Ask(name="auto", text=lambda: "x" * 200)).model_id == LLAMA.id


def test_guide_knows_by_which_context_a_model_is_loaded() -> None:
    """Not by what it was trained for: a prompt beyond it is refused."""
    assert _guide(Config(), Prospect(context_tokens=8192)).contexts[LLAMA.id] == 8192


def test_guide_has_the_users_table() -> None:
    """It comes first."""
    assert _guide(rows=(Row(pattern="phi3*", family="mine"),)).facts[PHI.id].family == "mine"


def test_guide_refuses_tools_where_the_template_has_none() -> None:
    """Only where that is certain: without a template in the file, the server decides."""
    assert _guide().tools_are_refused(LLAMA)
    assert not _guide().tools_are_refused(PHI)
    assert not _guide(
        Config(), Prospect(arguments=("--chat-template-file=/t.jinja",))
    ).tools_are_refused(LLAMA)
    assert not _guide().tools_are_refused(model("unheard-of", has_chat_template=True))


def test_guide_leaves_out_what_is_too_large_for_the_machine() -> None:
    """Whatever its family."""
    found = _guide(Config(), Prospect(impossible="too large"))

    assert found.router.decide(Ask(name="profile:fast")).model_id == PHI.id


def test_defaults_of_a_model_come_before_those_of_a_profile() -> None:
    """A model's own win, and both only fill what the request leaves open."""
    config = Config(
        models=Models(entries={"llama3.1-8b": Entry(options=COLD)}),
        routing=Routing(options={"code": Options(temperature=0.9, top_p=0.5, num_ctx=512)}),
    )
    found = _guide(config, Prospect(options=COLD))

    changes = found.defaults(LLAMA.id, "code")

    assert [each.default for each in changes] == [
        Parameters(temperature=0.1),
        Parameters(temperature=0.9, top_p=0.5),
    ]
    assert found.defaults(PHI.id, "") == ()
    assert found.context_wish(LLAMA.id, "code") == 2048
    assert found.context_wish(PHI.id, "code") == 512
    assert found.context_wish(PHI.id, "") == 0


def test_default_model_that_is_a_role_is_whose_the_role_is() -> None:
    """Embeddings know nothing of roles; where a model has that name, it is meant, as everywhere."""
    config = Config(models=Models(default="fast"), routing=Routing(roles=Roles(fast="nick")))

    assert default_model(config, INDEX) == "nick"
    assert default_model(config, {**INDEX, "fast": ("phi3-mini",)}) == "fast"
    assert default_model(Config(models=Models(default="fast")), INDEX) == "fast"
