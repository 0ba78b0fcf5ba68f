"""
The configuration files: which there are, and what they say together.

Reads, and never writes: the files are the user's.  What they mean is `modeld.config`'s business;
files that a configuration names in turn are looked at by whoever is given for that.
"""

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from modeld.config import schema
from modeld.config.load import Loaded, Source, load, paths_to_read
from modeld.config.schema import Config
from modeld.errors import ConfigInvalid


class ConfigFiles:
    """The files of one daemon, with the environment and the options that go with them."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        home: str,
        explicit: str | None = None,
        overrides: Sequence[str] = (),
        look_beside: Sequence[Callable[[Config], object]] = (),
    ) -> None:
        """
        Find out which files there may be.

        Args:
            environment: Of this process.
            home: The user's home directory.
            explicit: `--config FILE`.
            overrides: Each `--set`.
            look_beside: Each looks at a file that a configuration names, and raises ConfigInvalid.
        """
        self._patterns = paths_to_read(environment, home, explicit)
        self._is_explicit = len(self._patterns) == 1
        self._environment = environment
        self._overrides = overrides
        self._look_beside = look_beside

    @property
    def user_file(self) -> str:
        """The one that is the user's to write: the one that was named, or the usual one."""
        return self._patterns[0] if self._is_explicit else self._patterns[1]

    def places(self) -> list[tuple[str, bool]]:
        """Return every file that is read or would be, the weakest first, and whether it exists."""
        return [(name, Path(name).exists()) for name in self._names("")]

    def read(self) -> Loaded:
        """
        Return what the files say.

        Raises:
            ConfigInvalid: They have mistakes, all told at once; or one can't be read.
        """
        return self.check("", "")

    def check(self, path: str, text: str) -> Loaded:
        """
        Return what the files would say if one had another text.

        Args:
            path: Which; one that is none of them is taken alone; empty for none.
            text: Its text.

        Raises:
            ConfigInvalid: There are mistakes, all told at once; or a file can't be read.
        """
        names = list(self._names(path))
        if path and path not in names:
            names = [path]
        sources = [Source(path, text) if name == path else self._source(name) for name in names]
        found = [source for source in sources if source is not None]
        return load(found, self._environment, self._overrides, self._look_beside)

    def schema_source(self) -> str:
        """Return the text of the schema's module, whose docstrings explain the keys."""
        return Path(schema.__file__).read_text("utf-8")

    def _names(self, another: str) -> Iterator[str]:
        """Yield the names of the files; another one too where it would be read."""
        for pattern in self._patterns:
            # only the names in modeld.d are a pattern; a file that is named must be there
            if "*" not in pattern:
                yield pattern
                continue
            found = set(glob.glob(pattern))  # noqa: PTH207 (a pattern is no path)
            yield from sorted(found | ({another} if fnmatch(another, pattern) else set()))

    def _source(self, name: str) -> Source | None:
        try:
            return Source(path=name, text=Path(name).read_text(encoding="utf-8-sig"))
        except FileNotFoundError as error:
            if self._is_explicit:
                raise ConfigInvalid(f"{name} does not exist") from error
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(f"{name}: {error}", hint="is it a text file?") from error
