"""
Every command of modelctl, as literal data: the one source of its options, help and manual.

`parse` builds the parser of the one command that was asked for, `help` prints these words, and
the manual page is tested against them.  Nothing is imported or computed that could cost start-up
time, however many commands there come to be.
"""

from typing import NamedTuple


class Option(NamedTuple):
    """One option, with or without a value."""

    flags: tuple[str, ...]
    help: str
    value: str = ""
    """What its value is called; empty for a switch."""
    key: str = ""
    """The attribute it is read into; empty for its first flag's name."""
    kind: str = "word"
    """How the value is read: `word`, `name`, `slot`, `count`, `port` or `seconds`."""
    choices: tuple[str, ...] = ()
    repeated: bool = False
    """Whether it may come several times and all values count."""


class Argument(NamedTuple):
    """One positional argument."""

    name: str
    help: str
    times: str = "1"
    """`1`, `?` for none or one, `*` for any, `+` for at least one."""
    kind: str = "word"
    """As in `Option`."""


class Command(NamedTuple):
    """One command; a name of two words belongs to a group, as `nick set`."""

    name: str
    group: str
    """The heading it stands under in the help."""
    help: str
    run: str
    """Module below `modelctl.commands`, and function."""
    about: str = ""
    """What else is worth knowing, in a few sentences."""
    aliases: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    """What to type, and what it does."""
    conflicts: tuple[tuple[str, str], ...] = ()
    """Flags that contradict each other."""
    timeout_s: float = 30
    """How long it waits for an answer unless told otherwise; 0 for as long as it takes."""
    rest: str = ""
    """What follows `--`, where that has a meaning of its own."""


GLOBAL_OPTIONS: tuple[Option, ...] = (
    Option(("--json",), "print one JSON object, or one a line where there is a stream"),
    Option(("-q", "--quiet"), "print names only, and no talk"),
    Option(("-v", "--verbose"), "print more: further columns, headers in a pipe"),
    Option(
        ("--color",), "colour: auto, always or never", "WHEN", choices=("auto", "always", "never")
    ),
    Option(("--timeout",), "how long to wait for an answer: 90, 5m", "SEC", kind="seconds"),
    Option(("--socket",), "where modeld listens", "PATH"),
    Option(("-h", "--help"), "explain the command, and do nothing"),
    Option(("--version",), "print the version of modelctl, and do nothing"),
)

MODEL = Argument("MODEL", "a slot, a nickname, a name, a part of one, or a glob", "?")
MODELS = Argument("MODEL", "slots, nicknames, names, parts of one, or globs", "*")
SELECT: tuple[Option, ...] = (
    Option(("-m", "--model"), "the model, as MODEL", "MODEL", key="model"),
    Option(("-n",), "the model that has exactly this nickname", "NICK", key="nick"),
    Option(("-n1",), "the holder of this slot (one word: -n1)", "SLOT", key="slot"),
)
CHOOSE: tuple[Option, ...] = (
    Option(("--rank1",), "where several fit, take the highest rank without a word"),
    Option(("--no-multi-match",), "where several fit, do nothing and fail"),
)

