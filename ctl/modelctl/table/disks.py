"""Commands about the tiers: what lies on the SSD, what is copied there, and why."""

from modelctl.table.kit import MODEL, SELECT, Argument, Command, Option

_DRY_RUN = Option(("--dry-run",), "tell what would be done, and why")
_COPY_OF = "Without a model: every copy under way."

COMMANDS: tuple[Command, ...] = (
    Command(
        "cache show",
        "Disks",
        "the tiers, and the copies under way",
        "cache.show",
        aliases=("cache",),
        examples=(
            ("modelctl cache", "space, copies, and what the SSD has cost"),
            ("modelctl cache show --json", "for a program"),
        ),
    ),
    Command(
        "cache plan",
        "Disks",
        "what would be copied and expired, and why",
        "cache.plan",
        "Changes nothing.",
        options=(Option(("--free",), "what would go to have this much free", "SIZE", kind="size"),),
        examples=(
            ("modelctl cache plan", "what the policy would do now"),
            ("modelctl cache plan --free 100g", "what would be expired for 100 GB"),
        ),
    ),
    Command(
        "cache promote",
        "Disks",
        "copy a model to the SSD",
        "cache.promote",
        "However little it was used; not where there is no room for it.",
        arguments=(MODEL,),
        options=(*SELECT, _DRY_RUN),
        examples=(("modelctl cache promote tool", "the next load comes from the SSD"),),
    ),
    Command(
        "cache evict",
        "Disks",
        "remove a model's copy from the SSD",
        "cache.evict",
        "Its original stays on the slow disk.  What has none, runs or is pinned is not removed.",
        arguments=(MODEL,),
        options=(*SELECT, _DRY_RUN),
        examples=(("modelctl cache evict --dry-run big", "would it go?"),),
    ),
    Command(
        "cache pause",
        "Disks",
        "hold a copy back",
        "cache.pause",
        _COPY_OF,
        arguments=(MODEL,),
        options=SELECT,
        examples=(("modelctl cache pause", "leave the disks to something else"),),
    ),
    Command(
        "cache resume",
        "Disks",
        "let a copy go on",
        "cache.resume",
        _COPY_OF,
        arguments=(MODEL,),
        options=SELECT,
        examples=(("modelctl cache resume", "all of them go on"),),
    ),
    Command(
        "cache cancel",
        "Disks",
        "give a copy up",
        "cache.cancel",
        f"Nothing of it is left on the SSD.  {_COPY_OF}",
        arguments=(MODEL,),
        options=SELECT,
        examples=(("modelctl cache cancel big", "it is served from the slow disk"),),
    ),
    Command(
        "cache verify",
        "Disks",
        "read copies again, and compare",
        "cache.verify",
        "Without a model: all that modeld made.  A damaged one is removed, and its model served "
        "from the slow disk; exit status 1 then.",
        arguments=(MODEL,),
        options=SELECT,
        examples=(("modelctl cache verify tool", "is its copy what the original is?"),),
        timeout_s=0,
    ),
    Command(
        "rank",
        "Disks",
        "which models deserve the SSD",
        "cache.rank",
        "Highest rank first.",
        arguments=(MODEL,),
        options=(
            *SELECT,
            Option(("--explain",), "the terms of each rank, and what the policy makes of it"),
        ),
        examples=(
            ("modelctl rank", "every model"),
            ("modelctl rank --explain tool", "why it has the rank that it has"),
        ),
    ),
    Command(
        "simulate",
        "Disks",
        "play a scenario through the policy of the SSD",
        "simulate.simulate",
        "Touches no disk, process or statistics.  Without a scenario: which there are.  Exit "
        "status 1 where one does not end as it expects.",
        aliases=("sim",),
        arguments=(Argument("SCENARIO", "a name, a pattern, a list of times, or a file", "?"),),
        options=(
            Option(("--history",), "all uses that modeld remembers, on an empty SSD"),
            Option(
                ("--policy",),
                "by which rules",
                "POLICY",
                choices=("documented", "gain"),
                default="the scenario's, or cache.policy",
            ),
            Option(
                ("--what-if",), "with another setting of the policy", "KEY=VALUE", repeated=True
            ),
            Option(
                ("--ssd-free", "--sim-ssd-free"),
                "the room on the SSD",
                "SIZE",
                default="the scenario's",
                key="ssd_free",
                kind="size",
            ),
            Option(("--compare",), "how other policies would do"),
            Option(("--svg",), "draw what lay on the SSD into a file", "FILE"),
        ),
        examples=(
            ("modelctl simulate builtin1", "one of the scenarios that come with modeld"),
            ("modelctl simulate 'a:40g=0s/1h,1d,2d; b:8g=10d'", "uses as they come to mind"),
            ("modelctl simulate --history --compare", "which policy suits your own weeks?"),
        ),
        timeout_s=120,
    ),
)
