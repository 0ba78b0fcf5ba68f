"""What another program had counted counts here too: once, however often it is imported."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from modeld.core.entities import Header, Location, Model, ModelStats, State
from modeld.core.history import Past, by_file_name, combine, find_model, take_back, take_over
from modeld.core.stats import count_runtime, count_use

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAST = Past(
    path="/old/qwen.gguf",
    total_uses=5,
    last_used=NOON,
    use_timestamps=(NOON - timedelta(days=1), NOON),
    total_runtime_seconds=500.0,
    last_runtime_seconds=40.0,
)


def model(model_id: str, *paths: str) -> Model:
    """Return a model with a copy at each path."""
    locations = tuple(
        Location(tier="ssd", path=path, shard_paths=(path,), size_bytes=1, mtime_ns=1)
        for path in paths
    )
    name = model_id.rsplit("/", 1)[-1]
    return Model(id=model_id, name=name, size_bytes=1, header=Header(), locations=locations)


def catalogue(*models: Model) -> dict[str, Sequence[Model]]:
    """Return them by the names of their files."""
    return dict(by_file_name({one.id: one for one in models}))


def found(path: str, models: dict[str, Sequence[Model]]) -> str:
    """Return the id of the model that a file is."""
    one, _ = find_model(path, models)
    assert one is not None
    return one.id


def test_model_is_found_by_its_very_path_first() -> None:
    """Two folders may have a file of the same name: S0-51."""
    models = catalogue(model("a/x", "/m/a/x.gguf"), model("b/x", "/m/b/x.gguf"))

    assert found("/m/b/x.gguf", models) == "b/x"


def test_model_is_found_by_the_end_of_its_path_when_the_folder_moved() -> None:
    """The disk is mounted elsewhere now; what lies on it is the same."""
    models = catalogue(model("a/x", "/new/a/x.gguf"), model("b/x", "/new/b/x.gguf"))

    assert found("/old/disk/b/x.gguf", models) == "b/x"


def test_model_is_found_by_its_file_name_where_only_one_has_it() -> None:
    """The original knows no more than that name."""
    models = catalogue(model("deep/down/x", "/m/deep/down/x.gguf"), model("y", "/m/y.gguf"))

    assert found("x.gguf", models) == "deep/down/x"


@pytest.mark.parametrize(
    ("path", "why"),
    [("/old/x.gguf", "several models have this file name: a/x, b/x"), ("/m/z.gguf", "no such")],
)
def test_model_that_is_not_clear_is_not_guessed(path: str, why: str) -> None:
    """Uses of one model must not land on another."""
    models = catalogue(model("a/x", "/m/a/x.gguf"), model("b/x", "/m/b/x.gguf"))
    nothing, reason = find_model(path, models)

    assert nothing is None
    assert why in reason


def test_history_counts_on_top_of_what_modeld_counted() -> None:
    """S0-51: nothing of either is lost."""
    state = count_use(State(), "qwen", NOON.timestamp() + 60)
    stats = take_over(state, "qwen", PAST).models["qwen"]

    assert stats.total_uses == 6
    assert stats.use_timestamps == (*PAST.use_timestamps, NOON + timedelta(seconds=60))
    assert stats.use_runtimes_seconds == (100.0, 100.0, 0.0)
    assert stats.total_runtime_seconds == 500.0
    assert stats.last_used == NOON + timedelta(seconds=60)


def test_history_counts_once_however_often_it_is_taken_over() -> None:
    """Whoever runs the import again must not make a favourite of everything."""
    state = take_over(State(), "qwen", PAST)

    assert take_over(state, "qwen", PAST) is state


def test_history_that_grew_adds_only_what_is_more() -> None:
    """The other program may go on being used for a while."""
    state = take_over(State(), "qwen", PAST)
    later = NOON + timedelta(hours=1)
    grown = replace(
        PAST,
        total_uses=7,
        use_timestamps=(*PAST.use_timestamps, later),
        total_runtime_seconds=600.0,
    )
    stats = take_over(state, "qwen", grown).models["qwen"]

    assert stats.total_uses == 7
    assert stats.use_timestamps[-1] == later
    assert stats.total_runtime_seconds == 600.0


def test_history_keeps_the_last_hundred_uses() -> None:
    """S0-26 holds for these too."""
    stamps = tuple(NOON + timedelta(minutes=minute) for minute in range(100))
    state = count_use(State(), "qwen", NOON.timestamp() + 10**6)
    stats = take_over(state, "qwen", replace(PAST, use_timestamps=stamps)).models["qwen"]

    assert len(stats.use_timestamps) == len(stats.use_runtimes_seconds) == 100
    assert stats.use_timestamps[0] == stamps[1]


def test_history_keeps_two_own_uses_of_one_second() -> None:
    """They are two uses, however quickly they came."""
    state = count_use(count_use(State(), "qwen", 1000.0), "qwen", 1000.0)

    assert len(take_over(state, "qwen", PAST).models["qwen"].use_timestamps) == 4


def test_records_of_one_model_are_added_up() -> None:
    """The same file on two disks was counted twice by path."""
    both = combine([PAST, replace(PAST, total_uses=2, use_timestamps=(), nicknames=("q",))])

    assert both.total_uses == 7
    assert both.total_runtime_seconds == 1000.0
    assert both.nicknames == ("q",)


def test_taking_back_leaves_what_was_counted_since() -> None:
    """The disk refused the import; the uses of the meantime are true all the same."""
    before = count_use(State(), "qwen", 1000.0)
    after = take_over(before, "qwen", PAST)
    since = count_use(after, "qwen", NOON.timestamp() + 500)
    since = count_runtime(since, "qwen", "s1", seconds=30.0, closed=True)
    stats = take_back(since, before, after).models["qwen"]

    assert stats.total_uses == 2
    assert len(stats.use_timestamps) == 2
    assert stats.total_runtime_seconds == 30.0
    assert stats.imported_uses == 0


def test_taking_back_forgets_models_that_only_the_import_knew() -> None:
    """Else the file would keep empty records."""
    after = take_over(State(models={"other": ModelStats(total_uses=1)}), "qwen", PAST)
    before = State(models={"other": after.models["other"]})

    assert take_back(after, before, after) == before
