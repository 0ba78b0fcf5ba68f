"""A server's command line is built from what its build has; nothing forbidden may slip into it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modeld.core.argv import (
    DENIED,
    Command,
    build_argv,
    check_arguments,
    environment,
    normalised,
    parse_help,
    value_of,
)
from modeld.core.entities import Binary
from modeld.errors import ArgumentDenied

HELP = (Path(__file__).parent / "data" / "llama-server-b11669-help.txt").read_text("utf-8")
GRAMMAR = parse_help(HELP)
BINARY = Binary(argv=("/usr/bin/llama-server",), flags=GRAMMAR.flags, canonical=GRAMMAR.canonical)
COMMAND = Command(model_path="/m/tiny.gguf", socket_path="/run/x.sock", alias="tiny")


@pytest.mark.parametrize(
    ("spelling", "takes_value"),
    [
        ("-h", False),
        ("--usage", False),
        ("-t", True),
        ("--threads", True),
        ("-fa", True),
        ("--poll", True),
        ("-nkvo", False),
        ("--no-kv-offload", False),
        ("--override-tensor-draft", True),
        ("--spec-type", True),
        ("-cb", False),
        ("--mmproj-auto", False),
        ("--chat-template-file", True),
        ("-sps", True),
        ("--perf", False),
    ],
)
def test_help_tells_each_spelling_and_whether_it_takes_a_value(
    spelling: str, takes_value: bool
) -> None:
    """A wrong answer swallows the next option, or takes a value for one."""
    assert GRAMMAR.flags[spelling] is takes_value


def test_help_is_read_whole() -> None:
    """Every line that begins with an option is one; a build has about 400 spellings."""
    heads = [line.split()[0].rstrip(",") for line in HELP.splitlines() if line.startswith("-")]
    missing = {head for head in heads if head not in GRAMMAR.flags and head != "-----"}

    assert missing == {
        "--draft",
        "--draft-min",
        "--spec-ngram-size-n",
        "--spec-ngram-size-m",
        "--spec-ngram-min-hits",
    }
    assert len(GRAMMAR.flags) == 407


def test_help_leaves_out_what_was_removed() -> None:
    """Options that are only there to say that they are gone make the server exit."""
    assert "--draft-max" not in GRAMMAR.flags


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("-c", "--ctx-size"),
        ("-ngl", "--gpu-layers"),
        ("-kvo", "--kv-offload"),
        ("-nkvo", "--no-kv-offload"),
        ("-nr", "--no-repack"),
        ("-no-ag", "--no-agent"),
        ("--no-webui", "--no-ui"),
        ("--no-mmproj", "--no-mmproj-auto"),
        ("--no-host", "--no-host"),
    ],
)
def test_help_tells_which_spellings_are_one_option(spelling: str, name: str) -> None:
    """Yes and no are told apart, or a comparison takes one for the other."""
    assert GRAMMAR.canonical[spelling] == name


def test_help_of_argparse_is_understood() -> None:
    """The embedded engine prints its help by argparse."""
    text = "options:\n  -h, --help            show this\n  -c N, --ctx-size N    context\n"

    assert parse_help(text).flags == {"-h": False, "--help": False, "-c": True, "--ctx-size": True}


@pytest.mark.parametrize("text", ["", "command not found", "\x7fELF\x02\x01", "----- x -----\n\n"])
def test_help_that_is_none_has_no_options(text: str) -> None:
    """Whatever a wrong binary prints is no grammar."""
    assert parse_help(text).flags == {}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-c", "4096"),
        ("--ctx_size", "4096"),
        ("--seed", "-1"),
        ("--yarn-ext-factor", "-1.5e-3"),
        ("-ts", "3,1"),
        ("--chat-template", "{{ x }} -- y"),
        ("-ngl", "99", "--flash-attn", "on", "--no-mmproj", "--jinja"),
    ],
)
def test_arguments_that_the_build_has_are_passed(arguments: tuple[str, ...]) -> None:
    """People tune their servers; that must go on working."""
    check_arguments(arguments, BINARY)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("--ctx-sise", "1"), "has no '--ctx-sise'", "did you mean '--ctx-size'?"),
        (("--mlock",), "has no '--mlock'", "this build has --load-mode mlock instead"),
        (("-c",), "'-c' needs a value", ""),
        (("-c", "-t", "4"), "'-t' looks like an option", ""),
        (("--jinja", "on"), "'on' is not an option", ""),
        (("model.gguf",), "'model.gguf' is not an option", ""),
        (("--threads=4",), "takes no '='", "write --threads 4 as two words"),
        (("",), "'' is not an option", ""),
        (("-",), "has no '-'", ""),
        (("--", "-c", "1"), "has no '--'", ""),
    ],
)
def test_arguments_that_the_build_lacks_are_refused_with_advice(
    arguments: tuple[str, ...], message: str, hint: str
) -> None:
    """Better here than a server that dies with it in its log."""
    with pytest.raises(ArgumentDenied) as caught:
        check_arguments(arguments, BINARY)

    assert message in caught.value.message
    assert hint in caught.value.hint


FORBIDDEN = """
    --tools --tools-runtime --agent -ag --no-agent --ui-mcp-proxy --webui-mcp-proxy
    --mcp-servers-config --mcp-servers-json --path --api-prefix --models-dir --models-preset
    --models-max --models-autoload --no-models-autoload --rpc --log-file --log-prompts-dir
    --slot-save-path --media-path --props --cors-origins --cors-methods --cors-headers
    --cors-credentials --host --port --reuse-port --ssl-key-file --ssl-cert-file --api-key
    --api-key-file -mu --model-url -hf -hfr --hf-repo -hff --hf-file -hft --hf-token -hfd -hfrd
    --hf-repo-draft --spec-draft-hf -mmu --mmproj-url -dr --docker-repo --sleep-idle-seconds
    --fim-qwen-7b-spec --fim-qwen-1.5b-default --embd-gemma-default --gpt-oss-20b-default
    --vision-gemma-4b-default -m --model -a --alias --ui --no-ui --webui --no-webui --ui-config
    --webui-config-file -h --help --usage --version --list-devices -cl --completion-bash
    --no-slots --slots --log-disable --log-jsonl -lcd --video-ffmpeg-dir --control-vector
    --control-vector-scaled
