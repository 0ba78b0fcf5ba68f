"""
Writes tiny, valid GGUF files, some of which make a real llama.cpp say a chosen sentence.

The model is a bigram machine: each token is one unit vector, attention and feed-forward add
nothing, and the output matrix has a 1 where one token is followed by another.  Whatever it is
asked, it says its sentence once and stops.  A dozen kilobytes, no dependency, no download, the
same bytes for the same arguments.  It refuses to be a general GGUF writer.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SENTENCE = "Hello from modeld : this reply came out of a real llama.cpp run ."
ALIGNMENT = 32
HEAD_DIMENSION = 32
SPECIAL = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
FIRST_WORD = 3 + 256 + len(SPECIAL)
END_OF_TEXT = 2
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

Value = str | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]
"""A metadata value.  Its GGUF type follows from it; a plain int is unsigned, of 32 or 64 bits."""


class U16(int):
    """A number that is written in 16 bits, as llama.cpp wants `split.no` and `split.count`."""


class I32(int):
    """A number that is written in 32 bits with a sign, as llama.cpp wants token types."""


class Tensor(NamedTuple):
    """One tensor: its shape in ggml's order, its ggml type (0 = f32, 1 = f16), its data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    data: bytes | None = None
    """None for zeros, which are left as a hole in the file."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the data, without padding."""
        size = 4 if self.kind == 0 else 2
        for extent in self.shape:
            size *= extent
        return size


def write_model(
    path: Path,
    *,
    sentence: str = SENTENCE,
    name: str = "tiny",
    pad_ff: int = 32,
    context_tokens: int = 512,
    architecture: str = "llama",
    metadata: Mapping[str, Value | None] | None = None,
    is_endless: bool = False,
) -> None:
    """
    Write a model that says `sentence`, whose words must be distinct.

    Args:
        path: The file; its folder is made when missing.
        sentence: Words, separated by spaces.
        name: `general.name`.
        pad_ff: The feed-forward width.  Each 1,000 of it adds about 2 MB, as a hole.
        context_tokens: The trained context.
        architecture: Label and key prefix.  llama.cpp can run it as `llama`.
        metadata: Further or other keys; None removes one.
        is_endless: Begin the sentence again at its end, until the context is full.
    """
    pairs, tensors = _model(sentence, name, pad_ff, context_tokens, architecture, is_endless)
    _write(path, pairs | dict(metadata or {}), tensors)


def write_shards(
    directory: Path,
    stem: str,
    count: int,
    *,
    sentence: str = SENTENCE,
    name: str = "tiny",
    pad_ff: int = 32,
    context_tokens: int = 512,
) -> list[Path]:
    """Write the same model as `count` files (at most 12) and return them, the first one first."""
    pairs, tensors = _model(sentence, name, pad_ff, context_tokens, "llama")
    assert 1 <= count <= len(tensors), f"a tiny model has {len(tensors)} tensors"
    paths = []
    for index in range(count):
        own = tensors[index * len(tensors) // count : (index + 1) * len(tensors) // count]
        split: dict[str, Value | None] = {
            "split.no": U16(index),
            "split.count": U16(count),
            "split.tensors.count": I32(len(tensors)),
        }
        path = directory / f"{stem}-{index + 1:05d}-of-{count:05d}.gguf"
        _write(path, pairs | split if index == 0 else split, own)
        paths.append(path)
    return paths


def write_tensors(
    path: Path, pairs: Mapping[str, Value | None], tensors: Sequence[Tensor], tokens: int = 512
) -> None:
    """
    Write these tensors under these keys, with a vocabulary of that many tokens (at least 259).

    Nothing sensible comes out of it, but llama.cpp loads it: for what it costs in memory.
    """
    words = [f"\u2581w{index:x}" for index in range(tokens - 259)]
    vocabulary: dict[str, Value | None] = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *_bytes(), *words],
        "tokenizer.ggml.scores": [0.0] * 3 + [-1000.0] * 256 + [-1.0] * len(words),
        "tokenizer.ggml.token_type": [I32(kind) for kind in [2, 3, 3] + [6] * 256]
        + [I32(1)] * len(words),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": END_OF_TEXT,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    _write(path, {"general.alignment": ALIGNMENT} | dict(pairs) | vocabulary, tensors)


