"""Commands about modeld itself."""

from modelctl.table.kit import MODEL, SELECT, Argument, Command, Option

COMMANDS: tuple[Command, ...] = (
    Command(
        "logs",
        "Daemon",
        "the last log lines of a model, or of modeld",
        "daemon.logs",
        arguments=(MODEL,),
        options=(
            Option(("-m", "--model"), "the model, as MODEL", "MODEL", key="model"),
            Option(("-n", "--lines"), "how many", "N", kind="count", key="lines", default="50"),
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
            Option(
                ("-n", "--lines"),
                "how many past ones first",
                "N",
                kind="count",
                key="lines",
                default="none",
            ),
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
            Option(
                ("--for",),
                "what to wait for",
                "WHAT",
                key="until",
                choices=("ready", "gone"),
                default="ready",
            ),
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
        "init",
        "Daemon",
        "find your models, and write where they are into your file",
        "init.init",
        "Looks into the usual folders, tells SSDs from disks that turn, and writes "
        "storage.ssd_path and storage.hdd_paths.  With --ssd or --hdd it looks for nothing, and "
        "writes those.  What is set already stays, no folder is made, and modeld need not run.",
        options=(
            Option(("--ssd",), "the folder on the fast disk", "FOLDER"),
            Option(("--hdd",), "one on a slower disk", "FOLDER", repeated=True),
            Option(("--dry-run",), "tell what would be written, and change nothing"),
        ),
        examples=(
            ("modelctl init", "on a new machine"),
            ("modelctl init --dry-run", "what is there, and what would come of it?"),
            ("modelctl init --ssd ~/models --hdd /mnt/disk/models", "these, and no others"),
        ),
        timeout_s=60,
    ),
    Command(
        "doctor",
        "Daemon",
        "look for what is wrong, and say what cures it",
        "doctor.doctor",
        "Changes nothing, and works while modeld is not running.  Exit status 1 where something "
        "has failed; warnings alone are 0.",
        examples=(
            ("modelctl doctor", "what is wrong here?"),
            ("modelctl -q doctor", "only what is not well, by name"),
        ),
        timeout_s=10,
    ),
    Command(
        "env",
        "Daemon",
        "print the variables that point other programs here",
        "env.env",
        "Where there are keys, the shell reads the first out of their file; none is printed.",
        options=(
            Option(("--openai",), "only those of OpenAI's clients"),
            Option(("--anthropic",), "only those of Anthropic's clients"),
            Option(("--ollama",), "only those of Ollama's clients"),
            Option(
                ("--shell",), "for which shell", "SHELL", choices=("sh", "fish"), default="yours"
            ),
        ),
        examples=(
            ("modelctl env", 'what to set; eval "$(modelctl env)" sets it'),
            ("modelctl env --shell fish", "for fish: modelctl env | source"),
            ("modelctl env --ollama", "for one family of clients"),
        ),
    ),
    Command(
        "import-config",
        "Daemon",
        "take over another program's settings and history",
        "importing.import_config",
        "Programs: llama-pack, ollm, karen, rustyclaw, airganizer.  Every key of the file is told: "
        "what it becomes here, or why it is left.  Secrets are always left.  Exit status 1 where "
        "the file has mistakes; what is right is taken all the same.",
        arguments=(
            Argument("KIND", "whose file it is"),
            Argument("FILE", "its configuration, or what it remembers"),
        ),
        options=(
            Option(("--dry-run",), "tell what would be taken, and change nothing"),
            Option(("--yes",), "replace what an earlier import wrote, without asking"),
        ),
        examples=(
            ("modelctl import-config llama-pack ~/.config/llama-pack/config.json", "all of it"),
            ("modelctl import-config --dry-run rustyclaw config.yaml", "what would come of it?"),
        ),
        timeout_s=60,
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
