"""modelctl(1) against the command table, the error table and the messages: both ways."""

import re
from pathlib import Path

import pytest
from msgspec import Struct

from modelctl.commands.help import exit_codes
from modelctl.importing.gleaning import Left, Taken
from modelctl.importing.report import ImportReport
from modelctl.render.answer import failure_fields
from modelctl.render.doctor import Finding
from modelctl.setup.report import FolderRow, InitReport, NextStep
from modelctl.table import BY_NAME, COMMANDS, GLOBAL_OPTIONS, SELECT, Command, Option
from modeld.errors import STATUSES
from modeld.wire.cache import (
    CacheChanged,
    CacheDecision,
    CacheReport,
    CacheVerified,
    CopyRow,
    RankReport,
    RankRow,
    TierRow,
)
from modeld.wire.codec import Progress
from modeld.wire.configuration import ConfigChecked, ConfigFile, ConfigReport, Setting
from modeld.wire.daemon import Happened, Logs, Reloaded
from modeld.wire.history import HistoryRow
from modeld.wire.load import Candidate, Done, Loaded, Planned, Step, Unloaded, Verdict, Warmed
from modeld.wire.models import (
    FailedRow,
    GpuRow,
    LoadedModel,
    ModelRow,
    Models,
    ServerRow,
    Servers,
    Shown,
    StatusReport,
)
from modeld.wire.names import Named
from modeld.wire.routing import ProfileVerdict, RouteCandidate, Routed, RouteStep, Suits
from modeld.wire.simulate import EventRow, PolicyRow, SimulationReport, SimulationSummary
from modeld.wire.usage import UsageReport, UsageRow

PAGE = (Path(__file__).parents[2] / "man" / "modelctl.1").read_text()
NAMES = [command.name for command in COMMANDS]
STRUCTS: dict[str, type[Struct]] = {
    "Cm load": Loaded,
    "Cm load --dry-run": Planned,
    "Cm load --no-load": Named,
    "Cm unload": Unloaded,
    "Cm can-load": Verdict,
    "Cm route": Routed,
    "Cm route --check": Suits,
    "Em route_step": RouteStep,
    "Em route_candidate": RouteCandidate,
    "Em profile": ProfileVerdict,
    "Cm ps": Servers,
    "Cm list": Models,
    "Cm show": Shown,
    "Cm logs": Logs,
    "Cm wait": Done,
    "Cm reload": Reloaded,
    "Cm stats": UsageReport,
    "Cm cache show": CacheReport,
    "Cm cache plan": CacheChanged,
    "Cm cache verify": CacheVerified,
    "Cm rank": RankReport,
    "Cm simulate": SimulationReport,
    "Em setting": Setting,
    "Em file": ConfigFile,
    "Em simulated_event": EventRow,
    "Em summary": SimulationSummary,
    "Em comparison": PolicyRow,
    "Em tier": TierRow,
    "Em copy": CopyRow,
    "Em decision": CacheDecision,
    "Em rank": RankRow,
    "Em usage": UsageRow,
    "Em server": ServerRow,
    "Em failed": FailedRow,
    "Em model": ModelRow,
    "Em loaded_model": LoadedModel,
    "Em gpu": GpuRow,
    "Cm init": InitReport,
    "Em found_folder": FolderRow,
    "Em next_step": NextStep,
    "Cm import-config": ImportReport,
    "Em taken": Taken,
    "Em left": Left,
    "Em history": HistoryRow,
    "Em candidate": Candidate,
    "Em warmed": Warmed,
    "Em step": Step,
    "Em progress": Progress,
    "Em event": Happened,
}


