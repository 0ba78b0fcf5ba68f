"""A configuration is taken whole or refused whole, and every mistake is told with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.config.load import (
    Loaded,
    Source,
    changes,
    expand,
    load,
    needs_restart,
    paths_to_read,
    values,
)
from modeld.config.schema import Config
from modeld.errors import ConfigInvalid


def _load(
    *texts: str, environment: dict[str, str] | None = None, flags: tuple[str, ...] = ()
) -> Loaded:
    sources = [Source(f"/etc/{number}.toml", text) for number, text in enumerate(texts, 1)]
    return load(sources, {"HOME": "/home/u", **(environment or {})}, flags)


def _mistakes(
    *texts: str, environment: dict[str, str] | None = None, flags: tuple[str, ...] = ()
) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        _load(*texts, environment=environment, flags=flags)
    return caught.value.message.splitlines()


def test_nothing_at_all_gives_the_defaults() -> None:
    """An empty file, or none, must do."""
    assert _load().config == Config()
    assert _load("", "# only a comment\n").config == Config()


def test_later_file_wins_key_by_key() -> None:
    """Tables merge: a later file need not repeat the earlier one."""
    first = "[load]\nreplace = false\n[gateway]\nmax_body_mb = 1\nmax_waiting = 2\n"
    config = _load(first, "[gateway]\nmax_body_mb = 3\n").config

    assert config.load.replace is False
    assert (config.gateway.max_body_mb, config.gateway.max_waiting) == (3, 2)


def test_environment_wins_over_files_and_flags_win_over_it() -> None:
    """S1-26: flag > environment > file."""
    text = "[reload]\nmin_reload_seconds = 1\n"
    environment = {"MODELD_RELOAD__MIN_RELOAD_SECONDS": "2"}

    assert _load(text, environment=environment).config.reload.min_reload_seconds == 2
    flags = ("reload.min_reload_seconds=3",)
    assert _load(text, environment=environment, flags=flags).config.reload.min_reload_seconds == 3


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("MODELD_LOAD__REPLACE", "false", "load.replace", "false"),
        ("MODELD_LOAD__REPLACE", "0", "load.replace", "false"),
        ("MODELD_MEMORY__LIMIT_GB", "12.5", "memory.limit_gb", "12.5"),
        ("MODELD_STORAGE__HDD_PATHS", "/a, /b", "storage.hdd_paths", '["/a", "/b"]'),
        ("MODELD_STORAGE__HDD_PATHS", '["/a,x"]', "storage.hdd_paths", '["/a,x"]'),
        ("MODELD_GATEWAY__LISTEN", "", "gateway.listen", "[]"),
        ("MODELD_RANK__WEIGHTS__TOTAL", "1", "rank.weights.total", "1.0"),
        ("MODELD_MODELS__DEFAULT", "123", "models.default", '"123"'),
        ("MODELD_MODELS__ENTRIES__Phi-3__MEMORY_GB", "3", "models.entries.Phi-3.memory_gb", "3.0"),
    ],
)
def test_environment_takes_words_for_what_the_key_holds(
    name: str, text: str, key: str, value: str
) -> None:
    """S2-20: a unit file or a container has nothing but words."""
    loaded = _load(environment={name: text})

    assert values(loaded.config)[key] == value
    assert loaded.origins[key] == f"${name}"


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("ROUTING__OVERRIDES", "{ fast = 'a' }", "routing.overrides.fast", '"a"'),
        ("ROUTING__OVERRIDES__FAST", "a", "routing.overrides.fast", '"a"'),
        ("ROUTING__OPTIONS__FAST__TEMPERATURE", "0.5", "routing.options.fast.temperature", "0.5"),
        ("ROUTING__OPTIONS__FAST__STOP", "a, b", "routing.options.fast.stop", '["a", "b"]'),
        ("ROUTING__OPTIONS__FAST", "{ top_k = 3 }", "routing.options.fast.top_k", "3"),
        ("ROUTING__RULES", "[{pattern='x', model='fast'}]", "routing.rules[1].pattern", '"x"'),
        ("GATEWAY__COMPAT", "openai,ollama", "gateway.compat", '["openai", "ollama"]'),
        (
            "MODELS__ENTRIES__A__VARIANTS__Hot__SET__SEED",
            "7",
            "models.entries.A.variants.Hot.set.seed",
            "7",
        ),
        ("ROUTING__ROLES", "{ fast = 'a' }", "routing.roles.fast", '"a"'),
    ],
)
def test_environment_takes_tables_and_keys_inside_them(
    name: str, text: str, key: str, value: str
) -> None:
    """Whatever the file can say can be said without one."""
    loaded = _load(environment={f"MODELD_{name}": text})

    assert values(loaded.config)[key] == value
    assert loaded.origins[key] == f"$MODELD_{name}"


@pytest.mark.parametrize(
    "name", ["MODELD_SOCKET", "MODELD_CONFIG", "MODELD_LOG_LEVEL", "PATH", "XMODELD_A__B"]
)
def test_environment_of_other_purpose_is_left_alone(name: str) -> None:
    """Only a double underscore makes a key of ours."""
    assert _load(environment={name: "x"}).config == Config()


def test_override_may_quote_a_model_with_dots() -> None:
    """`--set` keys are TOML keys."""
    config = _load(flags=('models.entries."qwen2.5 x".arguments=-c, 4096',)).config

    assert config.models.entries["qwen2.5 x"].arguments == ("-c", "4096")


@pytest.mark.parametrize(
    ("preset", "count", "unloads", "seconds"),
    [
        ("aggressive", 3, False, 3600),
        ("balanced", 2, True, 300),
        ("conservative", 1, True, 60),
    ],
)
def test_preset_sets_three_keys(preset: str, count: int, unloads: bool, seconds: float) -> None:
    """S4-11."""
    models = _load(flags=(f"models.preset={preset}",)).config.models

    assert models.max_concurrent_loaded == count
    assert models.auto_unload_idle is unloads
    assert models.idle_timeout_seconds == seconds


def test_preset_leaves_what_is_set_itself() -> None:
    """One word for most, and a key for the exception, wherever either stands."""
    loaded = _load("[models]\nmax_concurrent_loaded = 5\n", flags=("models.preset=conservative",))

    assert loaded.config.models.max_concurrent_loaded == 5
    assert loaded.config.models.idle_timeout_seconds == 60
    assert loaded.origins == {
        "models.max_concurrent_loaded": "/etc/1.toml:2",
        "models.preset": "--set",
        "models.auto_unload_idle": "models.preset",
        "models.idle_timeout_seconds": "models.preset",
    }


def test_origin_is_the_line_of_the_key() -> None:
    """`config show --origin`: where does this come from?"""
    first = '# a\n\n[gateway]\n# b\nlisten = [\n  "127.0.0.1:1", # [x]\n]\nmax_body_mb = 1\n'
    second = 'rank.weights.total = 1\n[models.entries."a.b"]\ncontext_tokens = 5\n'
    origins = _load(first, second, flags=("gateway.max_body_mb=2",)).origins

    assert origins == {
        "gateway.listen": "/etc/1.toml:5",
        "gateway.max_body_mb": "--set",
        "rank.weights.total": "/etc/2.toml:1",
        'models.entries."a.b".context_tokens': "/etc/2.toml:3",
    }


def test_all_mistakes_are_told_at_once_with_their_places() -> None:
    """S1-27: one run of `modeld --check` shows everything there is to mend."""
    first = "[gateway]\nmax_body_mb = 0\nlistn = []\n\n[lode]\nreplace = true\n"
    second = '[load]\nreplace = "yes"\n[models.entries.phi]\ncontext = 1\n'

    assert _mistakes(first, second, flags=("rank.formula=new", "load")) == [
        "/etc/1.toml:2: gateway.max_body_mb = 0: expected a whole number from 1 to 1024",
        "/etc/1.toml:3: unknown key 'gateway.listn' (did you mean 'listen'?)",
        "/etc/1.toml:5: unknown key 'lode' (did you mean 'load'?)",
        '/etc/2.toml:2: load.replace = "yes": expected true or false',
        "/etc/2.toml:4: unknown key 'models.entries.phi.context' (did you mean 'context_tokens'?)",
        '--set: rank.formula = "new": expected "documented" or "legacy"',
        "--set load: expected SECTION.KEY=VALUE",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[load\nreplace = true", ":1:6: Expected ']'"),
        ("[load]\nreplace = \n", ":2:11: Invalid value: replace ="),
        ("a = 1\na = 2\n", "Cannot overwrite a value"),
        ("a = [1,\n", ":1:"),
        ("a = " + "[" * 5000, "/etc/1.toml"),
        ("a = " + '"' + "x" * (1 << 20), "more than 1048576 letters"),
    ],
)
def test_broken_toml_is_told_with_line_and_column(text: str, told: str) -> None:
    """S1-28: line, column and the line itself."""
    mistakes = _mistakes(text)

    assert mistakes[0].startswith("/etc/1.toml")
    assert told in mistakes[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("load = 1", "load = 1: expected a table"),
        ("[models]\nentries = 3", "models.entries = 3: expected a table"),
        ("[models.entries]\nx = 3", "models.entries.x = 3: expected a table"),
        ("[memory]\nlimit_gb = 0", "memory.limit_gb = 0: expected a number above 0"),
        ("[memory]\nlimit_gb = nan", "memory.limit_gb = nan: expected a number above 0"),
        ("[memory]\nlimit_gb = inf", "expected a number above 0"),
        (f"[memory]\nlimit_gb = 1{'0' * 400}", "expected a number above 0"),
        ("[servers]\nbinary = 3", "expected a string"),
        ('[servers]\nbinary = "a\\u0007"', "expected a string without control characters"),
        ('[servers]\nbinary = "a\\n"', "expected a string without control characters"),
        ('[servers]\narguments = "-c 1"', "expected a list of strings"),
        ("[servers]\narguments = [1]", "servers.arguments = [1]: expected a list of strings"),
        ("[reload]\nmin_reload_seconds = 1.5", "expected a whole number from 0 to 86400"),
        ("[load]\nreplace = 2020-01-01", "expected true or false"),
        ('[models.entries."a\\u0000"]\nmemory_gb = 1', "expected a string without control"),
    ],
)
def test_wrong_value_is_told_with_what_was_expected(text: str, told: str) -> None:
    """The words come from the schema, so they cannot be out of date."""
    assert told in _mistakes(text)[0]


def test_mistakes_inside_tables_of_tables_are_told_at_their_own_lines() -> None:
    """A rule is found by its number and its line, however many there are."""
    text = """\
