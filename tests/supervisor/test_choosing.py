"""`supervisor.choosing`: a model, or why there is none."""

import pytest
from msgspec.structs import replace

from modeld.config.schema import Config, Entry, Models, Rewrite
from modeld.core.events import LoadAsked, NamesAsked, Selection
from modeld.core.names import NameChange
from modeld.errors import UnknownModel, UnknownName
from modeld.supervisor import memory_views, routing, views
from modeld.supervisor.choosing import choose, naming_of
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous


@asynchronous
async def test_file_that_cannot_be_used_is_named_with_its_reason() -> None:
    """A file that lies there and "is not found" is a riddle."""
    machine = FakeMachine()
    for name in ("good", "a-bad-one", "bad"):
        machine.add(name)
    files = machine.folders.files
    files[1:] = [replace(each, header=None, problem="it is truncated") for each in files[1:]]
    await machine.start()

    for word, name in (("bad", "bad"), ("bad.gguf", "bad"), ("BAD-O", "a-bad-one")):
        with pytest.raises(UnknownModel) as refused:
            choose(machine.world, Selection(pattern=word))
        assert refused.value.hint == f"can't be used: /ssd/{name}.gguf: it is truncated"


@asynchronous
async def test_name_that_fits_nothing_gets_the_usual_advice() -> None:
    """An unusable file must not be blamed for every mistyped name."""
    machine = FakeMachine()
    await machine.start("good")

    with pytest.raises(UnknownModel, match="'goood' not found") as refused:
        choose(machine.world, Selection(pattern="goood"))
    assert "did you mean 'good'?" in refused.value.hint
    with pytest.raises(UnknownName):
        choose(machine.world, Selection(slot="tool"))


@asynchronous
async def test_variant_means_its_model_wherever_a_person_types_it() -> None:
    """Whoever sees it in `/v1/models` types it."""
    variants = {"qwen-quick": Rewrite(strip=("stop",)), "other": Rewrite()}
    machine = FakeMachine(Config(models=Models(entries={"qwen": Entry(variants=variants)})))
    await machine.start("qwen", "other")
    world, quick = machine.world, Selection(pattern="qwen-quick")

    assert views.show(world, quick).model.id == "qwen"
    assert memory_views.verdict(world, quick).model == "qwen"
    assert routing.suits(world, quick, "", ()).id == "qwen"
    loading = machine.request(LoadAsked, selection=quick)
    await machine.settle()
    await machine.brings_up("qwen")
    assert (await loading).model == "qwen"
    # whole names only, and after all others
    with pytest.raises(UnknownModel):
        choose(world, Selection(pattern="wen-quick"))
    assert choose(world, Selection(pattern="other")).model.id == "other"


@asynchronous
async def test_names_are_made_where_one_has_changed_and_never_to_choose() -> None:
    """With thousands of models that held the loop up at every word of a person."""
    machine = FakeMachine()
    await machine.start("qwen", "other")
    before = naming_of(machine.world)
    for name in ("qwen", "oth", "other.gguf"):
        choose(machine.world, Selection(pattern=name))
    assert naming_of(machine.world) is before

    change = NameChange(add_nicknames=("mine",))
    machine.request(NamesAsked, selection=Selection(pattern="other"), change=change)
    await machine.settle()
    assert choose(machine.world, Selection(pattern="mine")).model.id == "other"
    assert naming_of(machine.world) is not before
