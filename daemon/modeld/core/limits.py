"""
What a model can do and how much it can read, from its file where that says so.

    GGUF header > the user's table > the table below > safe defaults

A header knows the context, and by its chat template whether tools are understood; a projector
beside it means that it sees.  What no header says (the family that people know it by, what it is
good at, whether it thinks aloud) the tables say, by patterns over canonical names: `NAME:TAG`, as
`llama3.1:8b-instruct` for `Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf`.  The first row that fits wins,
the user's rows first.  Nothing is read here.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from functools import lru_cache

from msgspec import Struct

from modeld.core.entities import Header, Model
from modeld.core.filename import without_quantisation

UNKNOWN_CONTEXT_TOKENS = 4096
_MAX_NAME_LETTERS = 200
_MAX_SPLITS = 6
_ORGANISATION = re.compile(
    r"(?:meta|google|microsoft|mistralai|qwen|deepseek-ai|nvidia|ibm-granite|openai|codellama"
    r"|bigcode|nousresearch|huggingfacetb|tiiuae|coherelabs|cohereforai|01-ai|allenai)_"
    r"|meta-(?=llama|codellama)"
)
"""What uploaders put before a name: `google_gemma-3-4b-it`."""
_VERSION = re.compile(r"\d{1,2}(?:\.\d{1,2})?n?")
"""A word that belongs to the one before it: `Llama-3.1`, `gemma-3n`; not `8b`, not `2407`."""
_NEVER_SPEAKS = frozenset(
    (
        "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert",
        "neo-bert", "eurobert", "t5encoder", "gemma-embedding", "llama-embed", "wavtokenizer-dec",
    )
)  # fmt: skip
"""Architectures that only embed, or only decode sounds: they answer no request for text."""
# An architecture that is more than a family's name and a number.
_FAMILIES = {"gpt-oss": "gpt-oss", "command-r": "command-r", "deepseek2": "deepseek"}


class Row(Struct, frozen=True, kw_only=True):
    """What a table says of all models whose canonical name fits a pattern."""

    pattern: str
    """With `*` and `?`, over `NAME:TAG`."""
    family: str = ""
    context_tokens: int = UNKNOWN_CONTEXT_TOKENS
    max_output_tokens: int = 0
    """0 for as many as the context has room for."""
    tools: bool = False
    vision: bool = False
    streaming: bool = True
    reasoning: bool = False
    profiles: tuple[str, ...] = ("general",)


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of one model, once all sources are weighed."""

    model_id: str
    name: str
    names: tuple[str, ...]
    """Canonical ones, the most likely split into name and tag first."""
    family: str
    context_tokens: int
    """What it was trained for, not what a server has."""
    context_source: str
    """`header`, `table` or `default`."""
    max_output_tokens: int
    tools: bool
    vision: bool
    streaming: bool
    reasoning: bool
    profiles: tuple[str, ...]
    pattern: str = ""
    """Of the row that fitted; empty for none."""

    def has(self, capability: str) -> bool:
        """Return whether it can do what is called `capability`; False for what nobody knows."""
        return capability in CAPABILITIES and bool(getattr(self, capability))


CAPABILITIES = ("tools", "vision", "streaming", "reasoning")

UNKNOWN = Row(pattern="*")
"""What is assumed of a model that no row fits."""


def _rows() -> Iterable[Row]:
    for line in _TABLE.strip().splitlines():
        names, family, context_tokens, can, profiles = line.split()
        for name in names.split(","):
            yield Row(
                pattern=name if ":" in name or "*" in name else f"{name}:*",
                family="" if family == "-" else family,
                context_tokens=int(context_tokens),
                tools="T" in can,
                vision="V" in can,
                streaming="E" not in can,
                reasoning="R" in can,
                profiles=tuple(profiles.split(",")),
            )


