"""
Which model somebody means: `core.resolve`, with the world as it is now.

What every name means is kept until a model, a name or an entry changes: for thousands of models it
takes some milliseconds.  A name that fits nothing may fit a file that is there and cannot be used;
then that is said, rather than that there is no such thing.
"""

from posixpath import basename

from modeld.core.events import Selection
from modeld.core.resolve import EXTENSION, Chosen, select
from modeld.errors import UnknownModel
from modeld.supervisor.naming import Naming, naming
from modeld.supervisor.ranking import ranks
from modeld.supervisor.world import World


def naming_of(world: World) -> Naming:
    """Return what every name means now."""
    made_of = (
        world.models,
        world.state.nicknames,
        world.state.slots,
        world.config.models.entries,
    )
    if world.named_by != made_of:
        world.naming = naming(world.models, world.state, world.config.models.entries)
    world.named_by = made_of  # the very same values next time, so that a look costs nothing
    return world.naming


def choose(world: World, selection: Selection) -> Chosen:
    """
    Return the model that `selection` means, and the others that fitted.

    Raises:
        ModeldError: None fits, or several where one was wanted.
    """
    try:
        return select(
            selection,
            world.models,
            world.state,
            index=naming_of(world).index,
            ranks=lambda: ranks(world),
        )
    except UnknownModel as error:
        reason = _unusable(world, selection.pattern)
        if not reason:
            raise
        raise UnknownModel(error.message, hint=f"can't be used: {reason}") from error


def _unusable(world: World, word: str) -> str:
    """Return the sentence about a file of that name which is no model, if there is one."""
    name = word.casefold().removesuffix(EXTENSION)
    if not name:
        return ""
    close = ""
    for problem in world.file_problems:  # `PATH: why`
        stem = basename(problem.partition(f"{EXTENSION}: ")[0]).casefold()
        if stem == name:
            return problem
        close = close or (problem if name in stem else "")
    return close
