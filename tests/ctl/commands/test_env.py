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