[[routing.rules]]
pattern = "a"
model = "fast"

[[routing.rules]] # the second
pattern = 3
[routing.overrides]
fast = 1
[models.entries."a.b".variants.hot]
strip = 3
"""
    string = "expected a string without control characters, at most 4096 letters"

    assert _mistakes(text) == [
        f"/etc/1.toml:5: routing.rules[2].model is missing: {string}",
        f"/etc/1.toml:6: routing.rules[2].pattern = 3: {string}",
        f"/etc/1.toml:8: routing.overrides.fast = 1: {string}",
        '/etc/1.toml:10: models.entries."a.b".variants.hot.strip = 3: expected a list of strings',
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules = 3", "routing.rules = 3: expected a list of tables"),
        ("rules = [3]", "routing.rules[1] = 3: expected a table"),
        ("rules = [{}, 3]", "routing.rules[1].pattern is missing"),
        ("overrides = 3", "routing.overrides = 3: expected a table"),
        ("options = { fast = 3 }", "routing.options.fast = 3: expected a table"),
        ('default_profile = "x"', 'expected "code" or "creative" or "fast" or "general"'),
    ],
)
def test_wrong_shape_is_told(text: str, told: str) -> None:
    """A table where a list belongs is a mistake like any other."""
    assert told in _mistakes(f"[routing]\n{text}")[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "temperature = 2.5",
            "Invalid temperature value: 2.5. Temperature must be between 0.0 and 2.0.",
        ),
        ("top_p = -1", "Invalid top_p value: -1. top_p must be between 0.0 and 1.0."),
        ('top_p = "x"', 'Invalid top_p value: "x". top_p must be a number between 0.0 and 1.0.'),
        (
            "max_tokens = 0",
            "Invalid max_tokens value: 0. max_tokens must be between 1 and 10000000.",
        ),
        (
            "num_ctx = 1.5",
            "Invalid num_ctx value: 1.5. num_ctx must be a whole number between 1 and 10000000.",
        ),
        ("seed = true", "Seed must be a whole number between -1 and 4294967295."),
        ("temperature = nan", "Invalid temperature value: nan."),
        ("stop = 3", "Invalid stop value: 3. Stop must be a list of strings."),
        ("enable_thinking = 1", "enable_thinking must be true or false."),
    ],
)
def test_parameter_out_of_range_is_told_with_its_range(text: str, told: str) -> None:
    """S1-27: the value, what it must be, and the place."""
    mistakes = _mistakes(f"[routing.options.fast]\n{text}")

    assert len(mistakes) == 1
    assert mistakes[0].startswith("/etc/1.toml:2: routing.options.fast.")
    assert told in mistakes[0]


def test_parameter_is_told_alike_wherever_it_stands() -> None:
    """The same table stands in four places."""
    places = ["options", "request.set", "request.default", "variants.b.set", "variants.b.default"]
    text = "\n".join(f"[models.entries.a.{place}]\ntemperature = 3" for place in places)

    mistakes = _mistakes(text)

    assert len(mistakes) == len(places)
    assert all(line.endswith("Temperature must be between 0.0 and 2.0.") for line in mistakes)


def test_parameter_of_the_environment_is_never_silently_ignored() -> None:
    """S1-27: the code that this takes after dropped what it could not read."""
    name = "MODELD_ROUTING__OPTIONS__FAST__TEMPERATURE"

    assert _mistakes(environment={name: "2.5"}) == [
        f"${name}: routing.options.fast.temperature: "
        "Invalid temperature value: 2.5. Temperature must be between 0.0 and 2.0."
    ]
    assert 'value: "hot". Temperature must be a number' in _mistakes(environment={name: "hot"})[0]


def test_rules_of_a_later_place_replace_those_before() -> None:
    """Their order is what they mean; two lists have none together."""
    one = '[[routing.rules]]\npattern = "a"\nmodel = "fast"\n'
    loaded = _load(one + one, one)

    assert [rule.pattern for rule in loaded.config.routing.rules] == ["a"]
    assert loaded.origins == {
        "routing.rules[1].pattern": "/etc/2.toml:2",
        "routing.rules[1].model": "/etc/2.toml:3",
    }


def test_options_of_several_places_merge_key_by_key() -> None:
    """A drop-in that sets one parameter leaves the others alone."""
    config = _load(
        "[routing.options.fast]\ntop_k = 1\nseed = 1\n",
        "[routing.options]\nfast = { seed = 2 }\n",
    ).config

    assert (config.routing.options["fast"].top_k, config.routing.options["fast"].seed) == (1, 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('hdd_paths = ["/a", "/a/"]', "this folder is named twice"),
        ('ssd_path = "~/m"\nhdd_paths = ["/home/u/m"]', "this folder is named twice"),
        ('ssd_path = "/a"\nhdd_paths = ["/a/b"]', "lie inside each other"),
        ('ssd_path = "/a/b"\nhdd_paths = ["/a"]', "lie inside each other"),
        ('hdd_paths = ["models"]', "expected an absolute path"),
        ('hdd_paths = [""]', "expected an absolute path"),
    ],
)
def test_folders_that_overlap_are_refused(text: str, told: str) -> None:
    """One file in two tiers by accident would be two copies that are one."""
    mistakes = _mistakes(f"[storage]\n{text}\n")

    assert told in mistakes[0]
    assert mistakes[0].startswith(f"/etc/1.toml:{text.count(chr(10)) + 2}: storage.hdd_paths = ")


def test_folder_that_only_begins_alike_is_another() -> None:
    """`/a/models2` is not inside `/a/models`."""
    _load('[storage]\nssd_path = "/a/models"\nhdd_paths = ["/a/models2", "/a/m"]\n')


def test_no_ssd_is_a_configuration() -> None:
    """Whoever has one disk has one tier."""
    assert _load('[storage]\nssd_path = ""\nhdd_paths = ["/a"]\n').config.storage.ssd_path == ""


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "[::1]:1", "localhost:0", "127.8.8.8:80"])
def test_loopback_addresses_are_taken(address: str) -> None:
    """Port 0 lets the kernel choose, for tests and demos."""
    _load(f'[gateway]\nlisten = ["{address}"]\n')


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:80",
        "8080",
        "127.0.0.1",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "evil:80",
        ":80",
        "[::]:1",
        "192.168.1.2:80",
        "127.0.0.1:\u0661",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    """X-23: nobody else's machine is ever served by a typing mistake."""
    assert "gateway.listen" in _mistakes(f'[gateway]\nlisten = ["{address}"]\n')[0]


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:1", "192.168.1.2:80"])
def test_addresses_that_others_reach_are_taken_with_keys(address: str) -> None:
    """X-22: a key is what makes it meant."""
    wide = f'[gateway]\nlisten = ["{address}"]\n'

    assert "gateway.key_file must be set" in _mistakes(wide)[0]
    _load(f'{wide}key_file = "~/keys"\n')