def sections(macro: str, text: str = PAGE) -> dict[str, str]:
    """Return the text below each heading."""
    parts = re.split(rf"^\.{macro} (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def flags(text: str) -> set[str]:
    """Return every option that a list explains."""
    items = re.findall(r"^\.It (Fl .*)$", text, flags=re.MULTILINE)
    return {f"-{flag}" for item in items for flag in re.findall(r"Fl (\S+)", item)}


def spelt(options: tuple[Option, ...]) -> set[str]:
    """Return every spelling of the options."""
    return {flag for option in options for flag in option.flags}


def keys(item: str) -> set[str]:
    """Return the keys that the page gives for an object."""
    found = re.search(rf"^\.It {re.escape(item)}\n((?:\.Dl .*\n)+)", PAGE, flags=re.MULTILINE)
    assert found, f"no keys for {item}"
    return set(found[1].replace(".Dl ", " ").split())


COMMAND_TEXTS = sections("Ss", sections("Sh")["COMMANDS"])
GENERAL_TEXTS = sections("Ss", sections("Sh")["DESCRIPTION"])


def test_manual_explains_every_command_and_no_other() -> None:
    """A command that is not in the manual does not exist for half of the people."""
    assert list(COMMAND_TEXTS) == NAMES


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_manual_explains_every_option_of_a_command_and_no_other(command: Command) -> None:
    """Both ways: an option that went away must go from the manual too."""
    text = COMMAND_TEXTS[command.name]
    shared = spelt(SELECT) if ".Sx Choosing a model" in text else set()

    assert flags(text) | shared == spelt(command.options)


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_manual_names_the_arguments_and_aliases_of_a_command(command: Command) -> None:
    """The synopsis is what most people look at."""
    synopsis = COMMAND_TEXTS[command.name].splitlines()[0]

    assert synopsis.startswith(f".D1 Nm Cm {command.name}")
    assert all(argument.name in synopsis for argument in command.arguments)
    assert all(f".Cm {alias}" in COMMAND_TEXTS[command.name] for alias in command.aliases)


def test_manual_explains_the_options_of_every_command() -> None:
    """They are in the table once, and in the manual once."""
    assert flags(GENERAL_TEXTS["Options of every command"]) == spelt(GLOBAL_OPTIONS)
    assert flags(GENERAL_TEXTS["Choosing a model"]) == spelt(SELECT)


@pytest.mark.parametrize(
    "option", [one for command in COMMANDS for one in command.options if one.choices]
)
def test_manual_names_every_choice_of_an_option(option: Option) -> None:
    """A choice that nobody knows of is no choice."""
    text = "".join(COMMAND_TEXTS[one.name] for one in COMMANDS if option in one.options)

    assert all(re.search(rf"^\.Cm {choice}\b", text, re.MULTILINE) for choice in option.choices)


def test_manual_has_every_exit_status_with_its_error_codes() -> None:
    """`errors.STATUSES` is the one table."""
    items = sections("It", sections("Sh")["EXIT STATUS"])
    told = {int(status): text for status, text in items.items()}

    assert sorted(told) == [status for status, _ in exit_codes()]
    for code, status in STATUSES.items():
        assert str(code) in re.findall(r"\w+", told[status.exit_status])
    words = {
        word
        for text in told.values()
        for line in re.findall(r"^\.Em (.*)", text, re.MULTILINE)
        for word in re.findall(r"\w+", line)
    }
    assert words == set(map(str, STATUSES))


@pytest.mark.parametrize("item", STRUCTS)
def test_manual_has_every_key_of_json_and_no_other(item: str) -> None:
    """Programs are written by this list."""
    assert keys(item) == set(STRUCTS[item].__struct_fields__)


def test_manual_has_the_keys_of_status_in_both_shapes() -> None:
    """One report, two views."""
    only_for_one = {"exists", "loaded", "last_used"}

    assert keys("Cm status") == set(StatusReport.__struct_fields__) - only_for_one
    assert keys("Cm status MODEL") == {"model", "exists", "loaded", "lastUsed"}


@pytest.mark.parametrize(
    ("item", "struct"),
    [
        ("Cm config show", ConfigReport),
        ("Cm config get", Setting),
        ("Cm config check", ConfigChecked),
    ],
)
def test_manual_has_the_keys_of_answers_without_a_daemon(item: str, struct: type[Struct]) -> None:
    """They say whether one runs, since the daemon may know of variables that modelctl does not."""
    assert keys(item) == {*struct.__struct_fields__, "daemon"}


def test_manual_has_the_keys_of_a_finding() -> None:
    """What a program acts on after `doctor`."""
    assert keys("Em finding") == set(Finding._fields)


def test_manual_has_the_keys_of_an_error() -> None:
    """Numbers come on top of these."""
    error = failure_fields("busy", "m", "h", {})["error"]

    assert isinstance(error, dict)
    assert keys("Em error") == set(error)


def test_manual_examples_name_commands_that_exist() -> None:
    """What is copied from a manual is expected to work."""
    lines = re.findall(
        r"modelctl ([a-z-]+(?: (?:set|add|rm|list|clear|show|plan))?)", GENERAL_TEXTS["Examples"]
    )

    assert lines
    assert all(line in BY_NAME for line in lines)


def test_manual_variables_are_those_that_modelctl_reads() -> None:
    """A variable that is honoured but not told is a trap."""
    told = set(re.findall(r"^\.It Ev (.*)$", PAGE, re.MULTILINE))
    sources = "".join(
        path.read_text()
        for folder in ("ctl/modelctl", "daemon/modeld/wire")
        for path in (Path(__file__).parents[2] / folder).rglob("*.py")
    )
    read = set(re.findall(r'environment\.get\(\s*"([A-Z_]+)"', sources)) - {"HOME"}

    assert {name for item in told for name in item.split(" , ")} == read | {
        "FORCE_COLOR",
        "CLICOLOR_FORCE",
    }
