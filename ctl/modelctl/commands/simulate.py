"""
`simulate`: what would become of a scenario, or of what was used so far.

Finds the scenario: a pattern, a file of the user's, a path, or a name that modeld knows.  The
playing is modeld's, by its own decisions.
"""

import os

from modelctl.render import simulate as view
from modelctl.render.answer import body
from modelctl.session import Session
from modeld.errors import ErrorCode, Usage, exit_status
from modeld.wire.simulate import (
    MAX_TEXT,
    ListScenarios,
    Scenarios,
    Simulate,
    SimulationReport,
)

UNMET = exit_status(ErrorCode.SERVER_FAILED)
"""1, as of every check that fails."""
FORMS = {".toml": "toml", ".json": "json"}


def simulate(session: Session) -> int:
    """Play a scenario; 1 where it does not end as it expects."""
    options = session.options
    if not options.scenario and not options.history:
        return _list(session)
    reply = session.ask(_request(session), SimulationReport)
    if options.svg:
        _write(options.svg, reply.picture)
    if session.json:
        session.print_json(body(reply))
    elif session.quiet:
        session.print("".join(f"{model}\n" for model in reply.summary.residents))
    else:
        session.print(view.report_text(reply, session.screen))
    return UNMET if reply.unmet else 0


def _list(session: Session) -> int:
    """List the scenarios that modeld brings, and the user's."""
    folder = _folder(session)
    own = dict.fromkeys(_names(folder), f"in {folder}")
    reply = session.ask(ListScenarios(), Scenarios)
    scenarios = {**reply.scenarios, **own}
    if session.json:
        session.print_json({"scenarios": scenarios})
    elif session.quiet:
        session.print("".join(f"{name}\n" for name in sorted(scenarios)))
    else:
        session.print(view.scenarios_text(scenarios, session.screen, header=session.verbose))
    return 0


def _request(session: Session) -> Simulate:
    """Return the request that the options spell out."""
    options = session.options
    if options.scenario and options.history:
        raise Usage("--history is a scenario itself", hint="modelctl simulate --history")
    changes = _changes(options.what_if)
    if options.policy:
        changes["policy"] = options.policy
    word: str = options.scenario
    name, text, form, title = word, "", "pattern", ""
    if any(letter in word for letter in "=;") or word.lstrip().startswith("["):
        name, text = "", word
    elif path := _path(word, _folder(session)):
        name, text, title = "", _read(path), os.path.basename(path)  # noqa: PTH119 (start-up time)
        form = FORMS.get(os.path.splitext(path)[1], "toml")  # noqa: PTH122
    return Simulate(
        name=name,
        text=text,
        form=form,  # type: ignore[arg-type]  # one of FORMS
        title=title,
        history=options.history,
        changes=changes,
        ssd_free_bytes=options.ssd_free,
        compare=options.compare,
        picture=bool(options.svg),
    )


def _changes(words: tuple[str, ...]) -> dict[str, str]:
    """Return the settings that `--what-if` names."""
    changes = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise Usage(f"'{word}' is not KEY=VALUE", hint="--what-if promote_min_uses=2")
        changes[key.strip()] = value.strip()
    return changes


def _folder(session: Session) -> str:
    """Return where the user's scenarios are."""
    environment = session.surroundings.environment
    home = environment.get("HOME", "")
    base = environment.get("XDG_CONFIG_HOME", "") or f"{home}/.config"
    return f"{base}/modeld/scenarios"


def _names(folder: str) -> list[str]:
    """Return the names of the user's scenarios."""
    try:
        found = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
    return [name[:-5] for name in found if name[-5:] in FORMS and not name.startswith(".")]


def _path(word: str, folder: str) -> str:
    """Return the file that is meant; empty where `word` is a name that modeld may know."""
    if "/" in word or word.endswith(tuple(FORMS)):
        return word
    own = (f"{folder}/{word}{suffix}" for suffix in FORMS)
    return next((path for path in own if os.path.isfile(path)), "")  # noqa: PTH113


def _read(path: str) -> str:
    """Return the text of a scenario."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            text = file.read(MAX_TEXT + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Usage(f"{path} can't be read: {why}", hint="modelctl simulate lists names") from error
    if not text.strip():
        raise Usage(f"{path} is empty", hint="see modelctl(1), SCENARIOS")
    if len(text) > MAX_TEXT:
        raise Usage(f"{path} is too long", hint=f"at most {MAX_TEXT} letters")
    return text


def _write(path: str, picture: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(picture)
    except OSError as error:
        raise Usage(f"{path} can't be written: {error.strerror}", hint="--svg FILE") from error
