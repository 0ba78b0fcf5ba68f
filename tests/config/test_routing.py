"""What is a mistake in what routing goes by, and what is none."""

import pytest

from modeld.config.load import Source, load
from modeld.errors import ConfigInvalid


def test_models_that_are_not_there_are_no_mistake() -> None:
    """A disk may come back; modelctl route tells of them."""
    text = '[routing]\nroles.code = "gone"\noverrides.code = "gone"\n'

    assert load([Source("f", text)], {}, ()).config.routing.roles.code == "gone"


def test_the_limits_file_must_be_found_from_anywhere() -> None:
    """A daemon has no folder of its own to start from."""
    with pytest.raises(ConfigInvalid, match="absolute path"):
        load([Source("f", 'models.limits_file = "limits.toml"')], {"HOME": "/h"}, ())
    load([Source("f", 'models.limits_file = ""')], {"HOME": "/h"}, ())
