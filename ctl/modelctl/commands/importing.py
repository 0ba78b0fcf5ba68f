"""
`import-config`: another program's configuration and history, taken over into modeld's.

First everything is read, asked and checked, and only then something is written: a drop-in, put
back if modeld will not have it, and then the history, which modeld itself saves.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module

from msgspec import msgpack, structs

from modelctl.commands.import_files import LIMITS_KEY, Writing
from modelctl.errors import Refusal
from modelctl.importing import place, source
from modelctl.importing.gleaning import Config, Imported, Left, Place, Taken
from modelctl.importing.report import ImportReport
from modelctl.questions import Questions
from modelctl.render import importing as view
from modelctl.render.answer import body
from modelctl.session import Session
from modeld.errors import ErrorCode, Unavailable, Usage, exit_status
from modeld.wire.history import (
    MAX_RECORDS,
    HistoryImported,
    HistoryRow,
    ImportHistory,
    PastUse,
)
from modeld.wire.models import ListModels, Models

KINDS = ("llama-pack", "ollm", "karen", "rustyclaw", "airganizer")
WRONG = exit_status(ErrorCode.SERVER_FAILED)
"""1, as of every check that fails."""
MAX_BATCH_BYTES = 256 << 10
"""Of records in one message; modeld takes four times as much."""
ARGUMENTS = "servers.arguments"
FOLDERS = "storage.hdd_paths"


def import_config(session: Session) -> int:
    """Take over what another program is told and remembers; 1 where the file has mistakes."""
    options = session.options
    if options.kind not in KINDS:
        raise Usage(f"no program '{options.kind}' is known", hint=f"one of {', '.join(KINDS)}")
    imported = _read(options.kind, options.file)
    writing = Writing(Questions(session), options.kind, options.file)
    imported = _with_folders(imported, writing)
    imported, rows = _asked(session, imported)
    imported = _with_new_rows(imported, writing)
    text = writing.text_of(imported.config) if imported.config else ""
    checked = writing.check(text) if text else None
    report = ImportReport(
        kind=options.kind,
        file=options.file,
        dry_run=options.dry_run,
        taken=imported.taken,
        left=imported.left,
        history=rows,
        changed=checked.changed if checked else (),
        needs_restart=checked.needs_restart if checked else (),
        warnings=checked.notes if checked else (),
    )
    if imported.limits:
        writing.add_rows(imported.limits, dry_run=True)
    if not options.dry_run:
        report = _apply(session, writing, imported, report)
    _show(session, report)
    return WRONG if any(left.wrong for left in report.left) else 0


# --- reading -----------------------------------------------------------------------------------


def _read(kind: str, path: str) -> Imported:
    """Return what a file comes to, with the files that belong to it."""
    format_: Callable[[source.Document, Place], Imported] = import_module(
        f"modelctl.importing.{kind.replace('-', '_')}"
    ).glean
    absolute = os.path.abspath(path)  # noqa: PTH100
    where = Place(os.path.dirname(absolute), os.path.basename(absolute))  # noqa: PTH119, PTH120
    imported = format_(source.require_settings(source.parse(place.read(path), path), path), where)
    for also in imported.also:
        other = os.path.expanduser(also)  # noqa: PTH111
        if not os.path.isfile(other):  # noqa: PTH113
            continue
        more = format_(source.parse(place.read(other), other), where)
        imported = imported._replace(
            left=(*imported.left, *more.left), history=(*imported.history, *more.history)
        )
    return imported._replace(history=tuple(_with_files(imported.history)))


def _with_files(history: Sequence[PastUse]) -> Iterator[PastUse]:
    """Yield the records, without projectors that are not there any more."""
    for past in history:
        gone = past.mmproj and not os.path.isfile(past.mmproj)  # noqa: PTH113
        yield structs.replace(past, mmproj="") if gone else past


def _with_folders(imported: Imported, writing: Writing) -> Imported:
    """Return it with its folders beside those that modeld has, since a list replaces a list."""
    storage = imported.config.get("storage")
    if not isinstance(storage, dict) or "hdd_paths" not in storage:
        return imported
    found = writing.setting(FOLDERS)
    slow = list(found) if isinstance(found, tuple | list) else []
    known = {_plain(one) for one in (*slow, writing.setting("storage.ssd_path"))}
    paths = slow + [one for one in storage["hdd_paths"] if _plain(one) not in known]
    config: Config = {**imported.config, "storage": {**storage, "hdd_paths": paths}}
    taken = [
        structs.replace(one, value=paths, note="beside those that are there")
        if slow and one.key == FOLDERS
        else one
        for one in imported.taken
    ]
    return imported._replace(config=config, taken=tuple(taken))


def _plain(path: object) -> str:
    """Return a folder's path so that two ways to write it are equal."""
    return os.path.expanduser(str(path)).rstrip("/")  # noqa: PTH111


