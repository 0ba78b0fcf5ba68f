"""Commands about the configuration."""

from modelctl.table.kit import NO_RELOAD, Argument, Command, Option

KEY = Argument("KEY", "such as gateway.listen, or a table, such as gateway", "?")
ONE_KEY = Argument("KEY", "such as gateway.listen")

COMMANDS: tuple[Command, ...] = (
    Command(
        "config show",
        "Configuration",
        "the settings in force, as TOML",
        "config.show",
        "Where modeld does not run, what it would read.",
        aliases=("config",),
        arguments=(KEY,),
        options=(
            Option(("--origin",), "say where each is set: file and line, variable or option"),
            Option(("--changed",), "only those that are not built in"),
        ),
        examples=(
            ("modelctl config show --origin --changed", "what is set, and where"),
            ("modelctl config show gateway", "one section"),
        ),
    ),
    Command(
        "config get",
        "Configuration",
        "print one setting",
        "config.get",
        "Without quotes where it is a string, and an empty line where it is unset.",
        arguments=(ONE_KEY,),
        examples=(("modelctl config get gateway.listen", "for a script"),),
    ),
    Command(
        "config set",
        "Configuration",
        "write one setting into your file, and apply it",
        "config.set_",
        "The comments of the file stay.  A value that makes the configuration invalid is refused "
        "with every mistake, and changes nothing.",
        arguments=(ONE_KEY, Argument("VALUE", "false, 7, tool, a,b or TOML")),
        options=(NO_RELOAD,),
        examples=(
            ("modelctl config set models.default tool", "what answers where no model is named"),
            ("modelctl config set gateway.listen 127.0.0.1:8080,127.0.0.1:11434", "a list"),
            ("modelctl config set routing.options.fast '{ temperature = 0.2 }'", "a table"),
        ),
    ),
    Command(
        "config unset",
        "Configuration",
        "take one setting out of your file, and apply it",
        "config.unset",
        "Whatever other places say then holds, or what is built in.",
        arguments=(ONE_KEY,),
        options=(NO_RELOAD,),
        examples=(("modelctl config unset models.default", "as it was"),),
    ),
    Command(
        "config edit",
        "Configuration",
        "edit your file, have it checked, and apply it",
        "config.edit",
        "With VISUAL or EDITOR, on a copy: the file is replaced only by a valid one.",
        options=(NO_RELOAD,),
        examples=(("modelctl config edit", "change several things at once"),),
    ),
    Command(
        "config check",
        "Configuration",
        "tell every mistake, or what a reload would change",
        "config.check",
        "Without FILE all files as they are; a FILE that modeld does not read is checked alone.",
        arguments=(Argument("FILE", "a file, or - for what comes in", "?"),),
        examples=(("modelctl config check new.toml", "before it takes the place of the old one"),),
    ),
    Command(
        "config schema",
        "Configuration",
        "the JSON Schema of the file, for editors",
        "config.schema",
        examples=(("modelctl config schema", "for a file that begins with #:schema"),),
    ),
    Command(
        "config path",
        "Configuration",
        "where your file is; with -v, every file that is read",
        "config.path",
        examples=(("modelctl config path -v", "which files there are"),),
    ),
)
