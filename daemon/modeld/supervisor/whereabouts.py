"""
Which copy of a model may be served, and which of the files on the SSD modeld made.

The catalogue knows every copy; here is what it does not know: files that are being removed, and
copies that may be damaged because the machine went down without a word.
"""

from collections.abc import Sequence

from modeld.core.entities import Location, Model
from modeld.supervisor import settings
from modeld.supervisor.copies import SSD, on_ssd, paths_below, source_of
from modeld.supervisor.ports import Folder
from modeld.supervisor.world import World


def ssd_folder(world: World) -> Folder | None:
    """Return the SSD's folder, where there is one and a slow tier beside it."""
    folders = settings.folders(world.config, world.home)
    if len(folders) < 2 or folders[0].tier != SSD:
        return None
    return folders[0]


class Whereabouts:
    """Tells which copies may be used."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.leaving: set[str] = set()
        """Files that are being removed: the catalogue may still show them, nobody may use them."""
        self.is_surveyed = False
        """Whether the list of copies that modeld made was read."""

    def location(self, model: Model) -> Location:
        """
        Return the copy to serve from.

        One on the SSD that may be damaged, since the machine went down without a word, is read
        again first, and the model is served from the slow tier meanwhile.
        """
        folder, copier = ssd_folder(self._world), self._world.ports.copier
        for location in model.locations if folder is not None else ():
            assert folder is not None
            if location.path in self.leaving:
                continue
            if location.tier == SSD and not self.is_surveyed and source_of(model) is not None:
                continue  # the list of our copies is not read yet
            if location.tier != SSD or not copier.is_ours(folder.path, location.path):
                return location
            if copier.is_verified(folder.path, location.path):
                return location
            if source_of(model) is not None:
                self.verify(location.shard_paths)
        return source_of(model) or model.location

    def own_paths(self, model: Model | None) -> tuple[str, ...]:
        """Return the files on the SSD that modeld made, of one model or of all."""
        folder = ssd_folder(self._world)
        models = [model] if model is not None else list(self._world.models.values())
        return tuple(
            path
            for each in models
            for location in filter(None, [on_ssd(each)])
            for path in location.shard_paths
            if folder is not None and self._world.ports.copier.is_ours(folder.path, path)
        )

    def own_projector(self, model: Model | None) -> tuple[str, ...]:
        """Return the mmproj on the SSD that was copied for this model and serves no other."""
        folder, location = ssd_folder(self._world), on_ssd(model) if model is not None else None
        if folder is None or location is None or not location.mmproj_path:
            return ()
        path = location.mmproj_path
        users = [each for each in self._world.models.values() if path in _projectors(each)]
        ours = self._world.ports.copier.is_ours(folder.path, path)
        is_there = path.startswith(f"{folder.path}/")
        return (path,) if is_there and ours and len(users) == 1 else ()

    def verify(self, paths: Sequence[str]) -> None:
        """Have copies read again."""
        folder = ssd_folder(self._world)
        if folder is not None:
            self._world.ports.copier.verify(folder.path, paths_below(folder.path, paths), False)

    def remove_paths(self, paths: Sequence[str]) -> None:
        """Remove damaged copies; their models are served from where else they lie."""
        folder = ssd_folder(self._world)
        if folder is not None:
            absolute = [f"{folder.path}/{path}" for path in paths]
            self._world.ports.copier.remove("", folder.path, absolute)

    def after_scan(self) -> None:
        """Forget files that are gone for good."""
        here = {path for model in self._world.models.values() for path in self._ssd_paths(model)}
        self.leaving &= here

    def _ssd_paths(self, model: Model) -> tuple[str, ...]:
        location = on_ssd(model)
        return location.shard_paths if location is not None else ()


def _projectors(model: Model) -> set[str]:
    return {location.mmproj_path for location in model.locations}