def test_file_of_keys_has_an_absolute_path() -> None:
    """The daemon's working folder is nobody's business."""
    assert "gateway.key_file = 'keys'" in _mistakes('[gateway]\nkey_file = "keys"\n')[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("allowed_origins", "*"),
        ("allowed_origins", "null"),
        ("allowed_origins", "https://*.x"),
        ("allowed_origins", "https://x/path"),
        ("allowed_hosts", "*"),
        ("allowed_hosts", "a b"),
        ("allowed_hosts", "http://a"),
        ("listen", '127.0.0.1:80", "127.0.0.1:80'),
    ],
)
def test_names_that_would_let_anybody_in_are_refused(key: str, value: str) -> None:
    """F1, F2: no wildcard in either list."""
    assert f"gateway.{key}" in _mistakes(f'[gateway]\n{key} = ["{value}"]\n')[0]


def test_unknown_profiles_are_told_with_the_known_ones() -> None:
    """A profile that is mistyped would never be asked for."""
    text = '[routing]\noverrides.fsat = "x"\n[routing.options.cod]\ntop_k = 1\n'
    known = "there is no such profile: there are fast, general, code, creative"

    assert _mistakes(text) == [
        f"/etc/1.toml:2: routing.overrides.fsat: {known}",
        f"/etc/1.toml:4: routing.options.cod: {known}",
    ]


