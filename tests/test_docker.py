"""etc/docker against what it names: variables, paths, ports and files.  No container is made."""

import json
import re
import shlex
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from modeld.__main__ import DRAIN_SECONDS
from modeld.config.load import load
from modeld.config.schema import Config
from modeld.gateway.guard import FREE_OF_KEYS, Address, parse_address
from modeld.gateway.server import ROWS
from modeld.units import parse_duration

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "etc" / "docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
COMPOSE_TEXT = (FOLDER / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICE: dict[str, Any] = COMPOSE["services"]["modeld"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEFAULT = parse_address(Config().gateway.listen[0])


def steps(word: str) -> list[str]:
    """Return what follows an instruction of the Dockerfile, each on one line."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [" ".join(line.split()[1:]) for line in text.splitlines() if line.split()[:1] == [word]]


def variables() -> dict[str, str]:
    """Return the environment of the image."""
    return dict(word.split("=", 1) for step in steps("ENV") for word in shlex.split(step))


def copied() -> list[str]:
    """Return what is taken out of the checkout."""
    words = [step.split() for step in steps("COPY") if not step.startswith("--from=")]
    return [source for step in words for source in step[:-1]]


def health_check() -> list[str]:
    """Return the command of the health check."""
    (step,) = steps("HEALTHCHECK")
    return list(json.loads(step.partition("CMD ")[2]))


def listens() -> Address:
    """Return where the gateway listens with the variables of compose.yaml."""
    return parse_address(SERVICE["environment"]["MODELD_GATEWAY__LISTEN"])


def test_image_copies_what_is_there_and_all_that_the_package_is_made_of() -> None:
    """A build that fails, or a package without its scenarios, is found by whoever needs it."""
    files = copied()
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = PROJECT["project"]
    needed = [
        "pyproject.toml", project["readme"], *project["license-files"], *wheel["packages"],
        *wheel["force-include"], *wheel["shared-data"],
    ]  # fmt: skip

    assert all((ROOT / each).exists() for each in files)
    assert not [each for each in needed if not any(Path(each).is_relative_to(f) for f in files)]


def test_image_installs_extras_that_exist() -> None:
    """Pip warns of an extra that it does not know, and leaves the engine out."""
    extras = re.findall(r"ARG EXTRAS=\[(\w+)\]", DOCKERFILE)

    assert extras == ["engine"]
    assert {*extras} <= {*PROJECT["project"]["optional-dependencies"]}


def test_image_sets_variables_that_modeld_knows() -> None:
    """One that it does not know keeps it from starting."""
    assert load([], variables(), ()).config.storage.ssd_path == "/models"


def test_image_keeps_the_state_in_its_volume_and_is_nobody_s_root() -> None:
    """Names and statistics outlive the container; what gets in through a model is no root."""
    image = variables()

    assert json.loads(steps("VOLUME")[0]) == [f"{image['XDG_STATE_HOME']}/modeld"]
    assert image["HOME"] == f"{image['XDG_STATE_HOME']}/modeld"
    assert steps("USER") == ["modeld"]
    made = " ".join(steps("RUN"))
    for path in (image["HOME"], image["XDG_RUNTIME_DIR"], f"{image['XDG_CACHE_HOME']}/modeld"):
        assert path in made


def test_image_runs_modeld_below_an_init_that_is_installed() -> None:
    """As process 1 it would get every orphan, and Ctrl-C would do nothing."""
    (entry,) = steps("ENTRYPOINT")
    init, dashes, program = json.loads(entry)

    assert (dashes, program in PROJECT["project"]["scripts"]) == ("--", True)
    assert f" {init} " in steps("RUN")[-1]
    assert steps("STOPSIGNAL") == ["SIGTERM"]


def test_health_check_asks_for_a_page_that_is_there_without_a_key() -> None:
    """A container that is ill by mistake is started again and again."""
    command = " ".join(health_check())
    (url,) = re.findall(r"'(http://[^']+)'", command)
    asked = urlsplit(url)

    assert (asked.hostname, asked.port) == (DEFAULT.host, DEFAULT.port)
    assert asked.path in {row.path for row in ROWS if row.method == "GET"}
    assert asked.path in FREE_OF_KEYS
    compile(health_check()[-1], "health check", "exec")


def test_one_port_is_listened_on_published_and_asked() -> None:
    """In four places of two files."""
    assert steps("EXPOSE") == [str(DEFAULT.port)]
    assert listens().port == DEFAULT.port
    (published,) = SERVICE["ports"]
    assert published == f"127.0.0.1:{DEFAULT.port}:{DEFAULT.port}"


def test_compose_builds_the_image_that_is_there() -> None:
    """From wherever it is called."""
    build = SERVICE["build"]
    context = (FOLDER / build["context"]).resolve()
    arguments = {step.partition("=")[0] for step in steps("ARG")}

    assert context == ROOT
    assert (context / build["dockerfile"]).samefile(FOLDER / "Dockerfile")
    assert {*build["args"]} <= arguments


def test_compose_sets_variables_that_modeld_knows_and_keys_where_it_needs_them() -> None:
    """Those in comments too: they are taken out of them one day."""
    shown = dict(re.findall(r'^ +# (MODELD_\w+): "?([^"\n]+)"?$', COMPOSE_TEXT, re.MULTILINE))
    config = load([], {**variables(), **SERVICE["environment"], **shown}, ()).config

    assert len(shown) == 3
    assert ip_address(listens().host).is_unspecified
    assert config.gateway.key_file in {f"/run/secrets/{name}" for name in SERVICE["secrets"]}


def test_compose_declares_what_it_mounts() -> None:
    """The state is where the image has its volume, the models where it looks for them."""
    mounts = dict(each.rsplit(":", 1) for each in SERVICE["volumes"])

    assert {*SERVICE["secrets"]} == {*COMPOSE["secrets"]}
    assert {*COMPOSE["volumes"]} < {*mounts}
    assert [mounts["state"]] == json.loads(steps("VOLUME")[0])
    assert variables()["MODELD_STORAGE__SSD_PATH"] in mounts.values()


def test_compose_grants_the_time_that_an_orderly_end_takes() -> None:
    """What is killed while it drains cuts answers off."""
    assert parse_duration(SERVICE["stop_grace_period"]) >= 2 * DRAIN_SECONDS


def test_key_that_its_comment_makes_is_not_committed() -> None:
    """The command is copied, and then `git add -A`."""
    (path,) = re.findall(r"openssl rand -hex 24 > (\S+)\)", COMPOSE_TEXT)

    assert (ROOT / path).parent == FOLDER
    assert path in (ROOT / ".gitignore").read_text().splitlines()
