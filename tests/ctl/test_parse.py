"""From argv to options, without a daemon."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.parse import parse, peek
from modeld.errors import ModeldError, Usage


def problem(*argv: str) -> Usage:
    """Return the error that a line is refused with."""
    with pytest.raises(Usage) as caught:
        parse(argv)
    return caught.value


def test_load_takes_n1_as_one_word_for_a_slot() -> None:
    """`-n1 tool` is what llama-pack's users type."""
    options = parse(["load", "-n1", "tool"]).options

    assert (options.slot, options.nick) == ("tool", "")


def test_load_takes_n_and_1_as_the_nickname_1() -> None:
    """A nickname may be a number; it must not become the slot option."""
    options = parse(["load", "-n", "1"]).options

    assert (options.slot, options.nick) == ("", "1")


@pytest.mark.parametrize("line", [["-n1=tool"], ["-n1", "tool"]])
def test_load_takes_a_slot_spelt_either_way(line: list[str]) -> None:
    """Long options take both spellings, so this one does too."""
    assert parse(["load", *line]).options.slot == "tool"


def test_load_refuses_n1_glued_to_its_value() -> None:
    """The parser would take it for the nickname `1tool`, and load the wrong model."""
    assert problem("load", "-n1tool").hint == "write -n1 tool, or -n 1tool"


def test_load_hands_everything_after_two_dashes_to_llama_server() -> None:
    """Not one of these words is modelctl's business, not even another `--` or `-h`."""
    rest = ["--ctx-size", "5", "-n1", "--", "-h", "--json"]
    options = parse(["load", "x", "--", *rest]).options

    assert options.rest == tuple(rest)
    assert not options.json


def test_load_tells_no_arguments_from_an_empty_list() -> None:
    """`load x` uses what is stored for the model; `load x --` asks for none at all."""
    assert parse(["load", "x"]).options.rest is None
    assert parse(["load", "x", "--"]).options.rest == ()


def test_two_dashes_end_the_options_of_other_commands() -> None:
    """A model whose name begins with a dash can be named too."""
    assert parse(["show", "--", "-odd"]).options.positional == "-odd"


@pytest.mark.parametrize("flag", ["--na", "--nickadd"])
def test_load_collects_repeated_nicknames(flag: str) -> None:
    """S0-09: `--nickadd`, alias `--na`, may be repeated."""
    assert parse(["load", "x", flag, "a", "--na", "b"]).options.nickadd == ("a", "b")


@pytest.mark.parametrize("argv", [["--json", "ps"], ["ps", "--json"]])
def test_global_options_may_stand_before_and_after_the_command(argv: list[str]) -> None:
    """People put them where they think of them."""
    parsed = parse(argv)

    assert parsed.command.name == "ps"
    assert parsed.options.json


def test_global_option_before_the_command_keeps_its_value() -> None:
    """The value must not be taken for the command."""
    parsed = parse(["--timeout", "5m", "load", "x"])

    assert (parsed.command.name, parsed.options.timeout) == ("load", 300.0)


def test_options_may_stand_between_positional_arguments() -> None:
    """`unload a --now b` is how people type."""
    options = parse(["unload", "a", "--now", "b"]).options

    assert (options.positional, options.now) == (("a", "b"), True)


def test_command_of_two_words_may_have_an_option_between_them() -> None:
    """`nick --json list` is not a command named `--json`."""
    parsed = parse(["nick", "--json", "list"])

    assert (parsed.command.name, parsed.options.json) == ("nick list", True)


@pytest.mark.parametrize(("alias", "name"), [("ls", "list"), ("nick ls", "nick list")])
def test_alias_means_its_command(alias: str, name: str) -> None:
    """`ls` is what fingers type."""
    assert parse(alias.split()).command.name == name


@pytest.mark.parametrize(
    ("line", "guess"),
    [
        ("laod x", "did you mean 'load'?"),
        ("nick sett x y", "did you mean 'set'?"),
        ("load x --nicknme y", "did you mean '--nickname'?"),
    ],
)
def test_misspelling_is_answered_with_a_guess(line: str, guess: str) -> None:
    """Most mistakes are one letter."""
    assert guess in problem(*line.split()).message


@pytest.mark.parametrize("line", ["loa x", "load --dry x", "ps --js"])
def test_abbreviations_are_refused(line: str) -> None:
    """A script that abbreviates breaks when a new option comes."""
    problem(*line.split())


def test_unknown_option_of_load_is_pointed_to_llama_server() -> None:
    """llama-pack passed unknown options on; its users must learn where they go now."""
    assert "go after --" in problem("load", "x", "--threads", "4").hint


