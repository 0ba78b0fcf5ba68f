"""The command table: literal data that parser, help and manual rely on."""

import ast
import importlib
import inspect
import shlex

import pytest

from modelctl.parse import attribute, parse
from modelctl.table import COMMANDS, FAMILIES, GLOBAL_OPTIONS, Command

NAMES = [command.name for command in COMMANDS]


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_table_names_a_function_for_each_command(command: Command) -> None:
    """A command that nothing runs would fail when somebody needs it."""
    module, function = command.run.split(".")

    assert callable(getattr(importlib.import_module(f"modelctl.commands.{module}"), function))


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_table_examples_parse_as_their_command(command: Command) -> None:
    """An example that does not work is worse than none."""
    for line, _ in command.examples:
        words = shlex.split(line.partition(" &&")[0])

        assert words[0] == "modelctl"
        assert parse(words[1:]).command is command


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_table_options_of_a_command_do_not_collide(command: Command) -> None:
    """Two options with one spelling, or read into one place, would silently be one."""
    options = (*GLOBAL_OPTIONS, *command.options)
    flags = [flag for option in options for flag in option.flags]
    places = [attribute(option) for option in options]

    assert len(flags) == len(set(flags))
    assert len(places) == len(set(places))


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_table_conflicts_are_between_options_that_exist(command: Command) -> None:
    """A misspelt conflict would never be noticed."""
    flags = {flag for option in command.options for flag in option.flags}

    assert {flag for pair in command.conflicts for flag in pair} <= flags


def test_table_has_every_command_of_two_words_in_a_known_family() -> None:
    """Without its family the first word would be taken for a whole command."""
    assert {name.split()[0] for name in NAMES if " " in name} == set(FAMILIES)


@pytest.mark.parametrize(
    "module", ["", ".kit", ".everyday", ".names", ".disks", ".daemon", ".configuration"]
)
def test_table_imports_nothing_but_typing_and_its_own_parts(module: str) -> None:
    """What the table imports, every start of modelctl pays for."""
    tree = ast.parse(inspect.getsource(importlib.import_module(f"modelctl.table{module}")))
    imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert {one for one in imports if not str(one).startswith("modelctl.table")} <= {"typing"}
