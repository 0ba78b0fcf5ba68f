"""
The command `init`: finds the folders with models, and writes them into the user's file.

What is configured stays, no folder is made, and a file is written only when modeld found no
mistake in the whole of it.  Works without a daemon, and with one, which then reads the file.
"""

from __future__ import annotations

import os
import tomllib
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from modelctl import changing, machine
from modelctl.editing import NEW
from modelctl.questions import Questions
from modelctl.render import init as view
from modelctl.render.answer import body
from modelctl.setup import advice
from modelctl.setup.choosing import HDD_PATHS, SSD_PATH, Choice, Settled, Use, choose, named
from modelctl.setup.finding import Finder, overlap
from modelctl.setup.report import FolderRow, InitReport
from modelctl.user_file import UserFile
from modeld.errors import ConfigInvalid, Refused, UnknownModel, Usage
from modeld.wire.configuration import AskConfig, ConfigReport

if TYPE_CHECKING:
    from modelctl.session import Session


class _Setting(NamedTuple):
    """One setting that stands somewhere already."""

    paths: tuple[str, ...]
    origin: str


def init(session: Session) -> int:
    """Write where the models are, and say what comes next."""
    questions = Questions(session)
    in_force = questions.ask(AskConfig(key="storage"), ConfigReport)
    file = UserFile(in_force.user_file)
    standing = _standing(in_force, file)
    finder = Finder(session.surroundings.environment, _home(session), session.surroundings.clock)
    if session.options.ssd or session.options.hdd:
        choice = _named(session, finder, standing)
    else:
        choice = _found(session, finder, standing)
    text = _text_with(file.text, choice)
    checked = changing.check(questions, file, text)
    report = InitReport(
        file=file.path,
        dry_run=session.options.dry_run,
        searched=finder.searched,
        folders=tuple(map(_row, choice.uses)),
        warnings=tuple(advice.warnings(choice)),
    )
    if checked is not None:
        report = structs.replace(
            report,
            changed=checked.changed,
            needs_restart=checked.needs_restart,
            warnings=(*report.warnings, *checked.notes),
        )
        if not report.dry_run:
            reloaded = changing.write(session, file, text, is_applied=questions.is_daemon)
            report = structs.replace(report, written=True, reloaded=reloaded is not None)
    start = "" if questions.is_daemon else _start_command(session)
    is_default = choice.ssd is None and SSD_PATH not in standing
    steps = advice.steps(choice, finder.default(), start, is_default=is_default)
    _show(session, structs.replace(report, next=tuple(steps)))
    return 0


# --- what stands already -------------------------------------------------------------------------


def _standing(report: ConfigReport, file: UserFile) -> dict[str, _Setting]:
    """Return the settings of folders that are set in any place, by their keys."""
    found = {
        each.key: _Setting(_paths(each.value), each.origin)
        for each in report.settings
        if each.key in {SSD_PATH, HDD_PATHS} and each.origin
    }
    # what was written since the daemon read the file stays as well
    for key in (SSD_PATH, HDD_PATHS):
        value = _value_in(file.text, key)
        if value is not None:
            origin = found[key].origin if key in found else file.path
            found[key] = _Setting(_paths(value), origin)
    return found


def _value_in(text: str, key: str) -> object:
    """
    Return the value of a key of the file; None where it does not stand there.

    Raises:
        ConfigInvalid: The file is no TOML.
    """
    table, name = key.split(".")
    try:
        found = tomllib.loads(text).get(table)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid(f"the file is no TOML: {error}", hint="modelctl config edit") from error
    return found.get(name) if isinstance(found, dict) else None


def _paths(value: object) -> tuple[str, ...]:
    """Return the folders of a setting; none for an empty one."""
    words = value if isinstance(value, tuple | list) else (value,)
    return tuple(str(word) for word in words if word)


def _home(session: Session) -> str:
    return session.surroundings.environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111


def _expanded(session: Session, path: str) -> str:
    home = _home(session)
    return os.path.normpath(home + path[1:] if path == "~" or path.startswith("~/") else path)


# --- choosing ------------------------------------------------------------------------------------


