"""
What llama-fit-params is asked, and what its answer means.

The tool asks llama.cpp's own allocator what a model would take, and loads nothing.  It knows
fewer options than the server: what it does not know is left out here, and counted by `fit`.
An answer that is not exactly of the expected form is none.

Source: tools/fit-params and common/fit.cpp of llama.cpp, since build 8900 (April 2026): a line
`DEVICE WEIGHTS CONTEXT COMPUTE` in MiB for each GPU, then one for `Host`.
"""

import re
from collections.abc import Sequence

from modeld.core.demand import memory_options
from modeld.core.entities import Binary
from modeld.core.fit import Told
from modeld.units import MIB

PASSED = {
    "batch": "-b",
    "micro_batch": "-ub",
    "key_type": "-ctk",
    "value_type": "-ctv",
    "full_window": "--swa-full",
    "gpu_layers": "-ngl",
    "all_experts": "-cmoe",
    "experts": "-ncmoe",
    "cache_on_host": "-nkvo",
    "devices": "-dev",
    "split_mode": "-sm",
    "main_gpu": "-mg",
    "tensor_split": "-ts",
    "override": "-ot",
}
"""Options that matter and that the tool knows, by their names in `demand`."""
HOST = "Host"
MAX_DEVICES = 64
_LINE = re.compile(r"(\S{1,64}) (\d{1,9}) (\d{1,9}) (\d{1,9}) ?")


def question(
    model_path: str, context_tokens: int, asked: Sequence[str], binary: Binary
) -> tuple[str, ...]:
    """
    Return what to call the tool with; nothing where it can't answer.

    Without flash attention it is known to crash, and the formula's figure is good.
    """
    said = memory_options(asked, binary)
    if said.get("flash") in {"off", "0", "disabled"}:
        return ()
    words = [binary.estimator, "-m", model_path, "-c", str(context_tokens)]
    words += ["-fit", "off", "--fit-print", "on"]
    for name, flag in PASSED.items():
        if name in said:
            words += [flag, said[name]] if said[name] else [flag]
    return tuple(words)


def parse_answer(text: str) -> tuple[Told, ...]:
    """Return what the tool said of each device, the machine's own memory last; empty for none."""
    lines = text.strip("\n").split("\n")
    found = [_LINE.fullmatch(line) for line in lines[: MAX_DEVICES + 1]]
    if len(lines) > MAX_DEVICES or not all(found):
        return ()
    told = tuple(
        Told(match[1], int(match[2]) * MIB, int(match[3]) * MIB, int(match[4]) * MIB)
        for match in found
        if match is not None
    )
    names = [each.device for each in told]
    if names.count(HOST) != 1 or names[-1] != HOST or len(set(names)) != len(names):
        return ()
    return told if sum(each.weights_bytes for each in told) else ()