# names, family, context, T tools, V vision, R reasoning, E only embeds or ranks (- for none), and
# what it is good at.  The context counts only where a file does not say its own.
_TABLE = """
*embed*,*rerank*,bge-*,all-minilm,paraphrase-multilingual,e5-*,gte-* - 512 E embed
llama3.2-vision,llama3.2:*vision*              llama      128000  V    general
llama3.1,llama3.2,llama3.3                     llama      128000  T    general,code
llama4                                         llama      1048576 TV   general
llama3-groq-tool-use                           llama      8192    T    general
llama3                                         llama      8192    T    general,creative
llama2*,yarn-llama2,tinyllama,llama-pro        llama      4096    -    general
llama-guard*                                   guard      8192    -    moderate
codellama,phind-codellama                      llama      16384   -    code
mistral-nemo,mistral-small*,mistral-large*     mistral    131072  T    general,creative
mistral-medium*,ministral3                     mistral    131072  T    general,creative
mistral,ministral                              mistral    32768   T    general,fast
mixtral                                        mistral    32768   T    general,creative
magistral                                      mistral    40960   TR   general
codestral                                      mistral    32768   -    code
devstral*                                      mistral    131072  T    code
mathstral                                      mistral    32768   -    general
phi4-mini-reasoning,phi4-reasoning             phi        32768   R    general
phi4-mini                                      phi        131072  T    general,fast
phi4                                           phi        16384   -    general
phi3.5                                         phi        131072  -    general,fast
phi3                                           phi        4096    -    fast
phi,phi2                                       phi        2048    -    fast
gemma4                                         gemma      131072  TV   general
gemma3n                                        gemma      32768   -    general,fast
gemma3                                         gemma      131072  V    general
codegemma                                      gemma      8192    -    code
medgemma,translategemma                        gemma      131072  -    general
functiongemma                                  gemma      32768   T    general
shieldgemma                                    guard      8192    -    moderate
gemma,gemma2                                   gemma      8192    -    general,fast
qwen2.5-coder,codeqwen                         qwen       32768   T    code
qwen3-coder*,qwen3-coder-next                  qwen       262144  T    code
qwen2.5vl,qwen2.5-vl,qwen2-vl,qwen3-vl         qwen       131072  V    general
qwq                                            qwen       40960   TR   general
qwen3,qwen3.5,qwen3.6,qwen3-next               qwen       40960   TR   general,code
qwen,qwen1.5,qwen2,qwen2.5,qwen2-math          qwen       32768   T    general
deepseek-r1:distill-llama*                     llama      131072  R    general
deepseek-r1:distill-qwen*                      qwen       131072  R    general
deepseek-r1,r1-1776                            deepseek   131072  R    general
deepseek-coder-v2*,deepseek-coder:v2*          deepseek   163840  -    code
deepseek-coder                                 deepseek   16384   -    code
deepseek-v3*                                   deepseek   163840  T    general
deepseek*                                      deepseek   4096    -    general
starcoder2                                     starcoder  16384   -    code
starcoder                                      starcoder  8192    -    code
wizardcoder                                    wizardcoder 16384  -    code
opencoder,deepcoder,magicoder,stable-code,yi-coder,granite-code,dolphincoder - 16384 - code
sqlcoder,duckdb-nsql                           -          8192    -    code
granite3*,granite4*                            granite    131072  T    general
command-r*,command-a                           command-r  131072  T    general
gpt-oss*                                       gpt-oss    131072  TR   general,code
glm4*,glm-4*,glm-5*                            glm        131072  TR   general,code
smollm2                                        llama      8192    T    fast
llava*,bakllava,moondream,minicpm-v*           -          4096    V    general
neural-chat                                    neural-chat 8192   -    general
orca*,vicuna                                   -          4096    -    general
"""

BUILT_IN: tuple[Row, ...] = tuple(_rows())


def canonical_names(name: str) -> tuple[str, ...]:
    """
    Return the names by which a table may know a model, the shortest `NAME` last.

    `Meta-Llama-3.1-8B-Instruct-Q4_K_M` is `llama3.1-8b-instruct:latest`, `llama3.1-8b:instruct`
    and `llama3.1:8b-instruct`: where the name ends and the tag begins, no file says.

    Args:
        name: A file's, with or without `.gguf`, or one as `llama3.1:8b`.
    """
    stem = name[:_MAX_NAME_LETTERS].lower().removesuffix(".gguf")
    stem = _ORGANISATION.sub("", re.sub(r"[\s:]+", "-", without_quantisation(stem)), count=1)
    words: list[str] = []
    for word in filter(None, re.split(r"[-_]+|\.(?!\d)|(?<!\d)\.", stem)):
        if words and _VERSION.fullmatch(word) and words[-1].isalpha() and len(words) == 1:
            words[-1] += word
        else:
            words.append(word)
    splits = range(min(len(words), _MAX_SPLITS), 0, -1)
    return tuple(f"{'-'.join(words[:at])}:{'-'.join(words[at:]) or 'latest'}" for at in splits)


def find_row(names: Sequence[str], rows: Iterable[Row]) -> Row | None:
    """Return the first row whose pattern fits one of the names."""
    for row in rows:
        fits = _pattern(row.pattern).match
        if any(fits(name) for name in names):
            return row
    return None


def facts(model: Model, rows: Sequence[Row] = (), *, any_template: bool = False) -> Facts:
    """
    Return what is known of a model.

    Args:
        model: With its header.
        rows: The user's, which come before the built-in ones.
        any_template: It is served with another chat template than its file's, of which nothing
            is known: it may understand tools.
    """
    header, names = model.header, canonical_names(model.name)
    row = find_row(names, rows) or _built_in(names)
    if row is None and header.name:  # the file may be called `tool.gguf`
        told = canonical_names(header.name)
        row = find_row(told, rows) or _built_in(told)
    known = row or UNKNOWN
    context_tokens, source = header.context_tokens, "header"
    if not context_tokens:
        context_tokens, source = known.context_tokens, "table" if row is not None else "default"
    return Facts(
        model_id=model.id,
        name=model.name,
        names=names,
        family=known.family or family_of(header),
        context_tokens=context_tokens,
        context_source=source,
        max_output_tokens=known.max_output_tokens,
        tools=_has_tools(header, known, any_template=any_template),
        vision=bool(model.location.mmproj_path),
        streaming=known.streaming and header.architecture not in _NEVER_SPEAKS,
        reasoning=known.reasoning,
        profiles=known.profiles,
        pattern=known.pattern if row is not None else "",
    )


def _has_tools(header: Header, row: Row, *, any_template: bool) -> bool:
    if any_template:
        return True
    return header.has_tool_template if header.has_chat_template else row.tools


def family_of(header: Header) -> str:
    """Return the family that an architecture belongs to: `qwen` for `qwen3moe`; empty for none."""
    known = _FAMILIES.get(header.architecture)
    if known is not None:
        return known
    found = re.match(r"[a-z]+(?:-[a-z]+)*", header.architecture)
    return found[0] if found else ""


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    """Return a pattern compiled; only `*` and `?` mean anything."""
    return re.compile(translate(pattern.lower().replace("[", "[[]")))


@lru_cache(maxsize=16384)
def _built_in(names: tuple[str, ...]) -> Row | None:
    return find_row(names, BUILT_IN)
