"""
A llama-server that serves some models well and acts out a fault for others.

It is a shell script that becomes the embedded engine, or `fake_engine.py` with a habit, by the
file name of the model that it is given.  So one daemon can be shown a bad model beside good ones.
"""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import modeld.embedded

EMBEDDED = shlex.join([sys.executable, "-P", modeld.embedded.__file__])
FAKE = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_engine.py"))])
OLD_HELP = """\
-m,    --model FNAME                    model path to load
--host HOST                             ip address to listen, or a UNIX socket
-c,    --ctx-size N                     size of the prompt context
"""
"""What a build of years ago might print: enough to run a model, and none of the rest."""

_SCRIPT = """\
#!/bin/sh
case "$1" in
--help) {help} ;;
--version) exec {embedded} --version ;;
esac
last=
for word in "$@"; do
  case "$last" in
  --model) model=$word ;;
  --host) socket=${{word%%,*}} ;;
  esac
  last=$word
done
case "${{model##*/}}" in
{cases}esac
exec {embedded} "$@"
"""
_SHELL = {
    "vanish": 'rm -f "$model"',
    "slow": "sleep 1",
    "slower": "sleep 30",
    "starve-once": 'test -e "$model.tried" || { touch "$model.tried"; '
    'echo "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer" >&2; exit 1; }',
}
"""Habits that end with the good engine all the same."""


def write_engine(
    path: Path, habits: Mapping[str, str] | None = None, *, help_command: str = ""
) -> str:
    """
    Write the script, and return its path as `servers.binary` has it.

    Args:
        path: Of the script.
        habits: Model name -> a habit of `fake_engine.py`, or `vanish`, which removes the model's
            file before the good engine opens it, or `slow`, `slower`: the good engine, in a while,
            or `starve-once`, which lets it run out of memory the first time.
        help_command: Shell words that answer `--help`; the embedded engine's own by default.
    """
    cases = ""
    for model, habit in (habits or {}).items():
        command = _SHELL.get(habit) or f'exec {FAKE} {shlex.quote(habit)} "$socket"'
        cases += f"{shlex.quote(model)}.gguf) {command} ;;\n"
    answer = f"{help_command}; exit 0" if help_command else f"exec {EMBEDDED} --help"
    # a running script must not be written over, and an interpreter must never see half of one
    fresh = path.with_suffix(".new")
    fresh.write_text(_SCRIPT.format(help=answer, embedded=EMBEDDED, cases=cases))
    fresh.chmod(0o755)
    fresh.replace(path)
    return str(path)