def _with_new_rows(imported: Imported, writing: Writing) -> Imported:
    """Return it with the rows for the table of limits that this does not have yet."""
    if not imported.limits:
        return imported
    rows, left = writing.new_rows(imported.limits)
    taken = [
        Taken(str(row["pattern"]), LIMITS_KEY, {k: v for k, v in row.items() if k != "pattern"})
        for row in rows
    ]
    return imported._replace(
        limits=tuple(rows), taken=(*imported.taken, *taken), left=(*imported.left, *left)
    )


# --- asking ------------------------------------------------------------------------------------


def _asked(session: Session, imported: Imported) -> tuple[Imported, tuple[HistoryRow, ...]]:
    """Return it without what modeld says that it can't use, and what would become of records."""
    servers = imported.config.get("servers")
    words = servers.get("arguments", []) if isinstance(servers, dict) else []
    if not imported.history and not words:
        return imported, ()
    try:
        rows, problem = _exchange(session, imported.history, tuple(words), dry_run=True)
    except Unavailable as error:
        if imported.history:
            told = f"{error.message}: run this again when it is, for what it remembers"
            left = Left(f"{len(imported.history)} records of models", told)
            imported = imported._replace(left=(*imported.left, left), history=())
        return imported, ()
    if problem:
        imported = _without(imported, ARGUMENTS, problem)
    return imported, rows


def _without(imported: Imported, key: str, problem: str) -> Imported:
    """Return it without a key, which is told among what is left."""
    section, name = key.split(".")
    table = imported.config[section]
    assert isinstance(table, dict)
    rest: Config = {one: value for one, value in table.items() if one != name}
    config = {**imported.config, section: rest}
    if not rest:
        del config[section]
    gone = [taken for taken in imported.taken if taken.key == key]
    return imported._replace(
        config=config,
        taken=tuple(taken for taken in imported.taken if taken not in gone),
        left=(*imported.left, *(Left(taken.source, problem) for taken in gone)),
    )


def _exchange(
    session: Session, history: Sequence[PastUse], words: tuple[str, ...], *, dry_run: bool
) -> tuple[tuple[HistoryRow, ...], str]:
    """Send records to modeld; return what became of each, and what is wrong with arguments."""
    rows: list[HistoryRow] = []
    problem = ""
    for batch in tuple(_batches(history)) or ((),):
        request = ImportHistory(records=batch, arguments=words, dry_run=dry_run)
        reply = session.ask(request, HistoryImported)
        rows += reply.records
        problem = problem or reply.arguments_problem
        words = ()
    return tuple(rows), problem


def _batches(history: Sequence[PastUse]) -> Iterator[tuple[PastUse, ...]]:
    """Yield the records in portions that fit into a message."""
    batch: list[PastUse] = []
    size = 0
    for past in history:
        length = len(msgpack.encode(past))
        if batch and (len(batch) == MAX_RECORDS or size + length > MAX_BATCH_BYTES):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(past)
        size += length
    if batch:
        yield tuple(batch)


# --- writing -----------------------------------------------------------------------------------


def _apply(
    session: Session, writing: Writing, imported: Imported, report: ImportReport
) -> ImportReport:
    """Write what is taken, have modeld read it, and take the history over."""
    text = writing.text_of(imported.config) if imported.config else ""
    before = writing.before() if text else ""
    if before and before != text:
        _confirm(session, writing.drop_in)
    written: list[str] = []
    if imported.limits:
        written.append(writing.add_rows(imported.limits, dry_run=False))
    if text and text != before:
        reloaded = writing.put(text)
        written.append(writing.drop_in)
    else:
        reloaded = writing.reload() if written else None
    report = structs.replace(report, written=tuple(written))
    if reloaded is not None:
        report = structs.replace(
            report,
            changed=reloaded.changed,
            needs_restart=reloaded.needs_restart,
            warnings=reloaded.warnings,
        )
    if imported.history:
        if "storage" in imported.config:
            _look_at_disks(session)
        rows, _ = _exchange(session, imported.history, (), dry_run=False)
        report = structs.replace(report, history=rows)
    return report


def _confirm(session: Session, path: str) -> None:
    """Ask before a file is replaced that an earlier import wrote, or a person."""
    if session.options.yes:
        return
    if session.json or not sys.stdin.isatty():
        raise Usage(f"{path} is there already, and is another one", hint="--yes replaces it")
    session.complain(f"{path} is there already, and is another one.  Replace it? [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Usage("nothing was changed")


def _look_at_disks(session: Session) -> None:
    """Have modeld find the models in its new folders, so that records find theirs."""
    try:
        session.ask(ListModels(refresh=True), Models)
    except Refusal as refusal:
        if refusal.word != ErrorCode.TIMED_OUT:
            raise
        session.warn(f"{refusal.message}: run this again for models that are not found yet")


# --- showing -----------------------------------------------------------------------------------


def _show(session: Session, report: ImportReport) -> None:
    if session.json:
        session.print_json(body(report))
        return
    if not session.quiet:
        session.print(view.report_text(report, session.screen))
    session.warn_of_restart(report.needs_restart)
    for note in report.warnings:
        session.warn(note)
