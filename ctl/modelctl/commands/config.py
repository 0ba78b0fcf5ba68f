"""
Commands about the configuration.

modeld says what is in force and what another text would do; the file is the user's, so it is
written here, and only when modeld found no mistake in the whole of it.
"""

import sys
from collections.abc import Callable

from modelctl import changing
from modelctl.errors import word_of
from modelctl.questions import Questions
from modelctl.render import config as view
from modelctl.render.answer import body
from modelctl.render.daemon import reloaded_text
from modelctl.session import Session
from modelctl.user_file import UserFile
from modeld.errors import ErrorCode, ModeldError, Usage
from modeld.wire.configuration import (
    AskConfig,
    AskConfigSchema,
    CheckConfig,
    ConfigChecked,
    ConfigReport,
    ConfigSchema,
    Converted,
    ConvertSetting,
    Setting,
)
from modeld.wire.daemon import Reloaded

DEFAULT_MODEL = "models.default"
ABSENT = "modeld is not running: this is what it would read\n"


def show(session: Session) -> int:
    """Print the settings in force."""
    questions = Questions(session)
    report = questions.ask(AskConfig(key=session.options.key), ConfigReport)
    settings = [one for one in report.settings if one.origin or not session.options.changed]
    if session.json:
        fields = {**body(report), "settings": [body(each) for each in settings]}
        session.print_json({**fields, "daemon": questions.is_daemon})
        return 0
    _tell_absent(session, questions)
    session.print(view.settings_text(settings, session.screen, with_origin=session.options.origin))
    if not settings:
        session.say("everything is as it is built in\n")
    for note in report.notes:
        session.warn(note)
    return 0


def get(session: Session) -> int:
    """Print one setting."""
    questions = Questions(session)
    key = session.options.key
    report = questions.ask(AskConfig(key=key), ConfigReport)
    if len(report.settings) != 1:
        raise Usage(f"'{key}' is a table", hint=f"modelctl config show {key}")
    setting = report.settings[0]
    if session.json:
        session.print_json({**body(setting), "daemon": questions.is_daemon})
    else:
        session.print(f"{view.plain(setting.value, setting.text)}\n")
    return 0


def set_(session: Session) -> int:
    """Write one setting into the user's file."""
    from modelctl.toml_text import with_value

    questions = Questions(session)
    key = session.options.key
    found = questions.ask(ConvertSetting(key=key, word=session.options.value), Converted)
    names = _names(found, key)
    return _change(session, questions, lambda text: with_value(text, names, found.text), key=key)


def use(session: Session) -> int:
    """Make a model what answers where none is named."""
    from modelctl.toml_text import with_value
    from modeld.wire.models import Show, Shown

    selector = session.require_selector()
    found = session.ask(Show(selector=selector), Shown).model
    asked = selector.slot or selector.nickname or selector.pattern.removeprefix("@")
    # a nickname or a slot stays what it says, whichever model has it tomorrow
    name = asked if asked in (*found.nicknames, *found.slots) else found.name
    questions = Questions(session)
    converted = questions.ask(ConvertSetting(key=DEFAULT_MODEL, word=name), Converted)
    names = _names(converted, DEFAULT_MODEL)
    return _change(
        session,
        questions,
        lambda text: with_value(text, names, converted.text),
        key=DEFAULT_MODEL,
    )


def unset(session: Session) -> int:
    """Take one setting out of the user's file."""
    from modelctl.toml_text import without_value

    questions = Questions(session)
    key = session.options.key
    names = _names(questions.ask(ConvertSetting(key=key), Converted), key)

    def without(text: str) -> str:
        changed = without_value(text, names)
        if changed == text:
            where = _origin(questions.ask(AskConfig(key=key), ConfigReport).settings)
            hint = f"it is set by {where}" if where else "it is as it is built in"
            raise Usage(f"{key} does not stand in your file", hint=hint)
        return changed

    return _change(session, questions, without, key=key, is_unset=True)


def edit(session: Session) -> int:
    """Have the user edit the file, until it is valid or given up."""
    from modelctl.editing import Editing

    questions = Questions(session)
    with Editing(session.surroundings.environment) as editing:
        while True:
            try:
                return _change(session, questions, editing.run)
            except ModeldError as error:
                if word_of(error) == ErrorCode.CONFIG and _wants_to_go_on(session, error):
                    continue
                if editing.is_edited:
                    error.hint = f"your edit is in {editing.keep()}"
                raise
            except KeyboardInterrupt:
                if editing.is_edited:
                    session.complain(f"\nyour edit is in {editing.keep()}\n")
                raise


def check(session: Session) -> int:
    """Tell whether a configuration is valid, and what it would change."""
    questions = Questions(session)
    checked = questions.ask(_to_check(session.options.file), ConfigChecked)
    if session.json:
        session.print_json({**body(checked), "daemon": questions.is_daemon})
        return 0
    session.print(view.checked_text(checked.changed, session.screen))
    session.warn_of_restart(checked.needs_restart)
    for note in checked.notes:
        session.warn(note)
    return 0


