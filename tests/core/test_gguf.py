"""The GGUF header reader: what it understands, and that no file can hurt it."""

import ctypes
import mmap
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.core.entities import Header
from modeld.core.ggml import FILE_TYPES, TENSOR_TYPES
from modeld.core.gguf import BadGguf, read_header
from modeld.core.gguf_bytes import MAX_HEADER_BYTES, MAX_KEY_BYTES, MAX_STEPS, MAX_STRING_BYTES
from tests.support.tiny_gguf import (
    string,
    write_mmproj,
    write_model,
    write_shards,
)

U8, U16, U32, I32, F32, STRING, ARRAY, U64, F64 = 0, 2, 4, 5, 6, 8, 9, 10, 12


def read(path: Path) -> Header:
    """Read one file as the scanner does."""
    with path.open("rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return read_header(memoryview(view), len(view))


def u32(value: int) -> bytes:
    """Pack a number into 32 bits."""
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    """Pack a number into 64 bits."""
    return struct.pack("<Q", value)


def pair(key: str, kind: int, payload: bytes) -> bytes:
    """Pack a metadata pair."""
    return string(key) + u32(kind) + payload


def array(kind: int, count: int, payload: bytes = b"") -> bytes:
    """Pack an array, whose count may be a lie."""
    return u32(kind) + u64(count) + payload


def tensor(
    name: str = "t", extents: Sequence[int] = (32,), kind: int = 0, offset: int = 0
) -> bytes:
    """Pack a tensor's description."""
    packed = string(name) + u32(len(extents)) + b"".join(map(u64, extents))
    return packed + u32(kind) + u64(offset)


ARCHITECTURE = pair("general.architecture", STRING, string("llama"))


def file(
    pairs: Sequence[bytes] = (ARCHITECTURE,),
    tensors: Sequence[bytes] = (),
    data_bytes: int = 0,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    pair_count: int | None = None,
    tensor_count: int | None = None,
) -> bytes:
    """Pack a file, whose counts may be lies."""
    counts = (
        len(tensors) if tensor_count is None else tensor_count,
        len(pairs) if pair_count is None else pair_count,
    )
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join((*pairs, *tensors))
    return head + bytes(-len(head) % 32) + bytes(data_bytes) if tensors else head


def test_header_of_a_tiny_model_has_every_field(tmp_path: Path) -> None:
    """Memory, ranking and listing all live on these numbers."""
    write_model(
        tmp_path / "m.gguf",
        name="Tiny Llama",
        pad_ff=64,
        context_tokens=2048,
        metadata={
            "general.size_label": "0.2M",
            "llama.expert_count": 8,
            "llama.expert_used_count": 2,
            "llama.attention.sliding_window": 1024,
            "tokenizer.chat_template": "{% if tools %}{{ tools }}{% endif %}",
        },
    )
    size = (tmp_path / "m.gguf").stat().st_size
    header = read(tmp_path / "m.gguf")
    assert header == Header(
        architecture="llama",
        name="Tiny Llama",
        size_label="0.2M",
        parameters=header.parameters,
        quantisation="F16",
        context_tokens=2048,
        layers=1,
        embedding=288,
        feed_forward=64,
        heads=1,
        kv_heads=(1,),
        key_length=32,
        value_length=32,
        sliding_window=1024,
        vocabulary=277,
        experts=8,
        experts_used=2,
        tokenizer="llama",
        has_chat_template=True,
        has_tool_template=True,
        tensor_count=12,
        tensor_bytes=header.tensor_bytes,
        embedding_bytes=277 * 288 * 2,
        extent_bytes=size,
    )


def test_header_agrees_with_the_reference_reader(tmp_path: Path) -> None:
    """A parser that misses a byte is wrong about everything behind it."""
    write_model(tmp_path / "m.gguf", sentence="one two three", pad_ff=96)
    shards = write_shards(tmp_path, "s", 3)
    write_mmproj(tmp_path / "mmproj.gguf")
    for path in (tmp_path / "m.gguf", *shards, tmp_path / "mmproj.gguf"):
        header, oracle = read(path), gguf.GGUFReader(path)
        assert header.tensor_count == len(oracle.tensors)
        assert header.parameters == sum(int(tensor.n_elements) for tensor in oracle.tensors)
        assert header.tensor_bytes == sum(int(tensor.n_bytes) for tensor in oracle.tensors)
        ends = [int(tensor.data_offset + tensor.n_bytes) for tensor in oracle.tensors]
        assert header.extent_bytes == max(ends)


def oracle_file(path: Path, architecture: str, add: Callable[[gguf.GGUFWriter], None]) -> Header:
    """Write a file with the reference writer and return our header of it."""
    writer = gguf.GGUFWriter(path, architecture)
    add(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read(path)


def test_header_understands_what_the_reference_writer_writes(tmp_path: Path) -> None:
    """Other tools' files are the ones that people have."""

    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_name("Übermodell 7B")
        writer.add_context_length(131072)
        writer.add_block_count(3)
        writer.add_embedding_length(4096)
        writer.add_feed_forward_length([11008, 14336, 9000])
        writer.add_head_count(32)
        writer.add_head_count_kv([8, 0, 8])
        writer.add_expert_count(64)
        writer.add_expert_used_count(6)
        writer.add_sliding_window(4096)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["a", "bb", "", "dddd" * 100])
        writer.add_array("tokenizer.ggml.scores", [0.5, 1.5])
        writer.add_bool("tokenizer.ggml.add_bos_token", True)
        writer.add_float64("x.double", 1.0)
        writer.add_int8("x.int8", -1)
        writer.add_uint64("x.uint64", 2**63)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
        writer.add_chat_template("{{ messages }}")
        writer.add_tensor("a", numpy.ones((4, 64), dtype=numpy.float32))
        writer.add_tensor("b", numpy.ones((3, 33), dtype=numpy.float16))

    header = oracle_file(tmp_path / "m.gguf", "qwen3moe", add)
    assert header.architecture == "qwen3moe"
    assert header.name == "Übermodell 7B"
    assert header.context_tokens == 131072
    assert (header.layers, header.embedding, header.heads) == (3, 4096, 32)
    assert header.feed_forward == 14336
    assert header.kv_heads == (8, 0, 8)
    assert (header.key_length, header.value_length) == (128, 128)
    assert (header.experts, header.experts_used) == (64, 6)
    assert header.sliding_window == 4096
    assert (header.vocabulary, header.tokenizer) == (4, "gpt2")
    assert header.quantisation == "Q4_K_M"
    assert (header.has_chat_template, header.has_tool_template) == (True, False)
    assert header.parameters == 4 * 64 + 3 * 33
    assert header.tensor_bytes == 4 * 64 * 4 + 3 * 33 * 2


def test_quantisation_comes_from_the_most_common_tensor_type_without_a_file_type(
    tmp_path: Path,
) -> None:
    """Files of other converters often have no file type."""

    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("norm", numpy.ones(32, dtype=numpy.float32))
        data = numpy.zeros((8, 34 * 2), dtype=numpy.uint8)
        writer.add_tensor("w", data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    header = oracle_file(tmp_path / "m.gguf", "llama", add)
    assert header.quantisation == "Q8_0"
    assert header.parameters == 32 + 8 * 64


# The reference has a size for Q8_1 that ggml gave up; no file holds such tensors.
@pytest.mark.parametrize("kind", sorted(set(gguf.GGMLQuantizationType) - {9}))
def test_tensor_types_have_the_sizes_of_the_reference(kind: gguf.GGMLQuantizationType) -> None:
    """A wrong block size makes memory and truncation checks lie."""
    ours = TENSOR_TYPES[kind.value]
    assert (ours.name, (ours.elements, ours.size_bytes)) == (kind.name, gguf.GGML_QUANT_SIZES[kind])


def test_tensor_types_are_those_of_the_engine() -> None:
    """An engine that knows a type which modeld refuses would be held back by it."""
    xllamacpp = pytest.importorskip("xllamacpp.xllamacpp")
    library = ctypes.CDLL(xllamacpp.__file__)
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    for number, ours in TENSOR_TYPES.items():
        assert library.ggml_type_name(number).decode().upper() == ours.name
        assert library.ggml_blck_size(number) == ours.elements
        assert library.ggml_type_size(number) == ours.size_bytes


@pytest.mark.parametrize("kind", gguf.LlamaFileType)
def test_file_types_have_the_names_of_the_reference(kind: gguf.LlamaFileType) -> None:
    """The quantisation is what people choose by."""
    if kind is not gguf.LlamaFileType.GUESSED:
        assert FILE_TYPES[kind.value] == kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")


def test_guessed_file_type_is_still_a_file_type() -> None:
    """llama.cpp marks a guess with one bit more."""
    guessed = pair("general.file_type", U32, u32(1024 + 15))
    content = file([ARCHITECTURE, guessed])
    assert read_header(content, len(content)).quantisation == "Q4_K_M"


def test_shards_say_which_they_are(tmp_path: Path) -> None:
    """A set is complete only when each of its shards is there."""
    headers = [read(path) for path in write_shards(tmp_path, "s", 4)]
    assert [(header.shard_index, header.shard_count) for header in headers] == [
        (index, 4) for index in range(4)
    ]
    assert headers[1].architecture == ""


def test_kind_of_a_projector_is_mmproj_even_when_it_does_not_say(tmp_path: Path) -> None:
    """A projector that is taken for a model fails to load."""
    write_mmproj(tmp_path / "m.gguf")
    assert read(tmp_path / "m.gguf").kind == "mmproj"
    old = file([pair("general.architecture", STRING, string("clip"))])
    assert read_header(old, len(old)).kind == "mmproj"


def test_text_of_a_stranger_is_made_printable() -> None:
    """A name with escape sequences would repaint the terminal of whoever lists models."""
    name = pair("general.name", STRING, string(b"\x1b[2Jevil\n\xff" + b"x" * 5000))
    content = file([ARCHITECTURE, name])
    assert read_header(content, len(content)).name == "[2Jevil\ufffd" + "x" * 248


def test_scalars_without_dimensions_are_tensors() -> None:
    """Converters write a lone number with no dimension at all, and llama.cpp reads it."""
    content = file([ARCHITECTURE], [tensor("scale", ())], 4)
    assert read_header(content, len(content)).parameters == 1


def test_only_the_header_is_needed(tmp_path: Path) -> None:
    """Weights may lie on a slow disk, or be 100 GB."""
    write_model(tmp_path / "m.gguf")
    content = (tmp_path / "m.gguf").read_bytes()
    assert read_header(content[:16384], len(content)) == read_header(content, len(content))


WELL_FORMED = file(
    [ARCHITECTURE, pair("x.list", ARRAY, array(STRING, 2, string("a") + string("b")))],
    [tensor("a", (32, 2)), tensor("b", (32,), 1, 256)],
    256 + 64,
)
HEAD_LENGTH = len(WELL_FORMED) - 320


def test_well_formed_file_is_read() -> None:
    """The cuts below prove nothing when the whole is refused as well."""
    header = read_header(WELL_FORMED, len(WELL_FORMED))
    assert header.parameters == 96
    assert header.extent_bytes == len(WELL_FORMED)


def test_truncation_is_refused_at_every_byte() -> None:
    """A download that is still going on must not look like a model."""
    for length in range(len(WELL_FORMED)):
        with pytest.raises(BadGguf):
            read_header(WELL_FORMED[:length], length)


def test_truncation_is_told_with_numbers() -> None:
    """Whoever reads it wants to know how much is missing."""
    with pytest.raises(BadGguf, match=f"has {HEAD_LENGTH} bytes, .* need {HEAD_LENGTH + 320}"):
        read_header(WELL_FORMED[:HEAD_LENGTH], HEAD_LENGTH)


ALIGNMENT = "general.alignment"
HOSTILE = {
    "empty": (b"", "empty"),
    "other magic": (file(magic=b"GGUX"), "not a GGUF"),
    "old format": (b"tjgg" + bytes(60), "before GGUF"),
    "git-LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS"),
    "zeros": (bytes(4096), "zeros"),
    "version 1": (file(version=1), "version 1"),
    "version 4": (file(version=4), "version 4"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big endian"),
    "36 bytes": (file([], tensor_count=1, pair_count=0) + bytes(12), "too short"),
    "too many pairs": (file(pair_count=65_537), "65537 metadata keys"),
    "pairs beyond counting": (file(pair_count=2**64 - 1), "metadata keys"),
    "too many tensors": (file(tensor_count=65_537), "65537 tensors"),
    "tensors beyond counting": (file(tensor_count=2**63), "tensors"),
    "more pairs than fit": (file(pair_count=60_000), "too short"),
    "more tensors than fit": (file(tensor_count=60_000), "too short"),
    "key beyond the file": (file([u64(1000) + b"abc" + bytes(20)]), "ends inside"),
    "key beyond 64 bits": (file([u64(2**64 - 1) + bytes(20)]), "a key of"),
    "long key": (file([string(b"k" * (MAX_KEY_BYTES + 1)) + bytes(20)]), "a key of"),
    "string beyond 64 bits": (
        file([pair("general.name", STRING, u64(2**64 - 8) + bytes(40))]),
        "bytes of text",
    ),
    "long string": (
        file([pair("general.name", STRING, string(b"x" * (MAX_STRING_BYTES + 1)))]),
        "bytes of text",
    ),
    "unknown value type": (file([pair("x", 13, bytes(16))]), "unknown type 13"),
    "array of unknown type": (file([pair("x", ARRAY, array(99, 1, bytes(16)))]), "type 99"),
    "array of arrays": (
        file([pair("x", ARRAY, array(ARRAY, 1, array(U8, 1, b"x")))]),
        "array of arrays",
    ),
    "arrays nested without end": (
        file([pair("x", ARRAY, array(ARRAY, 1) * 10_000)]),
        "array of arrays",
    ),
    "array that overflows": (file([pair("x", ARRAY, array(F64, 2**61, bytes(8)))]), "ends inside"),
    "array of 2**64": (file([pair("x", ARRAY, array(U8, 2**64 - 1))]), "ends inside"),
    "strings without end": (file([pair("x", ARRAY, array(STRING, 2**60))]), "ends inside"),
    "string beyond an array": (
        file([pair("x", ARRAY, array(STRING, 2, string("a") + u64(5)))]),
        "ends inside",
    ),
    "long string in an array": (
        file([pair("x", ARRAY, array(STRING, 1, u64(2**40) + bytes(8)))]),
        "a string of",
    ),
    "key twice": (file([ARCHITECTURE, ARCHITECTURE]), "twice"),
    "architecture is a number": (
        file([pair("general.architecture", U32, u32(1))]),
        "not text",
    ),
    "architecture is a list": (
        file([pair("general.architecture", ARRAY, array(STRING, 1, string("llama")))]),
        "not text",
    ),
    "context is text": (
        file([ARCHITECTURE, pair("llama.context_length", STRING, string("4096"))]),
        "not a whole number",
    ),
    "context is a float": (
        file([ARCHITECTURE, pair("llama.context_length", F32, bytes(4))]),
        "not a whole number",
    ),
    "context is negative": (
        file([ARCHITECTURE, pair("llama.context_length", I32, struct.pack("<i", -1))]),
        "makes no sense",
    ),
    "context beyond reason": (
        file([ARCHITECTURE, pair("llama.context_length", U64, u64(2**64 - 1))]),
        "makes no sense",
    ),
    "a million layers": (
        file(
            [
                ARCHITECTURE,
                pair("llama.attention.head_count_kv", ARRAY, array(U8, 10**6, bytes(10**6))),
            ]
        ),
        "1000000 elements",
    ),
    "alignment 0": (file([pair(ALIGNMENT, U32, u32(0))], [tensor()], 128), "power of two"),
    "alignment 24": (file([pair(ALIGNMENT, U32, u32(24))], [tensor()], 128), "power of two"),
    "alignment is text": (file([pair(ALIGNMENT, STRING, string("32"))], [tensor()], 128), "number"),
    "alignment beyond the file": (
        file([pair(ALIGNMENT, U32, u32(2**31))], [tensor()], 128),
        "truncated",
    ),
    "tensor twice": (file((), [tensor(), tensor(offset=128)], 256), "twice"),
    "tensor of 5 dimensions": (file((), [tensor("t", (1, 1, 1, 1, 1))], 128), "5 dimensions"),
    "tensor of 2**32 dimensions": (
        file((), [string("t") + u32(2**32 - 1) + bytes(64)], 128),
        "dimensions",
    ),
    "tensor with a dimension of 0": (file((), [tensor("t", (32, 0))], 128), "dimension of 0"),
    "tensor that overflows": (
        file((), [tensor("t", (2**32, 2**32, 2**32))], 128),
        "truncated",
    ),
    "tensor that wraps to 0": (file((), [tensor("t", (2**63, 2))], 128), "truncated"),
    "unknown tensor type": (file((), [tensor(kind=200)], 128), "type 200"),
    "removed tensor type": (file((), [tensor(kind=4)], 128), "type 4"),
    "rows that blocks do not fill": (file((), [tensor("t", (33,), 8)], 128), "multiples of 32"),
    "tensor beyond the file": (file((), [tensor(offset=2**20)], 128), "truncated"),
    "tensor at 2**64": (file((), [tensor(offset=2**64 - 32)], 128), "truncated"),
    "tensor off its alignment": (file((), [tensor(offset=1)], 256), "alignment"),
    "tensors that overlap": (
        file((), [tensor("a", (64,)), tensor("b", (64,), offset=128)], 256 + 128),
        "overlap",
    ),
    "long tensor name": (file((), [tensor("t" * (MAX_KEY_BYTES + 1))], 128), "a tensor name of"),
    "tensor name beyond 64 bits": (file((), [u64(2**64 - 1) + bytes(32)], 128), "a tensor name"),
    "layers beyond all sense": (
        file(
            [
                pair("general.architecture", STRING, string("llama")),
                pair("llama.block_count", U32, u32(2**31)),
            ]
        ),
        "claims 2147483648 layers",
    ),
    "shard beyond its set": (
        file([pair("split.count", U16, b"\2\0"), pair("split.no", U16, b"\2\0")]),
        "shard 2 of 2",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused_at_once(name: str) -> None:
    """Files come from strangers: none may crash, hang or fool the daemon."""
    content, reason = HOSTILE[name]
    start = time.perf_counter()
    with pytest.raises(BadGguf, match=reason):
        read_header(content, len(content))
    assert time.perf_counter() - start < 2


def test_names_are_bounded_together() -> None:
    """65,536 keys of 64 KiB each would be 4 GB."""
    keys = [pair(f"{index:0>65000}", U8, b"x") for index in range(260)]
    content = file(keys)
    with pytest.raises(BadGguf, match="keys and names"):
        read_header(content, len(content))


def test_strings_in_arrays_are_bounded_together() -> None:
    """Steps over strings are the one thing that costs time."""
    half = array(STRING, MAX_STEPS // 2 + 1, bytes(8 * (MAX_STEPS // 2 + 1)))
    content = file([pair("a", ARRAY, half), pair("b", ARRAY, half)])
    start = time.perf_counter()
    with pytest.raises(BadGguf, match="strings in arrays"):
        read_header(content, len(content))
    assert time.perf_counter() - start < 2


def test_header_beyond_what_was_mapped_is_refused() -> None:
    """A header of gigabytes is an attack, however long the file is."""
    content = file([pair("x", ARRAY, array(U8, MAX_HEADER_BYTES))])
    with pytest.raises(BadGguf, match="header is longer"):
        read_header(content, 2 * MAX_HEADER_BYTES)


@settings(max_examples=300, deadline=2000)
@given(st.data())
def test_mutated_file_gives_a_header_or_a_refusal(data: st.DataObject) -> None:
    """Anything else would end the worker, and hide every file behind it."""
    content = bytearray(WELL_FORMED)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 16)))
        content[start:end] = data.draw(
            st.one_of(
                st.binary(max_size=16),
                st.integers(0, 2**64 - 1).map(u64),
                st.integers(0, 2**32 - 1).map(u32),
            )
        )
    expect_header_or_refusal(bytes(content))


@settings(max_examples=200, deadline=2000)
@given(st.binary(max_size=200))
def test_bytes_behind_the_magic_give_a_header_or_a_refusal(tail: bytes) -> None:
    """The same, where nothing is well formed."""
    expect_header_or_refusal(b"GGUF" + u32(3) + tail)


def expect_header_or_refusal(content: bytes) -> None:
    """Read bytes that may be anything."""
    try:
        header = read_header(content, len(content))
    except BadGguf as refusal:
        sentence = str(refusal)
    else:
        assert header.extent_bytes <= len(content)
        sentence = header.name
    assert sentence.isprintable()
