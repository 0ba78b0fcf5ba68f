"""llama-pack's two files: S0-51, and what its own reader gets wrong."""

from datetime import UTC, datetime

import pytest

from modelctl.importing.arguments import cleaned
from modeld.wire.history import PastUse
from tests.ctl.importing.support import DATA, fixture, gleaned, reasons, wrong


def at(*parts: int) -> float:
    """Return a moment of UTC.  [unix s]"""
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


def test_configuration_is_taken() -> None:
    """Folders, room, engine, arguments, and where clients look."""
    imported = fixture("llama_pack", "llama-pack-config.json")

    assert imported.config == {
        "storage": {"ssd_path": "~/llm/fast", "hdd_paths": ["/mnt/archive/llm"]},
        "cache": {"ssd_min_free_gb": 55.0},
        "servers": {
            "binary": "~/src/llama.cpp/build/bin/llama-server",
            "arguments": ["--flash-attn", "on", "-ngl", "80", "-c", "15000", "--jinja"],
        },
        "memory": {"vram_limit_gb": 11.5, "vram_headroom_mb": 768},
        "gateway": {"listen": ["127.0.0.1:8099"]},
    }
    assert imported.also == ("~/no-such-folder/stats.json",)
    assert not wrong(imported)


def test_configuration_leaves_the_rest_with_reasons() -> None:
    """Hosts and ports never come along, and nothing is left in silence."""
    left = reasons(fixture("llama_pack", "llama-pack-config.json"))

    assert {
        "default_host", "pid_dir", "stats_file", "planner_ctk", "known_tags", "simulations.week",
        "global_llama_args[5]", "global_llama_args[7]",
    } == set(left)  # fmt: skip
    assert left["global_llama_args[5]"].startswith("--port: ")


def test_history_is_taken_by_path() -> None:
    """Uses, times without a zone as UTC, run times, arguments without ports, nicknames."""
    qwen, gemma = fixture("llama_pack", "llama-pack-stats.json").history

    assert qwen == PastUse(
        path="/mnt/archive/llm/qwen/Qwen2.5-7B-Instruct-Q4_K_M.gguf",
        uses=14,
        last_used=at(2026, 10, 30, 18, 20, 1),
        timestamps=(at(2026, 10, 28, 7), at(2026, 10, 30, 18, 20, 1)),
        runtime_seconds=50400.0,
        last_runtime_seconds=1200.5,
        arguments=("-c", "32768"),
    )
    assert gemma.mmproj == "/mnt/archive/llm/mmproj-gemma-3-4b.gguf"
    assert gemma.nicknames == ("eyes",)


def test_history_leaves_the_rest_with_reasons() -> None:
    """Tags and notes have no place yet; what is broken is told by name."""
    imported = fixture("llama_pack", "llama-pack-stats.json")
    left = reasons(imported)

    assert left["*.tags"] == "modeld has no tags yet (1 file has it)"
    assert left["*.note"] == "modeld has no notes yet (1 file has it)"
    assert {"*.size_bytes", "*.mtime", "*.locations", "*.location", "*.gguf"} <= set(left)
    assert set(wrong(imported)) == {
        "Qwen2.5-7B-Instruct-Q4_K_M.gguf.use_timestamps",
        "oddity.gguf",
        "not-a-record",
    }


def test_two_files_of_one_name_are_told_apart_by_their_paths() -> None:
    """The original has one record for both; whose path it has, it is about."""
    text = '{"a.gguf": {"path": "/m/one/a.gguf", "total_uses": 1}, "b": {"path": "/m/two/a.gguf"}}'

    assert [past.path for past in gleaned("llama_pack", text, "stats.json").history] == [
        "/m/one/a.gguf",
        "/m/two/a.gguf",
    ]


@pytest.mark.parametrize("text", ["[]", "3", '{"a": []}', '{"a.gguf": {"llama_args": "x"}}'])
def test_file_of_another_shape_harms_nobody(text: str) -> None:
    """It may be any file."""
    assert not gleaned("llama_pack", text, "stats.json").config


def test_records_of_any_shape_are_read_or_told() -> None:
    """A person may have edited it."""
    record = '{"total_runtime_seconds": "long", "last_used": {}, "mmproj": 3, "path": []}'
    imported = gleaned("llama_pack", f'{{"a.gguf": {record}}}', "stats.json")

    assert imported.history == ()
    assert "a.gguf" in wrong(imported)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--host=0.0.0.0", "-c", "1"], ["-c", "1"]),
        (["-c", "1", "--port"], ["-c", "1"]),
        (["-fa"], ["-fa", "on"]),
        (["-fa", "off", "-c", "1"], ["-fa", "off", "-c", "1"]),
        (["--api-key", "hush", "-c", "1"], ["-c", "1"]),
    ],
)
def test_arguments_lose_what_modeld_sets_itself(words: list[str], kept: list[str]) -> None:
    """A server that listens elsewhere is one that modeld can't reach."""
    assert cleaned(words)[0] == kept


def test_fixture_has_what_only_a_careful_reader_survives() -> None:
    """Comments, an address with slashes, and a comma too many."""
    text = (DATA / "llama-pack-config.json").read_text()

    assert "https://" in text
    assert "//" in text
    assert '"--jinja", //' in text