def test_bad_expression_is_told_with_its_rule_and_position() -> None:
    """S3-03: the daemon says so when it starts, not when somebody asks."""
    rule = '[[routing.rules]]\npattern = "{}"\nmodel = "{}"\n'
    mistakes = _mistakes(
        rule.format("ok", "fast") + rule.format("ab(c", "") + rule.format("[", "x")
    )

    assert mistakes[0].startswith('/etc/1.toml:5: routing.rules[2].pattern = "ab(c": missing )')
    assert " at letter " in mistakes[0]
    assert mistakes[1] == (
        '/etc/1.toml:6: routing.rules[2].model = "": expected the name of a model, or a role'
    )
    assert mistakes[2].startswith("/etc/1.toml:8: routing.rules[3].pattern")


def test_bad_expression_is_told_beside_a_rule_of_the_wrong_shape() -> None:
    """All mistakes at once: the second is not found out only after the first is mended."""
    text = '[[routing.rules]]\nmodel = "x"\n[[routing.rules]]\npattern = "("\nmodel = "x"\n'
    mistakes = _mistakes(text)

    assert "routing.rules[1].pattern is missing" in mistakes[0]
    assert mistakes[1].startswith('/etc/1.toml:4: routing.rules[2].pattern = "(": missing )')
    assert len(mistakes) == 2