COMMANDS: tuple[Command, ...] = (
    Command(
        "load",
        "Everyday",
        "make a model ready",
        "load.load",
        "Replaces every other model that is not pinned; --nokill keeps them.  A model that runs "
        "with the same arguments is left as it is.  Names are changed in the same breath, and "
        "all together.  Ctrl-C leaves the load going on.",
        arguments=(MODEL,),
        options=(
            *SELECT,
            *CHOOSE,
            Option(
                ("-p", "--port"), "also listen on this TCP port of 127.0.0.1", "PORT", kind="port"
            ),
            Option(("--nokill",), "keep the other models loaded"),
            Option(("--force",), "unload others, oldest use first, until it fits"),
            Option(("--force-pinned",), "unload pinned ones too"),
            Option(("--pin",), "never unload it until unpin"),
            Option(("--store",), "keep the arguments after -- for later loads"),
            Option(("--nickname",), "make this its only nickname", "NICK", kind="name"),
            Option(("--nickadd", "--na"), "add a nickname", "NICK", kind="name", repeated=True),
            Option(("--nickdel",), "take a nickname away", "NICK", kind="name", repeated=True),
            Option(("--nick1",), "make it the holder of a slot", "SLOT", kind="slot"),
            Option(("--move",), "take the nickname from another model"),
            Option(("--no-load",), "only change names"),
            Option(("--dry-run",), "tell what would be done, and why"),
            Option(("--no-wait",), "return as soon as the load has begun"),
            Option(("--cancel-on-interrupt",), "let Ctrl-C give up the load"),
            Option(
                ("--progress",),
                "how to show what goes on",
                "HOW",
                choices=("auto", "plain", "json", "none"),
            ),
        ),
        examples=(
            ("modelctl load -n1 tool", "load the holder of the slot 'tool'"),
            ("modelctl load qwen3 -- --ctx-size 16384", "hand arguments to llama-server"),
            ("modelctl load --nokill -p 8081 phi", "a second model, with a port of its own"),
            ("modelctl load --dry-run big", "would it fit, and what would have to go?"),
        ),
        conflicts=(
            ("--rank1", "--no-multi-match"),
            ("--no-load", "--dry-run"),
            ("--no-load", "--no-wait"),
            ("--no-load", "--pin"),
            ("--no-load", "--store"),
            ("--no-wait", "--cancel-on-interrupt"),
            ("--no-wait", "--dry-run"),
        ),
        timeout_s=600,
        rest="ARGUMENT",
    ),
    Command(
        "unload",
        "Everyday",
        "stop servers",
        "load.unload",
        "Answers are finished first, for as long as the configuration grants; --now does not wait.",
        arguments=(MODELS,),
        options=(
            *SELECT,
            Option(("--all",), "every model; pinned ones stay", key="everything"),
            Option(("--force-pinned",), "pinned ones too"),
            Option(("--now",), "do not wait for requests in flight"),
        ),
        examples=(
            ("modelctl unload tool", "stop the server of 'tool'"),
            ("modelctl unload --all", "stop every server"),
        ),
        timeout_s=120,
    ),
    Command(
        "ps",
        "Everyday",
        "list the servers",
        "models.ps",
        "Models whose server died stand below, with the cause and the time of the next attempt.",
        examples=(("modelctl ps", "what is loaded"), ("modelctl ps --json", "for a program")),
    ),
    Command(
        "list",
        "Everyday",
        "list the models on the disks",
        "models.list_models",
        "Lowest rank first.  TIER says where the copies are: SSD used in the last 7 days, ssd "
        "not, HDD1 and so on the slow disks, *** on the SSD only, st only remembered.",
        aliases=("ls",),
        arguments=(Argument("PATTERN", "only names that one of these fits", "*"),),
        options=(Option(("--refresh",), "look at the disks first"),),
        examples=(("modelctl list", "every model"), ("modelctl list 'qwen*'", "some of them")),
    ),
    Command(
        "show",
        "Everyday",
        "everything about one model",
        "models.show",
        arguments=(MODEL,),
        options=SELECT,
        examples=(("modelctl show tool", "its files, memory, rank and command line"),),
    ),
    Command(
        "status",
        "Everyday",
        "how everything is",
        "models.status",
        "With a model: whether it exists and is loaded; exit status 3 when it is not loaded.",
        arguments=(MODEL,),
        options=SELECT,
        examples=(
            ("modelctl status", "memory, loaded models, the daemon"),
            ("modelctl status tool && ask tool", "only if it is loaded"),
        ),
    ),
    Command(
        "can-load",
        "Everyday",
        "would a model fit beside what runs?",
        "load.can_load",
        "Prints the reason; exit status 0 for yes and 1 for no.  Changes nothing.",
        arguments=(MODEL,),
        options=SELECT,
        examples=(("modelctl can-load big", "yes or no, and the sum"),),
    ),
    Command(
        "nick set",
        "Names",
        "make NICK the only nickname of MODEL",
        "names.nick_set",
        arguments=(Argument("MODEL", "the model"), Argument("NICK", "its nickname", kind="name")),
        options=(Option(("--move",), "take the nickname from another model"),),
        examples=(("modelctl nick set qwen3-8b-q4 tiny", "call it tiny, and nothing else"),),
    ),
    Command(
        "nick add",
        "Names",
        "add nicknames",
        "names.nick_add",
        arguments=(Argument("MODEL", "the model"), Argument("NICK", "more nicknames", "+", "name")),
        options=(Option(("--move",), "take the nicknames from other models"),),
        examples=(("modelctl nick add tiny small quick", "two more names for tiny"),),
    ),
    Command(
        "nick rm",
        "Names",
        "take nicknames away",
        "names.nick_rm",
        arguments=(Argument("NICK", "nicknames", "+", "name"),),
        options=(Option(("-m", "--model"), "only if this model has them", "MODEL", key="model"),),
        examples=(("modelctl nick rm quick", "forget the name 'quick'"),),
    ),
    Command(
        "nick list",
        "Names",
        "list the nicknames",
        "names.nick_list",
        aliases=("nick ls",),
        examples=(("modelctl nick list", "every nickname, and its model"),),
    ),
    Command(
        "slot set",
        "Names",
        "make MODEL the one holder of SLOT",
        "names.slot_set",
        "Whoever held the slot before loses it in the same write.",
        arguments=(Argument("SLOT", "the slot", kind="slot"), Argument("MODEL", "the model")),
        examples=(("modelctl slot set tool qwen3-8b-q4", "'tool' now means qwen3-8b-q4"),),
    ),
    Command(
        "slot clear",
        "Names",
        "leave SLOT empty",
        "names.slot_clear",
        arguments=(Argument("SLOT", "the slot", kind="slot"),),
        examples=(("modelctl slot clear tool", "nobody is 'tool' any more"),),
    ),
    Command(
        "slot list",
        "Names",
        "list the slots",
        "names.slot_list",
        aliases=("slot ls",),
        examples=(("modelctl slot list", "every slot, and its holder"),),
    ),
    Command(
        "pin",
        "Names",
        "never unload a model",
        "names.pin",
        "Kept over restarts, until unpin.",
        arguments=(MODEL,),
        options=SELECT,
        examples=(("modelctl pin tool", "keep it loaded, whatever else is wanted"),),
    ),
    Command(
        "unpin",
        "Names",
        "take a pin back",
        "names.unpin",
        arguments=(MODEL,),
        options=SELECT,
        examples=(("modelctl unpin tool", "it may be unloaded again"),),
    ),
    Command(
        "logs",
        "Daemon",
        "the last log lines of a model, or of modeld",
        "daemon.logs",
        arguments=(MODEL,),
        options=(
            Option(("-m", "--model"), "the model, as MODEL", "MODEL", key="model"),
            Option(("-n", "--lines"), "how many lines", "N", kind="count", key="lines"),
            Option(("-f", "--follow"), "go on as lines come"),
        ),
        examples=(("modelctl logs -f tool", "watch the server of 'tool'"),),
    ),
    Command(
        "events",
        "Daemon",
        "what modeld does, as it happens",
        "daemon.events",
        "Until Ctrl-C.  Every line is in the journal too.",
        options=(
            Option(("-n", "--lines"), "how many past ones first", "N", kind="count", key="lines"),
            Option(("--no-follow",), "end after the past ones"),
        ),
        examples=(
            ("modelctl events", "watch"),
            ("modelctl events --json -n 100 --no-follow", "the last hundred, for a program"),
        ),
        timeout_s=0,
    ),
    Command(
        "wait",
        "Daemon",
        "wait until a model is ready, or modeld answers",
        "daemon.wait",
        arguments=(MODEL,),
        options=(
            *SELECT,
            Option(("--for",), "what to wait for", "WHAT", key="until", choices=("ready", "gone")),
        ),
        examples=(
            ("modelctl wait tool", "until it is ready"),
            ("modelctl wait --timeout 10", "until modeld answers"),
        ),
        timeout_s=600,
    ),
    Command(
        "reload",
        "Daemon",
        "read the configuration again",
        "daemon.reload",
        "A configuration with mistakes changes nothing.  Loaded models stay loaded.",
        examples=(("modelctl reload", "after an edit of modeld.toml"),),
    ),
    Command(
        "version",
        "Daemon",
        "versions of modelctl, modeld and llama-server",
        "daemon.version",
        "Works while modeld is not running.",
        examples=(("modelctl version", "to go with a report"),),
    ),
    Command(
        "help",
        "Daemon",
        "explain a command, or the exit codes",
        "help.help_about",
        arguments=(Argument("TOPIC", "a command, or exit-codes", "*"),),
        examples=(
            ("modelctl help load", "everything about load"),
            ("modelctl help exit-codes", "what exit statuses mean"),
        ),
    ),
)

FAMILIES: dict[str, str] = {
    "nick": "nicknames: any number a model, each of one model",
    "slot": "slots: roles that one model at a time holds",
}
"""First words of two-word commands."""

BY_NAME: dict[str, Command] = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}
