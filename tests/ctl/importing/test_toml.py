"""What is written must be read as what was meant, by a TOML reader that is not ours."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from modelctl.importing.toml import dumps

NAMES = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable())
PLAIN = st.one_of(
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20).filter(lambda text: not any(0xD800 <= ord(one) < 0xE000 for one in text)),
)
TABLES = st.recursive(
    st.dictionaries(NAMES, st.one_of(PLAIN, st.lists(st.text("ab \x7f", max_size=3), max_size=3))),
    lambda inner: st.dictionaries(NAMES, st.one_of(PLAIN, inner), max_size=4),
    max_leaves=12,
)


@given(TABLES)
def test_text_says_what_was_meant(tables: dict[str, object]) -> None:
    """Any letters in keys and values, any depth; empty tables say nothing."""

    def without_empty(table: dict[str, object]) -> dict[str, object]:
        found = {
            key: without_empty(value) if isinstance(value, dict) else value
            for key, value in table.items()
        }
        return {key: value for key, value in found.items() if value != {}}

    assert tomllib.loads(dumps(tables)) == without_empty(tables)


def test_list_of_tables_is_written_as_one() -> None:
    """As routing.rules is, in the order of the list."""
    rules = [{"pattern": "a\\d", "model": "x"}, {"pattern": 'b"', "model": "y"}]
    config: dict[str, object] = {"routing": {"enabled": True, "rules": rules}, "a": 1}

    assert tomllib.loads(dumps(config)) == config
