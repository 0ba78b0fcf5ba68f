"""`host.estimate`: a llama-fit-params that is acted out by a script."""

import asyncio
import time
from pathlib import Path

import pytest

from modeld.core.events import Event, NeedTold
from modeld.core.fit import Told
from modeld.host import estimate
from modeld.host.estimate import FitParams

MIB = 1024**2
ANSWER = (Told("Host", 100 * MIB, 10 * MIB, MIB),)
GOOD = 'echo "$@" >> "$0.asked"; env >> "$0.env"; echo "noise" >&2; echo "Host 100 10 1 "'


def program(folder: Path, body: str) -> str:
    """Write a script that acts the tool out."""
    path = folder / "llama-fit-params"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def ask(folder: Path, *questions: tuple[str, tuple[str, ...]]) -> list[NeedTold]:
    """Ask, and return what is emitted."""

    async def scene() -> list[NeedTold]:
        told: list[NeedTold] = []
        done = asyncio.Event()

        def emit(event: Event) -> None:
            assert isinstance(event, NeedTold)
            told.append(event)
            if len(told) == len(questions):
                done.set()

        tool = FitParams(emit, folder / "cache" / "fit.json", {"PATH": "/usr/bin:/bin", "X": "1"})
        for key, words in questions:
            tool.ask(key, words)
        await asyncio.wait_for(done.wait(), 10)
        await tool.close()
        return told

    return asyncio.run(scene())


def test_tool_is_asked_with_a_clean_environment(tmp_path: Path) -> None:
    """`LLAMA_ARG_*` of the daemon's own would change the answer."""
    told = ask(tmp_path, ("k", (program(tmp_path, GOOD), "-m", "/m.gguf")))

    assert told == [NeedTold(key="k", told=ANSWER)]
    assert (tmp_path / "llama-fit-params.asked").read_text() == "-m /m.gguf\n"
    assert "X=1" not in (tmp_path / "llama-fit-params.env").read_text()


def test_answer_is_kept_for_the_next_daemon(tmp_path: Path) -> None:
    """A slow disk is woken once for it."""
    tool = program(tmp_path, GOOD)
    ask(tmp_path, ("k", (tool,)))

    assert ask(tmp_path, ("k", (tool,)), ("k", (tool,))) == [NeedTold(key="k", told=ANSWER)] * 2
    assert len((tmp_path / "llama-fit-params.asked").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "body",
    [
        "exit 1",
        "echo 'Host 100 10 1 '; exit 3",
        "echo nonsense",
        "kill -9 $$",
        "yes | head -c 999999",
    ],
)
def test_tool_that_fails_has_no_answer_and_is_asked_again(tmp_path: Path, body: str) -> None:
    """The formula decides then; a crash is no lasting fact about a model."""
    tool = program(tmp_path, body)

    assert ask(tmp_path, ("k", (tool,))) == [NeedTold(key="k")]
    assert not (tmp_path / "cache" / "fit.json").exists()


def test_tool_that_is_not_there_has_no_answer(tmp_path: Path) -> None:
    """It was removed since."""
    assert ask(tmp_path, ("k", ("/no/such",)), ("l", ()))[-1].told == ()


def test_tool_that_hangs_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty seconds are what a sleeping disk may take, and no more."""
    monkeypatch.setattr(estimate, "ANSWER_SECONDS", 0.3)
    pid_file = tmp_path / "pid"
    tool = program(tmp_path, f"sleep 60 & echo $! > {pid_file}; wait")
    began = time.monotonic()

    assert ask(tmp_path, ("k", (tool,))) == [NeedTold(key="k")]
    assert time.monotonic() - began < 5
    deadline = time.monotonic() + 5
    child = Path("/proc") / pid_file.read_text().strip() / "stat"
    while child.exists() and ") Z" not in child.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_damaged_cache_is_an_empty_one(tmp_path: Path) -> None:
    """It is only a cache."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "fit.json").write_text('{"version": 1, "answers": 7}')

    assert ask(tmp_path, ("k", (program(tmp_path, GOOD),)))[0].told == ANSWER


def test_question_about_a_file_whose_name_is_no_text_keeps_no_other_from_its_answer(
    tmp_path: Path,
) -> None:
    """The cache is text: else the first such file would end all questions."""
    tool = program(tmp_path, GOOD)

    told = ask(tmp_path, ("/m/\udcff.gguf", (tool,)), ("k", (tool,)))
    assert [each.told for each in told] == [ANSWER, ANSWER]
    assert ask(tmp_path, ("k", (tool,))) == [NeedTold(key="k", told=ANSWER)]
    assert len((tmp_path / "llama-fit-params.asked").read_text().splitlines()) == 2