"""
"""Reliability G3, with every spelling that build 11669 has of each."""


@pytest.mark.parametrize("spelling", FORBIDDEN.split())
@pytest.mark.parametrize("form", ["{}", "{}=x", "{}_"])
def test_forbidden_options_are_refused_in_every_spelling(spelling: str, form: str) -> None:
    """G3: one that slips through opens the machine to a prompt or to the network."""
    word = form.format(spelling).replace("_", "")
    if form.endswith("_") and spelling.startswith("--"):
        word = "--" + spelling[2:].replace("-", "_")  # as llama-server would read it

    with pytest.raises(ArgumentDenied, match="is not passed on"):
        check_arguments((word, "x"), BINARY)


@pytest.mark.parametrize("pattern", sorted(DENIED))
def test_every_pattern_of_the_table_forbids_something(pattern: str) -> None:
    """A pattern without any option is a typing mistake, or the option has a new name."""
    stem = pattern.rstrip("*")

    assert pattern == "--mcp-*" or any(each.startswith(stem.split("*")[0]) for each in BINARY.flags)


def test_every_download_in_the_help_is_refused() -> None:
    """A new preset of a new build must be noticed when its help is added here."""
    lines = HELP.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("--")]
    for start in starts:
        rest = [line for line in lines[start + 1 : start + 4] if line.startswith(" ")]
        if "from the internet" in " ".join([lines[start], *rest[:2]]).replace("  ", " "):
            with pytest.raises(ArgumentDenied):
                check_arguments((lines[start].split()[0],), BINARY)


def test_no_host_is_not_taken_for_host() -> None:
    """`--no-host` is about buffers; taking it for a negated `--host` would lose the socket."""
    check_arguments(("--no-host",), BINARY)
    argv = build_argv(BINARY, replace(COMMAND, arguments=("--no-host",)))

    assert "--host" in argv


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lora", "/models/a.gguf,/models/sub/b.gguf"),
        ("--lora-scaled", "/models/a.gguf:0.5,/models/b.gguf:-1"),
        ("-md", "/models/draft.gguf"),
        ("-mm", "/models/mmproj.gguf"),
        ("--chat-template-file", "/models/x.jinja"),
    ],
)
def test_files_in_a_known_folder_may_be_named(arguments: tuple[str, ...]) -> None:
    """Adapters, drafts and templates lie beside the models."""
    check_arguments(arguments, BINARY, ("/models", "/hdd"))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "relative.gguf",
        "/models/../etc/x",
        "/modelsx/a",
        "/models",
        "/models/a,/etc/x",
    ],
)
def test_files_elsewhere_may_not_be_named(path: str) -> None:
    """G3: an option that reads files must not read any file."""
    with pytest.raises(ArgumentDenied, match="may name only files in a folder of models"):
        check_arguments(("--lora", path), BINARY, ("/models",))


def test_argv_has_what_the_build_knows() -> None:
    """Socket, no network, no web page, no browser pages; in the words of this build."""
    assert build_argv(BINARY, COMMAND) == (
        "/usr/bin/llama-server",
        *("--model", "/m/tiny.gguf"),
        *("--alias", "tiny"),
        *("--host", "/run/x.sock"),
        *("--cors-origins", "localhost"),
        *("--offline", "--jinja", "--slots", "--no-ui"),
    )


def test_argv_leaves_out_what_the_build_lacks() -> None:
    """An unknown option ends a server at once."""
    old = Binary(argv=("x",), flags={"-m": True, "--host": True, "--no-webui": False})

    assert build_argv(old, COMMAND) == (
        *("x", "-m", "/m/tiny.gguf"),
        *("--host", "/run/x.sock", "--no-webui"),
    )


def test_argv_adds_a_loopback_listener_for_a_port() -> None:
    """`load -p 8081`: beside the socket, and only on loopback."""
    argv = build_argv(BINARY, replace(COMMAND, port=8081))

    assert argv[argv.index("--host") + 1] == "/run/x.sock,127.0.0.1"
    assert argv[argv.index("--port") + 1] == "8081"


def test_argv_does_not_repeat_what_was_asked_for() -> None:
    """`-c` of a person replaces the configured context."""
    command = replace(COMMAND, context_tokens=8192, parallel=1, arguments=("-c", "4096"))
    argv = build_argv(BINARY, command)

    assert [argv[at + 1] for at, word in enumerate(argv) if word in {"-c", "--ctx-size"}] == [
        "4096"
    ]
    assert argv[argv.index("--parallel") + 1] == "1"


def test_argv_takes_the_last_of_several() -> None:
    """Global arguments, then the model's, then those of this load."""
    asked = ("-c", "1", "--perf", "-t", "2", "--ctx-size", "3", "--no-perf")
    argv = build_argv(BINARY, replace(COMMAND, arguments=asked))

    assert argv[-5:] == ("--ctx-size", "3", "--no-perf", "--threads", "2")
    assert "--perf" not in argv