def _bytes() -> list[str]:
    """Return the tokens of single bytes."""
    return [f"<0x{byte:02X}>" for byte in range(256)]


def write_vocabulary(path: Path, tokens: int = 150_000) -> None:
    """Write a header with a vocabulary of that many tokens and no tensor: the readers' load."""
    words: list[str] = [f"\u0120word{index:x}" for index in range(tokens)]
    _write(
        path,
        {
            "general.architecture": "llama",
            "general.name": "vocabulary",
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": words,
            "tokenizer.ggml.scores": [float(-index) for index in range(tokens)],
            "tokenizer.ggml.token_type": [I32(1)] * tokens,
        },
        [],
    )


def write_mmproj(path: Path, *, name: str = "tiny vision") -> None:
    """Write what looks like a vision projector from outside: the right header, no use."""
    _write(
        path,
        {
            "general.architecture": "clip",
            "general.type": "mmproj",
            "general.name": name,
            "general.file_type": 1,
            "clip.has_vision_encoder": True,
            "clip.vision.embedding_length": 32,
            "clip.vision.block_count": 1,
        },
        [Tensor("mm.0.weight", (32, 32), 1)],
    )


def _model(
    sentence: str,
    name: str,
    pad_ff: int,
    context_tokens: int,
    architecture: str,
    is_endless: bool = False,
) -> tuple[dict[str, Value | None], list[Tensor]]:
    """Return the metadata and the tensors of the bigram machine for `sentence`."""
    words = ["\u2581" + word for word in sentence.split()]
    assert len(set(words)) == len(words) > 0, "the words of the sentence must be distinct"
    tokens = ["<unk>", "<s>", "</s>", *_bytes(), *SPECIAL, *words]
    width = -(-len(tokens) // 32) * 32
    own = {
        "context_length": context_tokens,
        "embedding_length": width,
        "block_count": 1,
        "feed_forward_length": pad_ff,
        "attention.head_count": 1,
        "attention.head_count_kv": 1,
        "attention.key_length": HEAD_DIMENSION,
        "attention.value_length": HEAD_DIMENSION,
        "rope.dimension_count": HEAD_DIMENSION,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": len(tokens),
    }
    pairs: dict[str, Value | None] = {
        "general.architecture": architecture,
        "general.name": name,
        "general.file_type": 1,
        "general.alignment": ALIGNMENT,
        **{f"{architecture}.{key}": value for key, value in own.items()},
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": _scores(len(words)),
        "tokenizer.ggml.token_type": _token_types(len(words)),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": END_OF_TEXT,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": TEMPLATE,
    }
    last = FIRST_WORD if is_endless else END_OF_TEXT
    return pairs, _tensors(len(tokens), width, pad_ff, last)


def _scores(words: int) -> list[float]:
    """Return the token scores: bytes last, words in the order of the sentence."""
    return [0.0] * 3 + [-1000.0] * 256 + [0.0] * len(SPECIAL) + [-float(i) for i in range(words)]


def _token_types(words: int) -> list[I32]:
    """Return the kind of each token: 1 normal, 2 unknown, 3 control, 6 byte."""
    kinds = [2, 3, 3] + [6] * 256 + [3] * len(SPECIAL) + [1] * words
    return [I32(kind) for kind in kinds]


def _tensors(tokens: int, width: int, pad_ff: int, last: int) -> list[Tensor]:
    """Return the tensors of a bigram machine whose words are its last tokens; `last` ends them."""
    following = [FIRST_WORD] * FIRST_WORD + [*range(FIRST_WORD + 1, tokens), last]
    following[END_OF_TEXT] = END_OF_TEXT
    previous: list[list[int]] = [[] for _ in range(tokens)]
    for token, follower in enumerate(following):
        previous[follower].append(token)
    ones = struct.pack(f"<{width}f", *[1.0] * width)
    block = {
        "attn_q": (width, HEAD_DIMENSION),
        "attn_k": (width, HEAD_DIMENSION),
        "attn_v": (width, HEAD_DIMENSION),
        "attn_output": (HEAD_DIMENSION, width),
        "ffn_gate": (width, pad_ff),
        "ffn_up": (width, pad_ff),
        "ffn_down": (pad_ff, width),
    }
    return [
        Tensor(
            "token_embd.weight", (width, tokens), 1, _matrix(width, [[t] for t in range(tokens)])
        ),
        Tensor("output_norm.weight", (width,), 0, ones),
        Tensor("output.weight", (width, tokens), 1, _matrix(width, previous)),
        Tensor("blk.0.attn_norm.weight", (width,), 0, ones),
        *(Tensor(f"blk.0.{name}.weight", shape, 1) for name, shape in block.items()),
        Tensor("blk.0.ffn_norm.weight", (width,), 0, ones),
    ]


def _matrix(columns: int, rows: Sequence[Sequence[int]]) -> bytes:
    """Return an f16 matrix with a 1 in the columns that each row lists."""
    data = bytearray(2 * columns * len(rows))
    one = struct.pack("<e", 1.0)
    for row, ones in enumerate(rows):
        for column in ones:
            start = 2 * (row * columns + column)
            data[start : start + 2] = one
    return bytes(data)


def _write(path: Path, pairs: Mapping[str, Value | None], tensors: Sequence[Tensor]) -> None:
    """Write one GGUF file, version 3."""
    kept = {key: value for key, value in pairs.items() if value is not None}
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kept)))
    for key, value in kept.items():
        head += string(key) + _typed(value)
    offset = 0
    for tensor in tensors:
        head += string(tensor.name) + struct.pack("<I", len(tensor.shape))
        head += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        head += struct.pack("<IQ", tensor.kind, offset)
        offset += _padded(tensor.size_bytes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        start = _padded(len(head))
        for tensor in tensors:
            if tensor.data is not None:
                file.seek(start)
                file.write(tensor.data)
            start += _padded(tensor.size_bytes)
        file.truncate(start)


def string(text: str | bytes) -> bytes:
    """Return a GGUF string: its length in 64 bits, then its bytes."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _typed(value: Value) -> bytes:
    """Return a metadata value behind its type."""
    if not isinstance(value, str) and isinstance(value, Sequence):
        kind, _ = _scalar(value[0] if value else 0)
        packed = b"".join(_elements(kind, value))
        return struct.pack("<IIQ", 9, kind, len(value)) + packed
    kind, data = _scalar(value)
    return struct.pack("<I", kind) + data


def _elements(
    kind: int, values: Sequence[str] | Sequence[int] | Sequence[float]
) -> Iterator[bytes]:
    """Yield each element of an array; all have the type of the first."""
    for value in values:
        own, data = _scalar(value)
        assert own == kind, f"an array of mixed types: {values!r}"
        yield data


def _scalar(value: str | float) -> tuple[int, bytes]:
    """Return the GGUF type of one value, and its bytes."""
    match value:
        case str():
            return 8, string(value)
        case bool():
            return 7, struct.pack("<?", value)
        case U16():
            return 2, struct.pack("<H", value)
        case I32():
            return 5, struct.pack("<i", value)
        case int() if value < 2**32:
            return 4, struct.pack("<I", value)
        case int():
            return 10, struct.pack("<Q", value)
        case float():
            return 6, struct.pack("<f", value)


def _padded(size: int) -> int:
    """Return `size`, rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT
