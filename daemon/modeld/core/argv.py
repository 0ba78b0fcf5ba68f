"""
The command line and the environment of one llama-server, and what people may add to them.

A build's own `--help` says which options it has, so that an argument that it does not know is
refused here, with advice, and not by a server that dies.  What may be added is checked twice:
against that grammar, and against `DENIED`, the options that would open the server to the network,
let a model act on this machine, or take from modeld what it must set itself.  llama-server takes
`-` and `_` alike in long names, and an option and its value only as two words; so does this.

Words are passed on, never expanded; nothing is started here, and no file is looked at.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import pairwise
from posixpath import normpath

from msgspec import Struct

from modeld.core.entities import Binary
from modeld.errors import ArgumentDenied

_OWN = "modeld sets it"
_NETWORK = "it reaches out to the network"
_ACTS = "it lets a model act on this machine"
_OPENS = "it opens the server to others than modeld"
_FILES = "it makes the server read or write files of its own choice"
_EXITS = "it prints something and exits"
_NEEDED = "modeld watches the server by it"

# fmt: off
DENIED: dict[str, str] = {
    "--model": _OWN, "--alias": _OWN, "--host": _OWN,
    "--port": "modeld sets it: use `load -p PORT`",
    "--reuse-port": _OPENS, "--path": _OPENS, "--api-prefix": _OPENS, "--cors-*": _OPENS,
    "--ssl-*": _OPENS, "--api-key*": "the server's socket is private already",
    "--ui": _OPENS, "--ui-*": _OPENS, "--webui*": _OPENS, "--props": _OPENS,
    "--tools*": _ACTS, "--agent": _ACTS, "--mcp-*": _ACTS, "--video-ffmpeg-dir": _ACTS,
    "--model-url": _NETWORK, "--mmproj-url": _NETWORK, "--docker-repo": _NETWORK,
    "--hf-*": _NETWORK, "--rpc": _NETWORK, "--embd-*-default": _NETWORK, "--fim-*": _NETWORK,
    "--gpt-oss-*": _NETWORK, "--vision-*-default": _NETWORK,
    "--models-*": "modeld chooses the models",
    "--log-file": _FILES, "--log-prompts-dir": _FILES, "--slot-save-path": _FILES,
    "--media-path": _FILES, "--lookup-cache-dynamic": _FILES, "--control-vector*": _FILES,
    "--log-disable": _NEEDED, "--log-jsonl": _NEEDED, "--slots": _NEEDED,
    "--sleep-idle-seconds": "modeld unloads what is idle",
    "--help": _EXITS, "--version": _EXITS, "--cache-list": _EXITS, "--list-devices": _EXITS,
    "--completion-bash": _EXITS,
}
# fmt: on
"""
Options that are never passed on -> why.  `*` stands for any letters; every spelling counts, and
`--no-X` as `--X`.
"""
FILE_OPTIONS = frozenset(
    {
        "--mmproj",
        "--model-draft",
        "--lora",
        "--lora-scaled",
        "--chat-template-file",
        "--grammar-file",
        "--json-schema-file",
        "--lookup-cache-static",
    }
)
"""Options whose values are files that are read; each must lie in a known folder."""
COUNTS = frozenset({"--ctx-size", "--batch-size", "--ubatch-size", "--parallel", "--threads"})
"""Options whose values are checked here: a load that a server would refuse stops nothing first."""
MOVED = {
    "--mlock": "--load-mode mlock",
    "--no-mmap": "--load-mode none",
    "--mmap": "--load-mode mmap",
}
"""What older builds had -> what newer ones have instead."""
DEVICE_VARIABLES = (
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
    "ONEAPI_DEVICE_SELECTOR",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)
"""Which devices a server may use, and as what: all that it inherits besides PATH, HOME, LANG."""
HELP_COLUMN = 40
"""Where llama-server's help begins to describe an option."""
_SPELLING = re.compile(r"--?[A-Za-z][A-Za-z0-9._-]*")
_NEXT_SPELLING = re.compile(r"(?: [^\s,]+)?, *(?=-)")
_NUMBER_OF = re.compile(r"-?\d+")
_NUMBER = re.compile(r"-(?:\d|\.\d)[\d.,eE+-]*")


class Grammar(Struct, frozen=True):
    """The options of one build, as `Binary` keeps them."""

    flags: dict[str, bool]
    canonical: dict[str, str]


class Command(Struct, frozen=True, kw_only=True):
    """What a server is to be started with."""

    model_path: str
    mmproj_path: str = ""
    socket_path: str
    alias: str
    port: int = 0
    """A loopback TCP listener besides the socket; 0 for none."""
    context_tokens: int = 0
    """0 for what the model was trained with."""
    load_mode: str = ""
    """How weights come into memory; empty for the engine's own choice."""
    parallel: int = 0
    """Slots; 0 for the engine's own choice."""
    arguments: tuple[str, ...] = ()
    """What people asked for; checked, the later ones win."""


