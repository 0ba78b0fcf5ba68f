"""`supervisor.choosing`: a model, or why there is none."""

import pytest
from msgspec.structs import replace

from modeld.core.events import Selection
from modeld.errors import UnknownModel, UnknownName
from modeld.supervisor.choosing import choose
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