def schema(session: Session) -> int:
    """Print the JSON Schema of the file."""
    reply = Questions(session).ask(AskConfigSchema(), ConfigSchema)
    if session.json:
        from msgspec import Raw

        session.print_json({"schema": Raw(reply.text.encode())})
    else:
        session.print(f"{reply.text}\n")
    return 0


def path(session: Session) -> int:
    """Print where the user's file is."""
    report = Questions(session).ask(AskConfig(files_only=True), ConfigReport)
    if session.json:
        files = [body(each) for each in report.files]
        session.print_json({"user_file": report.user_file, "files": files})
    elif session.verbose:
        session.print(view.files_text(report.files, session.screen))
    else:
        session.print(f"{report.user_file}\n")
    return 0


def _change(
    session: Session,
    questions: Questions,
    changed: Callable[[str], str],
    *,
    key: str = "",
    is_unset: bool = False,
) -> int:
    """Replace the user's file by a changed one that modeld finds valid, and apply it."""
    file = UserFile(questions.ask(AskConfig(files_only=True), ConfigReport).user_file)
    text = changed(file.text)
    checked = changing.check(questions, file, text, key=key)
    if checked is None:
        if session.json:
            session.print_json(_outcome(file, None, is_reloaded=False, overruled_by=""))
        else:
            session.say("nothing has changed\n")
        return 0
    overruled_by = _origin(checked.settings)
    if overruled_by.startswith(f"{file.path}:"):
        overruled_by = ""
    is_reloaded = questions.is_daemon and not session.options.no_reload
    reloaded = changing.write(session, file, text, is_applied=is_reloaded)
    if session.json:
        session.print_json(
            _outcome(file, checked, is_reloaded=is_reloaded, overruled_by=overruled_by)
        )
        return 0
    _tell_changed(session, file, checked, reloaded)
    if overruled_by and is_unset:
        session.warn(f"{key} is not as it is built in: {overruled_by} sets it")
    elif overruled_by:
        session.warn(f"{key} is set by {overruled_by} too, which wins over {file.path}")
    if not questions.is_daemon:
        session.say("modeld is not running; it reads this when it starts\n")
    return 0


def _tell_changed(
    session: Session, file: UserFile, checked: ConfigChecked, reloaded: Reloaded | None
) -> None:
    """Print what became of a change."""
    if not session.quiet and reloaded is not None:
        session.print(reloaded_text(reloaded, session.screen))
    elif not session.quiet:
        session.print(view.written_text(file.path, checked.changed, session.screen))
    session.warn_of_restart((checked if reloaded is None else reloaded).needs_restart)
    for note in () if reloaded is None else reloaded.warnings:
        session.warn(note)


def _outcome(
    file: UserFile, checked: ConfigChecked | None, *, is_reloaded: bool, overruled_by: str
) -> dict[str, object]:
    """Return what became of a change, for programs."""
    return {
        "file": file.path,
        "changed": () if checked is None else checked.changed,
        "needs_restart": () if checked is None else checked.needs_restart,
        "reloaded": is_reloaded,
        "overruled_by": overruled_by,
    }


def _names(found: Converted, key: str) -> tuple[str, ...]:
    """Return the parts of a key; one of a list of tables has no name in the file."""
    names = tuple(one for one in found.path if isinstance(one, str))
    if len(names) < len(found.path):
        raise Usage(f"'{key}' is one of a list of tables", hint="modelctl config edit")
    return names


def _origin(settings: tuple[Setting, ...]) -> str:
    """Return where a key is set; for a table, where the first key of it is."""
    return next((one.origin for one in settings if one.origin), "")


def _to_check(name: str) -> CheckConfig:
    """Return the question for `config check`."""
    if not name:
        return CheckConfig()
    if name == "-":
        return CheckConfig(path="/dev/stdin", text=sys.stdin.read())
    file = UserFile(name)
    if not file.exists:
        raise Usage(f"{name} does not exist")
    return CheckConfig(path=file.absolute, text=file.text)


def _tell_absent(session: Session, questions: Questions) -> None:
    if not questions.is_daemon:
        session.say(ABSENT)


def _wants_to_go_on(session: Session, error: ModeldError) -> bool:
    """Print the mistakes, and ask whether they are to be mended; nobody there means no."""
    if session.json or not (sys.stdin.isatty() and session.talk_screen.terminal):
        return False
    from modelctl.render.answer import failure_text

    session.complain(failure_text(error.message, "", session.talk_screen))
    session.complain("edit again? [Y/n] ")
    said = sys.stdin.readline()
    return bool(said) and said.strip().lower() in {"", "y", "yes"}