def parse_help(text: str) -> Grammar:
    """
    Return the options that a `--help` text describes; none where it is no such text.

    Options that are only named to say that they were removed are left out.
    """
    flags: dict[str, bool] = {}
    canonical: dict[str, str] = {}
    for line, after in pairwise([*text.splitlines(), ""]):
        spellings, takes_value, description = _parse_line(line)
        if "argument has been removed" in (description or after):
            continue
        flags.update(dict.fromkeys(spellings, takes_value))
        canonical.update(_canonical(spellings))
    return Grammar(flags, canonical)


def check_arguments(
    arguments: Sequence[str], binary: Binary, directories: Sequence[str] = ()
) -> None:
    """
    Check that all of `arguments` may be passed on to `binary`.

    Args:
        arguments: As a person or the configuration gave them.
        binary: The build that would get them.
        directories: Absolute folders that files named in arguments may lie in.

    Raises:
        ArgumentDenied: The first that may not, and why.
    """
    for spelling, value in _split(arguments, binary):
        name = _name(spelling, binary)
        if name in COUNTS and not _NUMBER_OF.fullmatch(value or ""):
            told = f"'{spelling}' takes a whole number, not '{value}'"
            raise _denied(spelling, told, f"for example: {spelling} 4096")
        for path in _paths(name, value or "", binary):
            _check_path(spelling, path, directories)


def normalised(
    arguments: Sequence[str], binary: Binary | None = None
) -> tuple[tuple[str, str], ...]:
    """
    Return `arguments` so that two lists that mean the same are equal.

    Order does not matter, the last of several wins, and with `binary` neither do spellings.
    """
    found: dict[str, tuple[str, str]] = {}
    for spelling, value in _split_leniently(arguments, binary):
        name = _name(spelling, binary) if binary else spelling
        found[_positive(name, binary)] = (name, value)
    return tuple(found[option] for option in sorted(found))


def value_of(arguments: Sequence[str], binary: Binary, option: str) -> str | None:
    """Return the value that `arguments` give to `option`, any spelling of it; None for none."""
    return dict(normalised(arguments, binary)).get(_name(option, binary))


def build_argv(binary: Binary, command: Command) -> tuple[str, ...]:
    """
    Return the whole command line of a server.

    Settings that this build has no option for are left out; what people asked for stands last,
    each option once.
    """
    host = f"{command.socket_path},127.0.0.1" if command.port else command.socket_path
    settings: list[tuple[tuple[str, ...], str | None]] = [
        (("--model", "-m"), command.model_path),
        (("--alias", "-a"), command.alias),
        (("--host",), host),
        (("--mmproj", "-mm"), command.mmproj_path or None),
        (("--port",), str(command.port) if command.port else None),
        (("--ctx-size", "-c"), str(command.context_tokens) if command.context_tokens else None),
        (("--load-mode", "-lm"), command.load_mode or None),
        (("--parallel", "-np"), str(command.parallel) if command.parallel else None),
        (("--cors-origins",), "localhost"),  # by default any web page may read what is answered
        (("--offline",), ""),
        (("--jinja",), ""),
        (("--slots",), ""),
        (("--no-ui", "--no-webui"), ""),
    ]
    asked = normalised(command.arguments, binary)
    given = {_positive(name, binary) for name, _ in asked}
    if "--mmproj-auto" in given:
        given.add("--mmproj")  # `--no-mmproj` would not keep it from loading one that is named
    words = list(binary.argv)
    for spellings, value in settings:
        known = next((each for each in spellings if each in binary.flags), None)
        if known and value is not None and _name(known, binary) not in given:
            words += [known, value] if value else [known]
    for name, value in asked:
        words += [name, value] if binary.flags.get(name) else [name]
    return tuple(words)


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """
    Return the whole environment of a server.

    Nothing else may get in: `LLAMA_ARG_*` would open tools and listeners behind the back of every
    check.  `LLAMA_SERVER_ROUTER_PORT` makes a server print what it loads; nothing listens there.

    Args:
        inherited: The daemon's environment.
    """
    devices = {name: inherited[name] for name in DEVICE_VARIABLES if name in inherited}
    return {
        "PATH": inherited.get("PATH") or "/usr/local/bin:/usr/bin:/bin",
        "HOME": inherited.get("HOME") or "/",
        "LANG": inherited.get("LANG") or "C.UTF-8",
        "LLAMA_SERVER_ROUTER_PORT": "1",
        **devices,
    }


def _parse_line(line: str) -> tuple[list[str], bool, str]:
    """Return the spellings that a line of help begins with, whether with a value, and the rest."""
    spellings: list[str] = []
    position = len(line) - len(line.lstrip(" "))
    if position > 2:
        return [], False, ""
    while match := _SPELLING.match(line, position):
        spellings.append(match[0])
        position = match.end()
        another = _NEXT_SPELLING.match(line, position)
        if another is None:
            break
        position = another.end()
    rest = line[position:]
    has_value = rest[:1] == " " and rest[1:2].strip() != "" and position + 1 != HELP_COLUMN
    return spellings, bool(spellings) and has_value, line[HELP_COLUMN:]


