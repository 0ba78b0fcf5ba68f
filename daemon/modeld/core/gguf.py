"""
What a GGUF file says of itself, read from its first bytes.

Gives meaning to what `gguf_bytes` finds, within limits of its own, for a stranger may have
written it.  Whatever llama.cpp could not load ends as `BadGguf`, with one sentence.  Nothing
here opens a file or looks at weights: the caller maps the file and guards the time.
"""

from collections.abc import Mapping
from struct import Struct as Layout
from typing import NamedTuple

from msgspec.structs import replace

from modeld.core.entities import Header
from modeld.core.ggml import FILE_TYPES, TENSOR_TYPES
from modeld.core.gguf_bytes import BOOLEAN, INTEGERS, STRING, U32, BadGguf, Cursor, Field, quoted
from modeld.core.shapes import Recurrence

__all__ = ["BadGguf", "read_header"]

MAX_PAIRS = 65_536
MAX_TENSORS = 65_536
MAX_LAYERS = 4096
MAX_NUMBER = 2**40
"""Beyond any context, width or count that a model can have."""
MAX_TEXT_CHARACTERS = 256

EXPERTS, EMBEDDING = b"_exps.", b"token_embd.weight"
"""Which tensors are experts', and which one the table of tokens."""
_START, _TENSOR = Layout("<4sIQQ"), Layout("<IQ")
_EXTENTS = tuple(Layout(f"<{count}Q") for count in range(5))
_SMALLEST_PAIR_BYTES = 8 + 4 + 1
_SMALLEST_TENSOR_BYTES = 8 + 4 + 4 + 8

_GUESSED_FILE_TYPE = 1024
"""llama.cpp sets this bit in `general.file_type` when it guessed."""

# What lies where a GGUF should, by its first bytes.
_OLD = "it is in a format from before GGUF; convert the model again"
_STRANGERS = {
    b"GGML": _OLD,
    b"lmgg": _OLD,
    b"fmgg": _OLD,
    b"tjgg": _OLD,
    b"vers": "it is a git-LFS pointer, not the model; run git lfs pull",
    bytes(4): "it begins with zeros: a download that has not finished?",
}


class _Tensors(NamedTuple):
    """The sum of all tensors."""

    parameters: int
    size_bytes: int
    extent_bytes: int
    """From the start of the data to the end of the last tensor."""
    dominant: str
    """The type that most parameters have."""
    expert_bytes: int
    embedding_bytes: int


