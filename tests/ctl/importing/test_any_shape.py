"""Files that a person or another program bent: every format ends in words, whatever is in them."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelctl.importing.source import parse
from modelctl.importing.toml import dumps
from tests.ctl.importing.support import DATA, gleaned

FILES = {
    "llama_pack": ("llama-pack-config.json", "llama-pack-stats.json"),
    "ollm": ("ollm-config.yaml", "ollm-documented.yaml", "ollm-user_models.json"),
    "karen": ("karen-template.json", "karen-installed.json"),
    "rustyclaw": ("rustyclaw-config.yaml",),
    "airganizer": ("airganizer-config.json",),
}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)


def places(values: object, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of everything in a file."""
    yield above
    inside = values.items() if isinstance(values, dict) else ()
    inside = enumerate(values) if isinstance(values, list) else inside
    for key, value in inside:
        yield from places(value, (*above, key))


def changed(values: object, path: tuple[str | int, ...], new: object) -> object:
    """Return the values with something else at a path."""
    if not path:
        return new
    if isinstance(values, dict):
        return {**values, path[0]: changed(values[path[0]], path[1:], new)}
    assert isinstance(values, list)
    return [changed(one, path[1:], new) if at == path[0] else one for at, one in enumerate(values)]


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_anything_anywhere_in_a_file_is_taken_or_told(kind: str, data: st.DataObject) -> None:
    """One value of a real file is replaced by any other; what comes out can be written."""
    name = data.draw(st.sampled_from(FILES[kind]))
    values = parse((DATA / name).read_text(), name).values
    path = data.draw(st.sampled_from(list(places(values))))
    bent = changed(values, path, data.draw(ANY))
    try:
        text = json.dumps(bent, allow_nan=False)
    except ValueError:  # NaN is no JSON
        return
    if not isinstance(bent, dict | list):
        text = f"[{text}]"
    imported = gleaned(kind, text, "config.json")

    tomllib.loads(dumps(imported.config))
    assert all(left.reason for left in imported.left)


def test_every_fixture_is_bent() -> None:
    """A new one must not be forgotten."""
    bent = {name for names in FILES.values() for name in names}
    spared = {"ollm-settings.json", "ollm-project.yaml", "rustyclaw-broken.yaml"}
    spared |= {"airganizer-config.yaml"}

    assert {path.name for path in Path(DATA).iterdir()} == bent | spared