def _canonical(spellings: Sequence[str]) -> dict[str, str]:
    """
    Return the spelling that stands for each: one for yes, and one for no where the line has both.

    Help lists `-kvo, --kv-offload, -nkvo, --no-kv-offload`: no begins after the last long yes.
    """
    yes = [each for each in spellings if each.startswith("--") and not each.startswith("--no-")]
    has_no = any(each.startswith("--no-") for each in spellings)
    border = spellings.index(yes[-1]) + 1 if yes and has_no else len(spellings)
    found: dict[str, str] = {}
    for group in (spellings[:border], spellings[border:]):
        long = [each for each in group if each.startswith("--")]
        negated = [f"--no-{each[2:]}" for each in yes if f"--no-{each[2:]}" in group]
        first = [*negated, *long, *group][:1]
        found.update((each, first[0]) for each in group)
    return found


def _split(arguments: Sequence[str], binary: Binary) -> list[tuple[str, str | None]]:
    """Return options with their values, or raise for the first word that can't be passed on."""
    found: list[tuple[str, str | None]] = []
    words = iter(arguments)
    for word in words:
        spelling = _known(word, binary)
        value = None
        if binary.flags[spelling]:
            value = next(words, None)
            if value is None or (value.startswith("-") and not _NUMBER.fullmatch(value)):
                seen = "" if value is None else f", and '{value}' looks like an option"
                raise _denied(word, f"'{word}' needs a value{seen}", "write it after the option")
        found.append((spelling, value))
    return found


def _known(word: str, binary: Binary) -> str:
    """Return the spelling of an option that `binary` has and that may be passed on."""
    flag, equals, value = word.partition("=")
    spelling = _spelling(flag)
    if not spelling.startswith("-"):
        raise _denied(word, f"'{word}' is not an option", "options begin with -, values follow one")
    reason = _denial(spelling, binary)
    if reason:
        raise _denied(word, f"'{flag}' is not passed on: {reason}", "leave it out")
    if spelling not in binary.flags:
        raise _denied(word, f"this llama-server has no '{flag}'", _advice(spelling, binary))
    if equals:
        raise _denied(
            word, f"llama-server takes no '=' in '{word}'", f"write {flag} {value} as two words"
        )
    return spelling


def _denied(word: str, message: str, hint: str) -> ArgumentDenied:
    return ArgumentDenied(message, hint=hint, argument=word)


def _denial(spelling: str, binary: Binary) -> str:
    """Return why an option is denied under any of its spellings; empty if it is not."""
    name = binary.canonical.get(spelling, spelling)
    same = {spelling, *(each for each, one in binary.canonical.items() if one == name)}
    names = same | {_positive(each, binary) for each in same}
    for pattern, reason in DENIED.items():
        if any(fnmatchcase(each, pattern) for each in names):
            return reason
    return ""


def _advice(spelling: str, binary: Binary) -> str:
    moved = MOVED.get(spelling, "")
    if moved and moved.split()[0] in binary.flags:
        return f"this build has {moved} instead"
    close = get_close_matches(spelling, binary.flags, n=1)
    return f"did you mean '{close[0]}'?" if close else "llama-server --help lists its options"


def _spelling(flag: str) -> str:
    return flag.replace("_", "-") if flag.startswith("--") else flag


def _name(spelling: str, binary: Binary) -> str:
    return binary.canonical.get(spelling, spelling)


def _positive(name: str, binary: Binary | None) -> str:
    """
    Return the option that a `--no-X` switches off, else `name` itself.

    Both take no value; `--no-host` and `--no-mmproj` have nothing to do with `--host HOST`.
    """
    yes = f"--{name[5:]}" if name.startswith("--no-") else name
    return yes if binary is not None and binary.flags.get(yes) is False else name


def _split_leniently(arguments: Sequence[str], binary: Binary | None) -> list[tuple[str, str]]:
    """Return options with their values, whatever the words are; values belong to what precedes."""
    found: list[tuple[str, str]] = []
    wants = False
    for word in arguments:
        if wants and (not word.startswith("-") or _NUMBER.fullmatch(word)):
            found[-1] = (found[-1][0], word)
            wants = False
            continue
        spelling = _spelling(word)
        found.append((spelling, ""))
        wants = binary is None or binary.flags.get(spelling, False)
    return found


def _paths(name: str, value: str, binary: Binary) -> list[str]:
    """Return the files that an option's value names."""
    same = {each for each, one in binary.canonical.items() if one == name} | {name}
    if not same & FILE_OPTIONS:
        return []
    if "--lora-scaled" in same:
        return [each.rpartition(":")[0] or each for each in value.split(",")]
    return value.split(",") if "--lora" in same else [value]


def _check_path(spelling: str, path: str, directories: Sequence[str]) -> None:
    inside = any(path.startswith(f"{each.rstrip('/')}/") for each in directories)
    if path != normpath(path) or not inside:
        raise _denied(
            spelling,
            f"'{spelling}' may name only files in a folder of models, not '{path}'",
            f"put the file into {directories[0]}" if directories else "put it beside the model",
        )