class _Fields:
    """The metadata: finds a value by its key and insists on its type."""

    def __init__(self, view: memoryview, fields: Mapping[bytes, Field]) -> None:
        self._view = view
        self._fields = fields

    def __contains__(self, key: str) -> bool:
        return key.encode() in self._fields

    def count(self, key: str) -> int:
        """Return how many elements an array has; 0 where it is missing."""
        field = self._fields.get(key.encode())
        return field.size if field is not None and field.is_array else 0

    def data(self, key: str) -> bytes:
        """Return the bytes of a string; empty where it is missing."""
        field = self._fields.get(key.encode())
        if field is None:
            return b""
        if field.is_array or field.kind != STRING:
            raise BadGguf(f"{key} is not text")
        return bytes(self._view[field.offset : field.offset + field.size])

    def text(self, key: str) -> str:
        """Return a string for people: printable, and not longer than they read."""
        text = self.data(key)[: 4 * MAX_TEXT_CHARACTERS].decode(errors="replace")
        return "".join(filter(str.isprintable, text))[:MAX_TEXT_CHARACTERS].strip()

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return a whole number, or an array of them; empty where it is missing."""
        field = self._fields.get(key.encode())
        if field is None:
            return ()
        if field.kind == BOOLEAN:
            return tuple(self._view[field.offset : field.offset + min(field.size, MAX_LAYERS)])
        if field.kind not in INTEGERS:
            raise BadGguf(f"{key} is not a whole number")
        if field.size > MAX_LAYERS:
            raise BadGguf(f"{key} has {field.size} elements; {MAX_LAYERS} are the most")
        layout = Layout(f"<{field.size}{INTEGERS[field.kind]}")
        values: tuple[int, ...] = layout.unpack_from(self._view, field.offset)
        for value in values:
            if not 0 <= value <= MAX_NUMBER:
                raise BadGguf(f"{key} is {value}, which makes no sense")
        return values

    def varied(self, key: str) -> tuple[int, ...]:
        """Return the numbers of an array whose elements differ; else the one, or none."""
        numbers = self.numbers(key)
        return numbers[:1] if len(set(numbers)) == 1 else numbers

    def number(self, key: str) -> int:
        """Return a whole number, the largest where there are several; 0 where it is missing."""
        return max(self.numbers(key), default=0)


def read_header(view: bytes | memoryview, file_bytes: int) -> Header:
    """
    Return what a GGUF file says of itself.

    Args:
        view: The start of the file; a header of at most 256 MiB must lie within.
        file_bytes: [bytes] The length of the whole file.

    Raises:
        BadGguf: It is no GGUF, a damaged or a truncated one, or beyond the limits above.
    """
    cursor = Cursor(memoryview(view).cast("B"), file_bytes)
    tensor_count, pair_count = _read_start(cursor)
    fields = _Fields(cursor.view, _read_fields(cursor, pair_count))
    alignment = _alignment(fields)
    tensors = _read_tensors(cursor, tensor_count, alignment)
    extent_bytes = cursor.offset
    if tensor_count:
        extent_bytes = -(-cursor.offset // alignment) * alignment + tensors.extent_bytes
    if extent_bytes > file_bytes:
        raise BadGguf(
            f"it is truncated: it has {file_bytes} bytes, and its tensors need {extent_bytes}"
        )
    return _header(fields, tensors, tensor_count, extent_bytes)


def _read_start(cursor: Cursor) -> tuple[int, int]:
    """Return how many tensors and pairs follow."""
    magic = bytes(cursor.view[:4])
    if magic != b"GGUF":
        what = "it is empty" if not cursor.file_bytes else "it is not a GGUF file"
        raise BadGguf(_STRANGERS.get(magic, what))
    if len(cursor.view) >= 8:
        (version,) = U32.unpack_from(cursor.view, 4)
        if version & 0xFFFF == 0:
            raise BadGguf("it is big endian, made for another kind of machine")
        if version not in {2, 3}:
            raise BadGguf(f"it is GGUF version {version}; versions 2 and 3 are known")
    _, _, tensors, pairs = cursor.take(_START)
    for count, what, most, size in (
        (tensors, "tensors", MAX_TENSORS, _SMALLEST_TENSOR_BYTES),
        (pairs, "metadata keys", MAX_PAIRS, _SMALLEST_PAIR_BYTES),
    ):
        if count > most:
            raise BadGguf(f"it claims {count} {what}; {most} are the most")
        if count * size > cursor.left:
            raise BadGguf(f"it claims {count} {what} and is too short for them")
    return tensors, pairs


def _read_fields(cursor: Cursor, count: int) -> dict[bytes, Field]:
    """Return where each value lies."""
    fields: dict[bytes, Field] = {}
    for _ in range(count):
        key = cursor.name("key")
        if key in fields:
            raise BadGguf(f"the key {quoted(key)} is there twice")
        fields[key] = cursor.field(key)
    return fields


def _alignment(fields: _Fields) -> int:
    """Return what the data of each tensor is aligned to."""
    if "general.alignment" not in fields:
        return 32
    alignment = fields.number("general.alignment")
    if alignment == 0 or alignment & (alignment - 1):
        raise BadGguf(f"general.alignment is {alignment}, not a power of two")
    return alignment


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> _Tensors:
    """Return the sum of the tensors that are described here."""
    names: set[bytes] = set()
    parameters: dict[int, int] = {}
    total_bytes = end = expert_bytes = embedding_bytes = 0
    for _ in range(count):
        name = cursor.name("tensor name")
        if name in names:
            raise BadGguf(f"the tensor {quoted(name)} is there twice")
        names.add(name)
        (dimensions,) = cursor.take(U32)
        if dimensions >= len(_EXTENTS):
            raise BadGguf(f"the tensor {quoted(name)} has {dimensions} dimensions; 4 are the most")
        extents = cursor.take(_EXTENTS[dimensions])
        kind, offset = cursor.take(_TENSOR)
        if offset % alignment:
            raise BadGguf(f"the tensor {quoted(name)} begins at {offset}, off its alignment")
        elements, size_bytes = _measure(name, extents, kind)
        parameters[kind] = parameters.get(kind, 0) + elements
        total_bytes += size_bytes
        expert_bytes += size_bytes * (EXPERTS in name)
        embedding_bytes += size_bytes * (name == EMBEDDING)
        end = max(end, offset + size_bytes)
    if total_bytes > end:
        raise BadGguf(f"its tensors overlap: {total_bytes} bytes of them in {end}")
    dominant = max(parameters, key=lambda kind: parameters[kind], default=None)
    name_of_dominant = "" if dominant is None else TENSOR_TYPES[dominant].name
    elements = sum(parameters.values())
    return _Tensors(elements, total_bytes, end, name_of_dominant, expert_bytes, embedding_bytes)


def _measure(name: bytes, extents: tuple[int, ...], kind: int) -> tuple[int, int]:
    """Return how many elements and bytes a tensor has."""
    if kind not in TENSOR_TYPES:
        raise BadGguf(f"the tensor {quoted(name)} has type {kind}, which modeld does not know")
    elements = 1
    for extent in extents:
        elements *= extent
    if not elements:
        raise BadGguf(f"the tensor {quoted(name)} has a dimension of 0")
    block = TENSOR_TYPES[kind]
    row = extents[0] if extents else 1
    if row % block.elements:
        raise BadGguf(
            f"the tensor {quoted(name)} has rows of {row}, and {block.name} needs"
            f" multiples of {block.elements}"
        )
    return elements, elements // block.elements * block.size_bytes


def _header(fields: _Fields, tensors: _Tensors, count: int, extent_bytes: int) -> Header:
    """Return the header, its keys understood."""
    architecture = fields.text("general.architecture")
    heads = fields.number(f"{architecture}.attention.head_count")
    embedding = fields.number(f"{architecture}.embedding_length")
    feed_forwards = fields.varied(f"{architecture}.feed_forward_length")
    layers = fields.number(f"{architecture}.block_count")
    if layers > MAX_LAYERS:  # each is counted by itself
        raise BadGguf(f"it claims {layers} layers; {MAX_LAYERS} are the most")
    # llama.cpp's default where the file does not say.
    head_length = embedding // heads if heads else 0
    shard_count = max(1, fields.number("split.count"))
    shard_index = fields.number("split.no")
    if shard_index >= shard_count:
        raise BadGguf(f"it claims to be shard {shard_index} of {shard_count}, counted from 0")
    template = fields.data("tokenizer.chat_template")
    header = Header(
        architecture=architecture,
        name=fields.text("general.name"),
        size_label=fields.text("general.size_label"),
        parameters=tensors.parameters,
        quantisation=_quantisation(fields) or tensors.dominant,
        context_tokens=fields.number(f"{architecture}.context_length"),
        layers=layers,
        embedding=embedding,
        feed_forward=max(feed_forwards, default=0),
        feed_forwards=feed_forwards if len(feed_forwards) > 1 else (),
        heads=heads,
        key_length=fields.number(f"{architecture}.attention.key_length") or head_length,
        value_length=fields.number(f"{architecture}.attention.value_length") or head_length,
        vocabulary=fields.count("tokenizer.ggml.tokens")
        or fields.number(f"{architecture}.vocab_size"),
        tokenizer=fields.text("tokenizer.ggml.model"),
        has_chat_template=bool(template),
        has_tool_template=b"tools" in template or "tokenizer.chat_template.tool_use" in fields,
        kind=_kind(fields, architecture),
        tensor_count=count,
        tensor_bytes=tensors.size_bytes,
        expert_bytes=tensors.expert_bytes,
        embedding_bytes=tensors.embedding_bytes,
        extent_bytes=extent_bytes,
        shard_count=shard_count,
        shard_index=shard_index,
    )
    return replace(header, **_layers(fields, architecture))


def _layers(fields: _Fields, architecture: str) -> dict[str, object]:
    """Return what the header says of what each layer keeps, by the names of `Header`."""
    prefix = f"{architecture}.attention"
    pattern = f"{prefix}.sliding_window_pattern"
    periodic = not fields.count(pattern)
    return {
        "kv_heads": fields.varied(f"{prefix}.head_count_kv"),
        "sliding_window": fields.number(f"{prefix}.sliding_window"),
        "sliding_period": fields.number(pattern) if periodic else 0,
        "sliding_layers": () if periodic else tuple(map(bool, fields.numbers(pattern))),
        "sliding_key_length": fields.number(f"{prefix}.key_length_swa"),
        "sliding_value_length": fields.number(f"{prefix}.value_length_swa"),
        "shared_kv_layers": fields.number(f"{prefix}.shared_kv_layers"),
        "prediction_layers": fields.number(f"{architecture}.nextn_predict_layers"),
        "is_latent": bool(fields.number(f"{prefix}.key_length_mla")),
        "indexer_key_length": fields.number(f"{prefix}.indexer.key_length"),
        "recurrence": _recurrence(fields, architecture),
        "experts": fields.number(f"{architecture}.expert_count"),
        "experts_used": fields.number(f"{architecture}.expert_used_count"),
        "expert_feed_forward": fields.number(f"{architecture}.expert_feed_forward_length"),
    }


def _recurrence(fields: _Fields, architecture: str) -> Recurrence:
    """Return the shape of layers that keep a state of fixed size."""
    keys = {
        "convolution": "ssm.conv_kernel",
        "inner": "ssm.inner_size",
        "state": "ssm.state_size",
        "groups": "ssm.group_count",
        "wkv_head": "wkv.head_size",
        "token_shifts": "token_shift_count",
        "short_convolution": "shortconv.l_cache",
        "kda_head": "kda.head_dim",
        "attention_interval": "full_attention_interval",
    }
    return Recurrence(
        **{name: fields.number(f"{architecture}.{key}") for name, key in keys.items()}
    )


def _quantisation(fields: _Fields) -> str:
    """Return the file type as file names have it; empty where the file does not say."""
    kinds = fields.numbers("general.file_type")
    return FILE_TYPES.get(kinds[0] & ~_GUESSED_FILE_TYPE, "") if kinds else ""


def _kind(fields: _Fields, architecture: str) -> str:
    """Return what the file is: model, adapter, mmproj, ..."""
    # Vision projectors of 2024 and before do not say what they are.
    return fields.text("general.type") or ("mmproj" if architecture == "clip" else "model")
