"""Commands that load, unload and look at models."""

from modelctl.table.kit import CHOOSE, MODEL, MODELS, SELECT, Argument, Command, Option

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
            Option(
                ("--keep-alive",), "how long it stays when idle: 10m, 0, -1", "TIME", kind="stay"
            ),
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
                default="auto",
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
            ("--no-load", "--keep-alive"),
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
            Option(("--idle",), "what has been idle for longer than its time"),
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
        "warm",
        "Everyday",
        "load models, and have each say a word",
        "warm.warm",
        "Nothing is unloaded for it: what does not fit beside the others is refused.  The word "
        "brings a model's weights to where they are used.",
        arguments=(MODELS,),
        options=SELECT,
        examples=(("modelctl warm tool phi", "two models that will be wanted soon"),),
        timeout_s=600,
    ),
    Command(
        "ps",
        "Everyday",
        "list the servers",
        "models.ps",
        "UNTIL is when a model goes if nobody asks it.  "
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
        "stats",
        "Everyday",
        "what requests cost: tokens, times, swaps",
        "usage.stats",
        "READY is the part of the requests whose model was loaded when they came, FIRST the time "
        "to the first token, SWAP how long a load took that a request waited for.",
        arguments=(MODEL,),
        options=SELECT,
        examples=(
            ("modelctl stats", "every model, most requests first"),
            ("modelctl stats --json tool", "one of them, for a program"),
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
)
