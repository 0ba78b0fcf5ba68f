"""modeld-gateway(7) lists the routes and the statuses that there are, and no other."""

import ast
import re
from pathlib import Path

from modeld.errors import STATUSES
from modeld.gateway.measures import METRICS
from modeld.gateway.server import ROWS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "man" / "modeld-gateway.7").read_text("utf-8")
SOURCES = sorted((ROOT / "daemon" / "modeld" / "gateway").glob("*.py"))


def _told_by_the_gateway() -> set[int]:
    """Return every status that the gateway's code gives an error."""
    told = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            first = node.args[0]
            if name in {"Problem", "_refuse"} and isinstance(first, ast.Constant):
                told.add(int(str(first.value)))
    return told


def test_page_has_every_endpoint_and_no_other() -> None:
    """What is not told is not found, and what is told must be there."""
    told = re.findall(r"^\.It ([A-Z]+) Pa (\S+)$", PAGE, re.MULTILINE)

    assert sorted(told) == sorted((row.method, row.path) for row in ROWS)


def test_page_has_every_metric_with_its_labels_and_no_other() -> None:
    """Dashboards are built by this list."""
    told = re.findall(r"^\.It Li (modeld_\w+)(?: Brq (\S+))?\n(.+)$", PAGE, re.MULTILINE)

    assert told == [(each.name, ",".join(each.labels), each.help) for each in METRICS]


def test_page_has_every_status_and_no_other() -> None:
    """Programs branch on them."""
    told = [int(number) for number in re.findall(r"^\.It (\d{3})$", PAGE, re.MULTILINE)]
    possible = _told_by_the_gateway() | {each.http_status for each in STATUSES.values()}

    assert told == sorted(possible)