def _found(session: Session, finder: Finder, standing: dict[str, _Setting]) -> Choice:
    """
    Return what becomes of the folders that are found.

    Raises:
        UnknownModel: There are none, and none is configured.
    """
    known = {key: [_expanded(session, one) for one in each.paths] for key, each in standing.items()}
    ssds = [finder.folder(one) for one in known.get(SSD_PATH, [])]
    hdds = tuple(finder.folder(one) for one in known.get(HDD_PATHS, []))
    found = finder.search([one.path for one in (*ssds, *hdds)])
    if not found and not standing:
        there = [one for one in finder.searched if os.path.isdir(one)]  # noqa: PTH112
        raise UnknownModel(
            f"no model is in any of {len(finder.searched)} usual places, {len(there)} of them there"
            f": {', '.join(finder.searched)}",
            hint="modelctl init --ssd FOLDER, where FOLDER has .gguf files or will have them",
            places=len(finder.searched),
        )
    settled = Settled(
        ssd=ssds[0] if ssds else None,
        has_ssd=SSD_PATH in standing,
        hdds=hdds if HDD_PATHS in standing else None,
    )
    return choose(found, finder.default(), settled)


def _named(session: Session, finder: Finder, standing: dict[str, _Setting]) -> Choice:
    """
    Return what becomes of the folders that the options name.

    Raises:
        Usage: One can't be a folder of models.
        Refused: Others are configured.
    """
    ssd = [_require_folder(session, "--ssd", one) for one in (session.options.ssd,) if one]
    hdds = [_require_folder(session, "--hdd", one) for one in session.options.hdd]
    for at, path in enumerate((*ssd, *hdds)):
        for other in (*ssd, *hdds)[:at]:
            if overlap(os.path.realpath(path), os.path.realpath(other)):
                raise Usage(f"{path} and {other} are one folder, or lie inside each other")
    for key, paths in ((SSD_PATH, ssd), (HDD_PATHS, hdds)):
        before = standing.get(key)
        if paths and before and [_expanded(session, one) for one in before.paths] != paths:
            value = ",".join(paths) if key == HDD_PATHS else paths[0]
            raise Refused(
                f"{key} is set already, in {before.origin}: {', '.join(before.paths) or 'none'}",
                hint=f"modelctl config set {key} {quote(value)}",
            )
    return named(finder.folder(ssd[0]) if ssd else None, [finder.folder(one) for one in hdds])


def _require_folder(session: Session, flag: str, path: str) -> str:
    """
    Return the absolute path of a folder that is there.

    Raises:
        Usage: It is not, or is none, or can't be read.
    """
    if not path:
        raise Usage(f"{flag}: no folder is named", hint=f"modelctl init {flag} FOLDER")
    found = os.path.abspath(_expanded(session, path))  # noqa: PTH100
    if not found.isprintable():
        raise Usage(f"{flag}: {found!r} can't stand in a configuration", hint="rename it")
    if not os.path.lexists(found):
        raise Usage(
            f"{flag}: {found} is not there, and modeld makes no folder for models",
            hint=f"mkdir -p {quote(found)}",
        )
    if not os.path.isdir(found):  # noqa: PTH112
        raise Usage(f"{flag}: {found} is no folder", hint="name the folder that the files are in")
    if not os.access(found, os.R_OK | os.X_OK):
        raise Usage(f"{flag}: {found} can't be read", hint=f"ls -ld {quote(found)}")
    return found


# --- writing -------------------------------------------------------------------------------------


def _text_with(text: str, choice: Choice) -> str:
    """Return the file with what was chosen; the same text where that is nothing."""
    from tomlkit import item

    from modelctl.toml_text import with_value

    values = {SSD_PATH: choice.ssd, HDD_PATHS: None if choice.hdds is None else list(choice.hdds)}
    for key, value in values.items():
        if value is not None and _value_in(text, key) != value:
            text = with_value(text or NEW, key.split("."), item(value).as_string())
    return text


# --- telling -------------------------------------------------------------------------------------


def _row(use: Use) -> FolderRow:
    folder = use.folder
    return FolderRow(
        path=folder.path,
        models=folder.models,
        size_bytes=folder.size_bytes,
        complete=folder.is_whole,
        disk=folder.disk.name,
        disk_kind=folder.disk.kind.value,
        owner=folder.owner,
        key=use.key,
        kept=use.is_kept,
        why=use.why,
    )


def _start_command(session: Session) -> str:
    """Return what starts modeld here: its unit where the user manager knows it, or its name."""
    words = ("systemctl", "--user", "show", "-p", "LoadState", "modeld.service")
    told = machine.pairs(machine.output_of(words, session.surroundings.environment))
    is_unit = told.get("LoadState") == "loaded"
    return "systemctl --user enable --now modeld" if is_unit else "modeld"


def _show(session: Session, report: InitReport) -> None:
    if session.json:
        session.print_json(body(report))
        return
    if session.quiet:
        session.print("".join(f"{each.path}\n" for each in report.folders if each.key))
    else:
        session.print(view.report_text(report, session.screen))
    session.warn_of_restart(report.needs_restart)
    for note in report.warnings:
        session.warn(note)
