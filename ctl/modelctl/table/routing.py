"""The command about routing."""

from modelctl.table.kit import Argument, Command, Option

COMMANDS: tuple[Command, ...] = (
    Command(
        "route",
        "Everyday",
        "which model would answer, and why?",
        "routing.route",
        "TEXT is what a request would say last; without one, no word decides.  Loads nothing.  "
        "With --check, whether a model suits a profile: exit status 0 for yes and 1 for no.",
        arguments=(Argument("TEXT", "the last message of a request that names no model", "*"),),
        options=(
            Option(("--explain",), "tell of every step, and of every model"),
            Option(
                ("--profile",),
                "the kind of work",
                "NAME",
                choices=("fast", "general", "code", "creative"),
                default="routing.default_profile",
            ),
            Option(("--check",), "tell whether this model suits", "MODEL"),
            Option(
                ("--capability",),
                "only models that have it",
                "WHAT",
                choices=("tools", "vision", "streaming", "reasoning"),
                repeated=True,
            ),
        ),
        examples=(
            ('modelctl route "write a function"', "who would answer that"),
            ("modelctl route --profile code --explain", "every model, with its score"),
            ("modelctl route --capability vision", "the best one for a picture"),
            ("modelctl route --check phi --profile code", "does it suit?"),
        ),
    ),
)