def test_argv_has_the_mmproj_beside_the_model() -> None:
    """Without it a vision model is blind."""
    argv = build_argv(BINARY, replace(COMMAND, mmproj_path="/m/mmproj.gguf"))

    assert argv[argv.index("--mmproj") + 1] == "/m/mmproj.gguf"


@pytest.mark.parametrize("asked", [("--no-mmproj",), ("-mm", "/m/other.gguf")])
def test_argv_leaves_the_mmproj_to_whoever_asks(asked: tuple[str, ...]) -> None:
    """`--no-mmproj` saves the memory; another one replaces it."""
    argv = build_argv(BINARY, replace(COMMAND, mmproj_path="/m/mmproj.gguf", arguments=asked))

    assert "/m/mmproj.gguf" not in argv


def test_normalised_lists_of_one_meaning_are_equal() -> None:
    """S0-29: the same again is not a reason to reload."""
    one = normalised(("-c", "1", "-t", "4", "-c", "2", "--no-perf"), BINARY)
    other = normalised(("--no-perf", "--threads", "4", "--ctx_size", "2"), BINARY)

    assert one == other


@pytest.mark.parametrize(
    "other",
    [("-c", "2"), ("-c", "1", "--perf"), (), ("-c", "1", "--no-perf", "-t", "1"), ("-c", "-1")],
)
def test_normalised_lists_of_different_meanings_differ(other: tuple[str, ...]) -> None:
    """A change that is not noticed would be ignored in silence."""
    assert normalised(other, BINARY) != normalised(("-c", "1", "--no-perf"), BINARY)