def test_rank1_and_no_multi_match_contradict_each_other() -> None:
    """S0-33: one takes the best of several, the other wants several to fail."""
    assert "contradict" in problem("load", "x", "--rank1", "--no-multi-match").message


@pytest.mark.parametrize("name", ["", "two words", "-x", ".hidden", "a/b", "é", "x" * 129])
def test_bad_name_is_refused_before_anything_is_sent(name: str) -> None:
    """Names end up in file names, units and logs."""
    assert "can't be a name" in problem("load", "m", f"--nickname={name}").message
    assert "can't be a name" in problem("nick", "add", "m", "good", "--", name).message


def test_nickname_may_have_a_tag() -> None:
    """`qwen2.5:7b` is what many programs ask for."""
    assert parse(["nick", "add", "m", "qwen2.5:7b"]).options.nick == ("qwen2.5:7b",)
    assert "can't be a name" in problem("slot", "set", "a:b", "m").message
    assert "can't be a name" in problem("nick", "add", "m", "a:b:c").message


def test_slot_may_be_spelt_with_its_at_sign() -> None:
    """Tables print `@tool`; what is printed can be typed."""
    assert parse(["slot", "set", "@tool", "m"]).options.slot == "tool"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "\uff18\uff10"])
def test_bad_port_is_refused(port: str) -> None:
    """The daemon would refuse it with a worse message."""
    problem("load", "x", f"--port={port}")


@pytest.mark.parametrize("text", ["0", "-1", "soon", "9" * 400, ""])
def test_bad_timeout_is_refused(text: str) -> None:
    """Nothing waits for no time, or for ever, by a slip of the finger."""
    problem("ps", f"--timeout={text}")


@pytest.mark.parametrize("line", ["ps x", "show a b", "nick set a", "slot clear", "nick rm"])
def test_wrong_number_of_arguments_is_refused_with_the_synopsis(line: str) -> None:
    """The hint is the line that the person wanted to write."""
    assert problem(*line.split()).hint.startswith("modelctl ")


def test_family_without_its_second_word_lists_what_there_is() -> None:
    """`nick` alone does nothing; it must not guess."""
    assert problem("nick").message == "nick needs one of: set, add, rm, list"


def test_cache_alone_shows_the_cache() -> None:
    """Looking does no harm, so it need not be spelt out."""
    assert parse(["cache"]).command is parse(["--json", "cache", "show"]).command
    assert problem("cache", "shwo").message == "no command 'cache shwo' (did you mean 'show'?)"


@pytest.mark.parametrize(("text", "count"), [("100g", 100 << 30), ("512 MiB", 512 << 20), ("0", 0)])
def test_size_may_have_any_unit(text: str, count: int) -> None:
    """As in the configuration."""
    assert parse(["cache", "plan", "--free", text]).options.free == count


@pytest.mark.parametrize("text", ["-1", "much", "9" * 400, "1048577p", ""])
def test_bad_size_is_refused(text: str) -> None:
    """The daemon would refuse it with a worse message."""
    problem("cache", "plan", f"--free={text}")


@pytest.mark.parametrize(
    "argv",
    [["load", "-h"], ["-h", "load"], ["load", "x", "--port", "no", "--help"], ["help", "load"]],
)
def test_help_wins_over_all_else_on_the_line(argv: list[str]) -> None:
    """Whoever asks for help has, as likely as not, a mistake on the line."""
    parsed = parse(argv)

    assert (parsed.command.name, parsed.options.topic) == ("help", ("load",))


def test_peek_sees_switches_of_a_line_that_makes_no_sense() -> None:
    """The error must be JSON if JSON was asked for, whatever else is wrong."""
    assert peek(["laod", "--json"], "--json") == "--json"
    assert peek(["laod", "--color=never"], "--color") == "never"
    assert peek(["load", "--", "--json"], "--json") == ""


@given(
    st.lists(st.text(max_size=6) | st.sampled_from(["load", "nick", "-n1", "--", "-m", "=", "-"]))
)
def test_parse_refuses_whatever_it_does_not_understand(argv: list[str]) -> None:
    """Nothing that people type may end in a traceback."""
    with suppress(ModeldError):
        parse(argv)


def test_value_that_looks_like_an_option_is_told_where_it_goes() -> None:
    """`config set KEY -1` is what everybody types first."""
    with pytest.raises(Usage) as caught:
        parse(["config", "set", "models.idle_timeout_seconds", "-1"])

    assert caught.value.hint.endswith("modelctl config set ... -- -1")