@pytest.mark.parametrize("text", ["10m", "90", "1h30m", "0", "-1", "-1m", ""])
def test_time_to_stay_is_a_duration(text: str) -> None:
    """As a request may say it."""
    _load(f'models.entries.a.keep_alive = "{text}"')


@pytest.mark.parametrize("text", ["soon", "10 minutes", "1m30", "-"])
def test_time_to_stay_that_is_none_is_refused(text: str) -> None:
    """Or the model would go, or stay, without anybody knowing why."""
    mistakes = _mistakes(f'models.entries.a.keep_alive = "{text}"')

    assert mistakes[0].startswith("/etc/1.toml:1: models.entries.a.keep_alive: ")
    assert "is no duration" in mistakes[0]


def test_headroom_that_leaves_nothing_of_a_gpu_is_refused() -> None:
    """The built-in headroom counts too."""
    assert _mistakes("[memory]\nvram_limit_gb = 0.5\n") == [
        "/etc/1.toml:2: memory.vram_limit_gb = 0.5: memory.vram_headroom_mb = 512 would leave "
        "nothing of it"
    ]


def test_headroom_that_leaves_nothing_is_refused() -> None:
    """No model could ever be loaded."""
    mistakes = _mistakes("[memory]\nlimit_gb = 1\nheadroom_mb = 1024\n")

    assert mistakes == [
        "/etc/1.toml:2: memory.limit_gb = 1: memory.headroom_mb = 1024 would leave nothing of it"
    ]