def test_normalised_works_without_a_grammar() -> None:
    """Before the binary was looked at, order still does not matter."""
    assert normalised(("-c", "1", "--x", "-1")) == normalised(("--x", "-1", "-c", "1"))


@pytest.mark.parametrize(
    ("arguments", "value"),
    [(("-c", "1", "--ctx-size", "2"), "2"), (("-t", "4"), None), ((), None)],
)
def test_value_of_an_option_is_the_last_one(arguments: tuple[str, ...], value: str | None) -> None:
    """What the memory estimate believes must be what the server gets."""
    assert value_of(arguments, BINARY, "-c") == value


def test_environment_has_nothing_that_it_need_not() -> None:
    """G4: `LLAMA_ARG_TOOLS` inherited from a shell would open a shell to the model."""
    inherited = {
        "PATH": "/bin",
        "HOME": "/home/u",
        "LANG": "de_DE.UTF-8",
        "CUDA_VISIBLE_DEVICES": "1",
        "LLAMA_ARG_TOOLS": "all",
        "LLAMA_ARG_HOST": "0.0.0.0",
        "LD_PRELOAD": "/tmp/x.so",
        "GGML_SOMETHING": "1",
        "HF_TOKEN": "secret",
    }

    assert environment(inherited) == {
        "PATH": "/bin",
        "HOME": "/home/u",
        "LANG": "de_DE.UTF-8",
        "LLAMA_SERVER_ROUTER_PORT": "1",
        "CUDA_VISIBLE_DEVICES": "1",
    }


def test_environment_of_nothing_is_still_one() -> None:
    """A service manager may give none of them."""
    assert environment({})["PATH"] == "/usr/local/bin:/usr/bin:/bin"


_words = st.one_of(
    st.sampled_from(sorted(BINARY.flags)),
    st.sampled_from(["1", "-1", "x", "--host=0.0.0.0", "--API_KEY", "--api_key", "-", "--", ""]),
    st.text(max_size=6),
)


@given(st.lists(_words, max_size=8))
def test_whatever_passes_the_check_makes_a_clean_command_line(words: list[str]) -> None:
    """G3: no list of words gets a forbidden option, or a second socket, past the check."""
    try:
        check_arguments(words, BINARY)
    except ArgumentDenied:
        return
    argv = build_argv(BINARY, replace(COMMAND, arguments=tuple(words)))

    options = [
        word
        for word, before in zip(argv[1:], argv, strict=False)
        if not BINARY.flags.get(before, False)
    ]
    assert all(word in BINARY.flags for word in options)
    assert argv[: argv.index("--no-ui") + 1] == build_argv(BINARY, COMMAND) or (
        {"--ctx-size", "--jinja", "--no-jinja", "--offline", "--parallel"} & set(options)
    )
    assert options.count("--host") == 1
    assert not {"--tools", "--agent", "--port", "--api-key", "--model-url"} & set(options)


@pytest.mark.parametrize("spelling", ["-c", "--ctx-size", "-t", "-np", "-ub"])
def test_count_that_is_no_number_is_refused_before_anything_stops(spelling: str) -> None:
    """The server would refuse it too, but only after what runs was stopped for it."""
    check_arguments((spelling, "4096"), BINARY)

    with pytest.raises(ArgumentDenied, match="takes a whole number, not 'abc'"):
        check_arguments((spelling, "abc"), BINARY)
