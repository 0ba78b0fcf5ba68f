"""
What the name of a model file tells: size, quantisation, context, shard, projector.

Names are habits, not facts: a readable header wins over everything here except the shard
suffix, which llama.cpp itself goes by.  Nothing is looked up, and an unsure guess is none.
"""

import re

from msgspec import Struct
from msgspec.structs import replace

from modeld.core.entities import Header

_SUFFIX = ".gguf"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_MMPROJ = re.compile("mmproj", re.IGNORECASE)
_SEPARATORS = re.compile(r"[-_. ]+")

_QUANTISATION = re.compile(
    r"(?<![a-z0-9])(?:"
    r"iq[1-4][-_](?:xxs|xs|nl|s|m)"
    r"|i?q[1-8][-_]k(?:[-_](?:xxl|xl|l|m|s))?"
    r"|q[1-8][-_][01](?:[-_][48][-_][48])?"
    r"|tq[12][-_]0"
    r"|mxfp4(?:[-_]moe)?|nvfp4"
    r"|bf16|fp?16|fp?32"
    r"|q[2-8]"
    r")(?![a-z0-9])",
    re.IGNORECASE,
)
# 8x7b, 1.5B, 270M, 1T; 1B6 is how RWKV writes 1.6B.  Not A3B: those are the active ones.
_PARAMETERS = re.compile(
    r"(?<![a-z0-9.])(?:(\d{1,3})x)?e?(\d{1,4}(?:\.\d{1,2})?)(?:([bmt])|(b)(\d))(?![a-z0-9])",
    re.IGNORECASE,
)
_CONTEXT = re.compile(r"(?<![a-z0-9.])(?:(\d{1,4})k|(\d{1,2})m)(?![a-z0-9])", re.IGNORECASE)
_COMMON_WORDS = frozenset({"model", "ggml", "gguf"})
_MAX_WORDS = 16
_SCALE = {"m": 10**6, "b": 10**9, "t": 10**12}
_SMALLEST_MODEL = 15 * 10**6
"""Below that many M, as in `7B-1M`, a number of millions is a context."""


class FileName(Struct, frozen=True, kw_only=True):
    """What one name tells; zero or empty where it tells nothing."""

    stem: str
    """Without `.gguf` and without the shard suffix."""
    parameters: int = 0
    quantisation: str = ""
    context_tokens: int = 0
    shard_index: int = 0
    """From 0."""
    shard_count: int = 1
    is_mmproj: bool = False


def parse_name(name: str) -> FileName:
    """Return what the last part of a path tells."""
    stem, shard_index, shard_count = split_shard(name)
    return FileName(
        stem=stem,
        parameters=_parameters(stem),
        quantisation=_quantisation(stem),
        context_tokens=_context_tokens(stem),
        shard_index=shard_index,
        shard_count=shard_count,
        is_mmproj=is_mmproj(name),
    )


def split_shard(path: str) -> tuple[str, int, int]:
    """
    Return a path without `.gguf` and shard suffix, the shard's number from 0, and how many.

    `a/b-00002-of-00003.gguf` is `("a/b", 1, 3)`; what is no shard is number 0 of 1.
    """
    stem = path[: -len(_SUFFIX)] if path.lower().endswith(_SUFFIX) else path
    match = _SHARD.search(stem)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        return stem, 0, 1
    return stem[: match.start()], int(match[1]) - 1, int(match[2])


def is_mmproj(name: str) -> bool:
    """Return whether a file is a multimodal projector, going by its name."""
    return _MMPROJ.search(name) is not None


def complete(header: Header, name: str) -> Header:
    """Return the header, with what it does not say taken from the file's name."""
    if header.parameters and header.quantisation and header.context_tokens:
        return header
    told = parse_name(name)
    return replace(
        header,
        parameters=header.parameters or told.parameters,
        quantisation=header.quantisation or told.quantisation,
        context_tokens=header.context_tokens or told.context_tokens,
    )


def name_words(stem: str) -> list[str]:
    """
    Return the words of a name that tell which model it is of.

    Not `mmproj`, no quantisation and no word that every name may have: a projector in F16 goes
    with every quantisation of its model.
    """
    bare = _MMPROJ.sub("", _QUANTISATION.sub("", stem.lower()))
    words = [word for word in _SEPARATORS.split(bare) if word and word not in _COMMON_WORDS]
    return words[:_MAX_WORDS]


def without_quantisation(stem: str) -> str:
    """Return a name without every quantisation that it has."""
    return _QUANTISATION.sub("", stem)


def _quantisation(stem: str) -> str:
    """Return the last quantisation that the name has, as llama.cpp writes it."""
    found = _QUANTISATION.findall(stem)
    if not found:
        return ""
    return str(found[-1]).upper().replace("-", "_").replace("FP16", "F16").replace("FP32", "F32")


def _parameters(stem: str) -> int:
    """Return the number of parameters that the name has, all experts counted."""
    for match in _PARAMETERS.finditer(stem):
        experts, number, unit, b, tenths = match.groups()
        count = float(number) * _SCALE[(unit or b).lower()]
        if tenths:
            count += float(tenths) * 10**8
        if count >= _SMALLEST_MODEL:
            return round(count * int(experts or 1))
    return 0


def _context_tokens(stem: str) -> int:
    """Return the context that the name has."""
    for match in _CONTEXT.finditer(stem):
        if match[1]:
            thousands = int(match[1])
            # 128k is 131072, but 200k is not 204800: powers of two are meant exactly.
            return thousands * (1000 if thousands & (thousands - 1) else 1024)
        if int(match[2]) * 10**6 < _SMALLEST_MODEL:
            return int(match[2]) * 1024**2
    return 0