def test_binary_with_a_relative_path_is_refused() -> None:
    """The daemon's working directory is nobody's."""
    assert "servers.binary" in _mistakes('[servers]\nbinary = "bin/llama-server"\n')[0]


def test_very_many_mistakes_are_cut() -> None:
    """A wrong file must not flood a terminal."""
    mistakes = _mistakes("\n".join(f"x{number} = 1" for number in range(200)))

    assert len(mistakes) == 51
    assert mistakes[-1] == "and 150 more"


def test_changes_tell_old_and_new() -> None:
    """S2-19: what a reload did."""
    old = Config()
    new = _load(
        "[load]\nreplace = false\n[memory]\nlimit_gb = 2\n[models.entries.a]\nmemory_gb = 1\n"
    )

    assert changes(old, new.config) == [
        "load.replace: true -> false",
        "memory.limit_gb: unset -> 2.0",
        "models.entries.a.memory_gb: unset -> 1.0",
    ]
    assert changes(old, old) == []


def test_needs_restart_tells_what_a_reload_can_not_change() -> None:
    """A key that is silently not applied is worse than one that says so."""
    new = _load(
        "[gateway]\nlisten = []\nmax_waiting = 1\n[load]\nreplace = false\n"
        '[servers]\nlauncher = "direct"\n'
    )

    assert needs_restart(Config(), new.config) == ["servers.launcher", "gateway.listen"]


@pytest.mark.parametrize(
    ("path", "expanded"),
    [
        ("~", "/home/u"),
        ("~/m", "/home/u/m"),
        ("$HOME/m", "/home/u/m"),
        ("${HOME}/m", "/home/u/m"),
        ("/a/~b", "/a/~b"),
        ("~other/m", "~other/m"),
        ("/a/$HOMES", "/a/$HOMES"),
        ("", ""),
    ],
)
def test_expand_knows_home_and_nothing_else(path: str, expanded: str) -> None:
    """A path is a path, not a shell word."""
    assert expand(path, "/home/u") == expanded


def test_paths_are_read_from_weak_to_strong() -> None:
    """Design, Defaults."""
    assert paths_to_read({}, "/home/u", None) == [
        "/etc/modeld/modeld.toml",
        "/home/u/.config/modeld/modeld.toml",
        "/home/u/.config/modeld/modeld.d/*.toml",
    ]
    assert paths_to_read({"XDG_CONFIG_HOME": "/c"}, "/h", None)[1] == "/c/modeld/modeld.toml"


def test_explicit_file_replaces_all_others() -> None:
    """`--config`, then MODELD_CONFIG."""
    assert paths_to_read({"MODELD_CONFIG": "/b"}, "/h", "/a") == ["/a"]
    assert paths_to_read({"MODELD_CONFIG": "/b"}, "/h", None) == ["/b"]


