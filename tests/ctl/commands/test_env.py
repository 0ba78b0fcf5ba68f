"""`modelctl env` against a daemon that says what it is told to."""

import json

from msgspec.structs import replace

from modeld.wire.models import AskStatus
from tests.ctl.commands.test_requests import STATUS
from tests.ctl.conftest import Call
from tests.support.fake_daemon import FakeDaemon

RUNNING = replace(STATUS, gateway=("127.0.0.1:8080",))


def test_env_prints_lines_for_the_shell_that_is_used(daemon: FakeDaemon, modelctl: Call) -> None:
    """`SHELL` says which, and `--shell` knows better."""
    daemon.on(AskStatus, RUNNING)

    assert modelctl("env", "--ollama").out == "export OLLAMA_HOST=http://127.0.0.1:8080\n"
    for result in (
        modelctl("env", "--ollama", SHELL="/usr/bin/fish"),
        modelctl("env", "--ollama", "--shell", "fish", SHELL="/bin/sh"),
    ):
        assert result.out == "set -gx OLLAMA_HOST http://127.0.0.1:8080\n"


def test_env_tells_programs_the_variables_and_where_the_keys_are(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """JSON has no key either."""
    daemon.on(AskStatus, RUNNING)
    answer = json.loads(modelctl("--json", "env", "--openai").out)
    assert answer["variables"]["OPENAI_API_KEY"] == "modeld"
    assert (answer["key_variables"], answer["key_file"]) == ([], "")

    daemon.on(AskStatus, replace(RUNNING, key_file="/home/u/keys"))
    answer = json.loads(modelctl("--json", "env", "--openai").out)
    assert "OPENAI_API_KEY" not in answer["variables"]
    assert (answer["key_variables"], answer["key_file"]) == (["OPENAI_API_KEY"], "/home/u/keys")


def test_env_fails_where_there_is_no_gateway(daemon: FakeDaemon, modelctl: Call) -> None:
    """Variables that lead nowhere are worse than none."""
    daemon.on(AskStatus, STATUS)
    result = modelctl("env")

    assert (result.status, result.out) == (69, "")
    assert "gateway.listen" in result.err


def test_env_leaves_out_clients_that_are_not_served(daemon: FakeDaemon, modelctl: Call) -> None:
    """They would be told 404 by every path; those that are asked for by name are refused."""
    daemon.on(AskStatus, replace(RUNNING, families=("llama-swap", "anthropic")))

    printed = modelctl("env").out
    assert "OPENAI_BASE_URL" in printed  # llama-swap's clients speak as OpenAI's do
    assert "ANTHROPIC_BASE_URL" in printed
    assert "OLLAMA_HOST" not in printed
    result = modelctl("env", "--openai", "--ollama")
    assert (result.status, result.out) == (69, "")
    assert "no clients of ollama" in result.err
    assert "gateway.compat" in result.err


def test_env_of_a_daemon_that_does_not_tell_is_for_everybody(
    daemon: FakeDaemon, modelctl: Call
) -> None:
    """One that is older than `families` serves all three, unless it is set otherwise."""
    daemon.on(AskStatus, replace(RUNNING, families=()))
    printed = modelctl("env").out

    assert all(name in printed for name in ("OPENAI_", "ANTHROPIC_", "OLLAMA_HOST"))
