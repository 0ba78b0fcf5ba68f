"""Which files there are, and what they say together; read for real, never written."""

from pathlib import Path

import pytest

from modeld.config.schema import Config
from modeld.errors import ConfigInvalid
from modeld.host.config_files import ConfigFiles


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with a folder for the configuration."""
    (tmp_path / ".config" / "modeld" / "modeld.d").mkdir(parents=True)
    return tmp_path


def _files(home: Path, **options: str) -> ConfigFiles:
    return ConfigFiles({"HOME": str(home)}, home=str(home), **options)  # type: ignore[arg-type]


def _main(home: Path) -> Path:
    return home / ".config" / "modeld" / "modeld.toml"


def _part(home: Path, name: str) -> Path:
    return home / ".config" / "modeld" / "modeld.d" / name


def test_no_file_at_all_is_fine(home: Path) -> None:
    """The first start of all."""
    files = _files(home)

    assert files.read().config == Config()
    assert files.user_file == str(_main(home))
    assert [exists for path, exists in files.places() if str(home) in path] == [False]


def test_file_may_begin_with_a_byte_order_mark(home: Path) -> None:
    """Some editors write one, and nobody sees it."""
    _main(home).write_bytes(b"\xef\xbb\xbfgateway.max_body_mb = 1\n")

    assert _files(home).read().config.gateway.max_body_mb == 1


def test_parts_win_over_the_file_in_the_order_of_their_names(home: Path) -> None:
    """The later name wins, as everywhere in /etc."""
    _main(home).write_text("gateway.max_body_mb = 1\n")
    _part(home, "b.toml").write_text("gateway.max_body_mb = 3\n")
    _part(home, "a.toml").write_text("gateway.max_body_mb = 2\n")
    _part(home, "c.txt").write_text("no TOML at all")

    loaded = _files(home).read()

    assert loaded.config.gateway.max_body_mb == 3
    assert loaded.origins == {"gateway.max_body_mb": f"{_part(home, 'b.toml')}:1"}


def test_other_text_takes_the_place_of_a_file(home: Path) -> None:
    """What a change would do is asked before it is made."""
    _main(home).write_text("gateway.max_body_mb = 1\ngateway.max_waiting = 5\n")
    _part(home, "a.toml").write_text("gateway.max_body_mb = 2\n")
    loaded = _files(home).check(str(_main(home)), "gateway.max_body_mb = 7\n")

    assert (loaded.config.gateway.max_body_mb, loaded.config.gateway.max_waiting) == (2, 256)


@pytest.mark.parametrize("name", ["modeld.toml", "modeld.d/0.toml", "modeld.d/z.toml"])
def test_other_text_is_read_where_a_new_file_would_be(home: Path, name: str) -> None:
    """A file that does not exist yet has its place all the same."""
    _part(home, "a.toml").write_text("gateway.max_body_mb = 2\n")
    path = str(_main(home).parent / name)
    loaded = _files(home).check(path, "gateway.max_body_mb = 7\n")

    assert loaded.config.gateway.max_body_mb == (7 if name == "modeld.d/z.toml" else 2)


def test_file_of_no_place_is_checked_alone(home: Path) -> None:
    """It is a draft, or for another machine."""
    _main(home).write_text("gateway.max_waiting = 5\n")
    loaded = _files(home).check("/elsewhere/new.toml", "gateway.max_body_mb = 7\n")

    assert (loaded.config.gateway.max_body_mb, loaded.config.gateway.max_waiting) == (7, 256)


def test_explicit_file_is_the_only_one_and_must_be_there(home: Path) -> None:
    """`--config FILE`: a misspelt one must not give the defaults."""
    files = _files(home, explicit=str(home / "x.toml"))
    with pytest.raises(ConfigInvalid, match="does not exist"):
        files.read()
    (home / "x.toml").write_text("gateway.max_body_mb = 1\n")
    _main(home).write_text("nonsense")

    assert files.read().config.gateway.max_body_mb == 1
    assert files.user_file == str(home / "x.toml")
    assert files.places() == [(str(home / "x.toml"), True)]


def test_file_that_is_no_text_is_told(home: Path) -> None:
    """An editor's swap file, say."""
    _main(home).write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigInvalid, match=r"modeld\.toml"):
        _files(home).read()


def test_files_that_are_named_in_it_are_looked_at_too(home: Path) -> None:
    """A key file that others can read would end the next start, so no change may name it."""

    def refuse(config: Config) -> None:
        if config.gateway.max_body_mb == 7:
            raise ConfigInvalid("the file of keys")

    files = ConfigFiles({}, home=str(home), look_beside=(refuse,))
    files.read()
    with pytest.raises(ConfigInvalid, match="the file of keys"):
        files.check(str(_main(home)), "gateway.max_body_mb = 7\n")


def test_mistakes_in_files_that_are_named_are_told_with_those_of_the_naming_one(home: Path) -> None:
    """Told one file after the other, they would take as many reloads."""

    def keys(_: Config) -> None:
        raise ConfigInvalid("/k: no key", hint="make one")

    def limits(_: Config) -> None:
        raise ConfigInvalid("/l:2: no number\n/l:1: no word")

    both = ConfigFiles({}, home=str(home), look_beside=(keys, limits))
    with pytest.raises(ConfigInvalid) as caught:
        both.check(str(_main(home)), "gateway.max_body_mb = 0\n")
    first, *others = caught.value.message.splitlines()
    assert first.startswith(f"{_main(home)}:1: gateway.max_body_mb = 0")
    assert others == ["/k: no key", "/l:1: no word", "/l:2: no number"]

    with pytest.raises(ConfigInvalid) as caught:
        ConfigFiles({}, home=str(home), look_beside=(keys,)).read()
    assert caught.value.hint == "make one"


def test_schema_has_its_source() -> None:
    """The docstrings are the sentences that an editor shows."""
    assert "class Gateway(" in ConfigFiles({}, home="/").schema_source()