_keys = st.sampled_from(
    [
        "storage",
        "models",
        "entries",
        "load",
        "replace",
        "gateway",
        "listen",
        "rank",
        "weights",
        "x",
        "routing",
        "rules",
        "pattern",
        "options",
        "overrides",
        "variants",
        "set",
        "seed",
    ]
)
_leaves = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=2),
    st.lists(st.dictionaries(_keys, st.text(max_size=3), max_size=2), max_size=2),
)
_trees = st.recursive(
    _leaves, lambda inner: st.dictionaries(_keys, inner, max_size=4), max_leaves=8
)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
    return str(value).lower() if isinstance(value, bool) else repr(value)


@given(st.dictionaries(_keys, _trees, max_size=4))
def test_any_toml_is_taken_or_refused_in_words(tree: dict[str, object]) -> None:
    """Whatever stands in the file, the daemon says what is wrong and does not crash."""
    text = "\n".join(f"{key} = {_toml(value)}" for key, value in tree.items())
    told, origins = _outcome([Source("/etc/1.toml", text)], {}, ())

    assert all(line.startswith(("/etc/1.toml", "built in", "and ")) for line in told)
    assert all(origin.startswith("/etc/1.toml:") for origin in origins)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_word_from_outside_is_taken_or_refused_in_words(name: str, text: str) -> None:
    """Nor by its environment or its command line."""
    _outcome([], {f"MODELD_{name}__{text}": text}, ())
    _outcome([], {}, (f"{name}={text}", text))


def _outcome(
    sources: list[Source], environment: dict[str, str], flags: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Return the mistakes, or the origins; anything else that is raised is a bug."""
    try:
        return [], list(load(sources, environment, flags).origins.values())
    except ConfigInvalid as error:
        return error.message.splitlines(), []


def test_rewrite_that_would_make_another_request_is_refused() -> None:
    """A field without which nobody can tell what was asked is nothing to strip."""
    problems = _mistakes(
        '[models.entries.tiny.request]\nstrip = ["user", "model", "stream"]\n'
        '[models.entries."a b".variants.cold]\nstrip = ["messages"]\n'
    )

    told = "without it a request would be another one"
    assert sorted(problems) == [
        f"/etc/1.toml:2: models.entries.tiny.request.strip = 'model': {told}",
        f"/etc/1.toml:2: models.entries.tiny.request.strip = 'stream': {told}",
        f"/etc/1.toml:4: models.entries.\"a b\".variants.cold.strip = 'messages': {told}",
    ]


@pytest.mark.parametrize("name", ["auto", "profile:code", "with space", "", "a:b:c", "x:"])
def test_variant_with_an_impossible_name_is_refused(name: str) -> None:
    """A name that no program could use, or that means something else, helps nobody."""
    (problem,) = _mistakes(f'[models.entries.tiny.variants."{name}".set]\nseed = 1\n')

    assert "models.entries.tiny.variants." in problem
    assert problem.startswith("/etc/1.toml:2: ")


def test_variant_may_have_a_tag() -> None:
    """`model:cold` is how other programs write it."""
    loaded = _load('[models.entries.tiny.variants."tiny:cold".set]\nseed = 1\n')

    assert loaded.config.models.entries["tiny"].variants["tiny:cold"].set.seed == 1


def test_profile_where_a_model_is_named_is_refused() -> None:
    """A profile chooses by these keys: one that leads back to it would choose for ever."""
    text = """\
models.default = "profile:fast"
[routing]
rules = [{ pattern = "x", model = "profile:code" }]
roles.fast = "profile:fast"
overrides.general = "profile:fast"
overrides.fast = "profile:general"
"""
    expected = "expected the name of a model, and no profile"

    assert _mistakes(text) == [
        f'/etc/1.toml:1: models.default = "profile:fast": {expected}',
        f'/etc/1.toml:3: routing.rules[1].model = "profile:code": {expected}',
        f'/etc/1.toml:4: routing.roles.fast = "profile:fast": {expected}',
        f'/etc/1.toml:5: routing.overrides.general = "profile:fast": {expected}',
        f'/etc/1.toml:6: routing.overrides.fast = "profile:general": {expected}',
    ]
