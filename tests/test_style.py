"""The manners that no linter knows: how long functions and modules may be, and who imports whom."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("daemon/**/*.py"), *ROOT.glob("ctl/**/*.py")])
MAX_FUNCTION_LINES = 50
MAX_MODULE_LINES = 400
BIN = Path(sys.executable).parent


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function, its docstring not counted."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return 0 if not body else (node.end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_is_short_and_says_what_it_is_for(path: Path) -> None:
    """Whoever opens a file must be able to hold it in the head."""
    text = path.read_text()
    tree = ast.parse(text)
    functions = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    too_long = [
        f"{node.name}: {length(node)}" for node in functions if length(node) > MAX_FUNCTION_LINES
    ]

    assert ast.get_docstring(tree), "no docstring: what is this module for?"
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    assert not too_long


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports"],
    ],
    ids=" ".join,
)
def test_linter_is_content(command: list[str]) -> None:
    """What a tool can find, no reviewer should have to."""
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted(ROOT.glob("man/*.[1-8]")), ids=lambda page: page.name)
def test_manual_is_lint_clean(page: Path) -> None:
    """A page that mandoc warns about is shown wrong somewhere."""
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(
        [mandoc, "-Tlint", "-W", "warning", page], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
