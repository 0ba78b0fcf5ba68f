"""Text of `doctor`: one line a finding, and below it the command that cures it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modelctl.render.screen import Screen, Style, clean, mark, paint, spell

OK, WARNING, FAILURE = "ok", "warning", "failure"
_MARKS: dict[str, tuple[str, Style]] = {
    OK: ("●", "success"),
    WARNING: ("◐", "warning"),
    FAILURE: ("✖", "error"),
}
_WORD_COLUMNS = 7
_CHECK_COLUMNS = 15


class Finding(NamedTuple):
    """What one look found."""

    check: str
    """What was looked at: one word."""
    state: str
    """`ok`, `warning` or `failure`."""
    found: str
    cure: str = ""
    """The command that helps; empty where none is needed."""


def findings_text(findings: Sequence[Finding], screen: Screen) -> str:
    """Return the findings as lines and their sum; tab-separated for a pipe, without the sum."""
    if not screen.terminal:
        rows = (
            (each.state, each.check, each.found.replace("\n", "; "), each.cure or "-")
            for each in findings
        )
        return "".join("\t".join(map(clean, row)) + "\n" for row in rows)
    lines = [line for each in findings for line in _lines(each, screen)]
    return "".join(f"{line}\n" for line in (*lines, sum_text(findings)))


def _lines(finding: Finding, screen: Screen) -> list[str]:
    symbol, style = _MARKS[finding.state]
    word = paint(finding.state, style, screen) + " " * (_WORD_COLUMNS - len(finding.state))
    indent = "\n" + " " * (2 + _WORD_COLUMNS + 2 + _CHECK_COLUMNS)
    found = spell(clean(finding.found, keep="\n"), screen).replace("\n", indent)
    lines = [f"{mark(symbol, style, screen)}{word}  {finding.check:<{_CHECK_COLUMNS}}{found}"]
    if finding.cure:
        lines.append(f"{indent[1:]}{paint('cure:', 'info', screen)} {clean(finding.cure)}")
    return lines


def sum_text(findings: Sequence[Finding]) -> str:
    """Return how many there are of each state: `3 ok, 2 warnings, 1 failure`."""
    ok, warnings, failures = (count(findings, state) for state in (OK, WARNING, FAILURE))
    return f"{ok} ok, {many(warnings, WARNING)}, {many(failures, FAILURE)}"


def count(findings: Sequence[Finding], state: str) -> int:
    """Return how many findings have this state."""
    return sum(each.state == state for each in findings)


def many(number: int, word: str) -> str:
    """Return a number of things: `1 model`, `2 models`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
