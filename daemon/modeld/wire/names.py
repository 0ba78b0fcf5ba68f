"""Messages about names and pins: nick, slot, pin, unpin."""

from msgspec import Struct

from modeld.wire.common import Names, Selector


class ChangeNames(
    Struct, frozen=True, kw_only=True, tag="change-names", forbid_unknown_fields=True
):
    """
    Change nicknames and slots; acknowledged when it is on the disk.

    Reply: `Named`.  Fails with model_not_found, name_not_found, name_taken, state_not_saved.
    """

    selector: Selector | None = None
    """None only to clear a slot, or to delete nicknames from whoever has them."""
    change: Names


class Named(Struct, frozen=True, kw_only=True, tag="named"):
    """The names are changed, and on the disk."""

    model: str
    changes: tuple[str, ...]
    """One sentence each; empty when all was so already."""
    nicknames: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()


class ListNames(Struct, frozen=True, kw_only=True, tag="list-names", forbid_unknown_fields=True):
    """Ask for all names.  Reply: `AllNames`."""


class AllNames(Struct, frozen=True, kw_only=True, tag="all-names"):
    """All nicknames and slots -> model."""

    nicknames: dict[str, str]
    slots: dict[str, str]


class Pin(Struct, frozen=True, kw_only=True, tag="pin", forbid_unknown_fields=True):
    """Promise never to unload a model, or take that back.  Reply: `Named`."""

    selector: Selector
    pinned: bool
