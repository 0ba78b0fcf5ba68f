"""
Models of every kind of attention that a llama.cpp loads, made of holes.

`write_kind(path, "latent")` writes a file whose tensors are zeros that take no room on the disk.
What comes out of it is nonsense; what it costs in memory is what a real model of that shape
costs.  Which tensors there are, the engine itself tells: it names the one that it misses.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.tiny_gguf import Tensor, Value, write_tensors

F32, F16 = 0, 1
Shapes = dict[str, tuple[int, ...]]


class Size(NamedTuple):
    """How large a model is to be."""

    layers: int = 8
    embedding: int = 1024
    feed_forward: int = 2048
    heads: int = 16
    kv_heads: int = 8
    head: int = 128
    tokens: int = 512


class Kind(NamedTuple):
    """One architecture: its keys, and the tensors of each layer."""

    architecture: str
    keys: Callable[[Size], dict[str, Value | None]]
    layer: Callable[[Size, int], Shapes]


def write_kind(path: Path, name: str, size: Size = Size()) -> None:  # noqa: B008 (a frozen value)
    """Write a model of one of `KINDS`."""
    kind = KINDS[name]
    own: dict[str, Value | None] = {
        "context_length": 262_144,
        "embedding_length": size.embedding,
        "block_count": size.layers,
        "feed_forward_length": size.feed_forward,
        "attention.head_count": size.heads,
        "attention.head_count_kv": size.kv_heads,
        "attention.key_length": size.head,
        "attention.value_length": size.head,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.layer_norm_epsilon": 1e-6,
    }
    own |= kind.keys(size)
    shapes: Shapes = {
        "token_embd.weight": (size.embedding, size.tokens),
        "output_norm.weight": (size.embedding,),
        "output.weight": (size.embedding, size.tokens),
    }
    for number in range(size.layers):
        layer = kind.layer(size, number)
        shapes |= {f"blk.{number}.{each}": shape for each, shape in layer.items()}
    pairs = {f"{kind.architecture}.{key}": value for key, value in own.items()}
    tensors = [Tensor(each, shape, _type(each, shape)) for each, shape in shapes.items()]
    named = {"general.architecture": kind.architecture, "general.name": name}
    write_tensors(path, named | pairs, tensors, size.tokens)


def _type(name: str, shape: tuple[int, ...]) -> int:
    """Return the type that the engine wants: small things and states are not quantised."""
    small = ("norm", "bias", "ssm_a", "ssm_d", "ssm_dt", "conv", "sinks", "inp_shexp")
    return F32 if len(shape) == 1 or any(each in name for each in small) else F16


def _attention(size: Size) -> Shapes:
    wide, narrow = size.heads * size.head, size.kv_heads * size.head
    return {
        "attn_norm.weight": (size.embedding,),
        "attn_q.weight": (size.embedding, wide),
        "attn_k.weight": (size.embedding, narrow),
        "attn_v.weight": (size.embedding, narrow),
        "attn_output.weight": (wide, size.embedding),
    }


def _head_norms(size: Size) -> Shapes:
    return {"attn_q_norm.weight": (size.head,), "attn_k_norm.weight": (size.head,)}


def _dense(size: Size) -> Shapes:
    return {
        "ffn_norm.weight": (size.embedding,),
        "ffn_gate.weight": (size.embedding, size.feed_forward),
        "ffn_up.weight": (size.embedding, size.feed_forward),
        "ffn_down.weight": (size.feed_forward, size.embedding),
    }


EXPERTS, EXPERTS_USED, EXPERT_WIDTH = 16, 4, 512


def _expert_keys(_: Size) -> dict[str, Value | None]:
    return {
        "expert_count": EXPERTS,
        "expert_used_count": EXPERTS_USED,
        "expert_feed_forward_length": EXPERT_WIDTH,
        "expert_shared_feed_forward_length": EXPERT_WIDTH,
    }


def _experts(size: Size) -> Shapes:
    return {
        "ffn_gate_inp.weight": (size.embedding, EXPERTS),
        "ffn_gate_exps.weight": (size.embedding, EXPERT_WIDTH, EXPERTS),
        "ffn_up_exps.weight": (size.embedding, EXPERT_WIDTH, EXPERTS),
        "ffn_down_exps.weight": (EXPERT_WIDTH, size.embedding, EXPERTS),
    }


def _shared_expert(size: Size) -> Shapes:
    return {
        "ffn_gate_shexp.weight": (size.embedding, EXPERT_WIDTH),
        "ffn_up_shexp.weight": (size.embedding, EXPERT_WIDTH),
        "ffn_down_shexp.weight": (EXPERT_WIDTH, size.embedding),
    }


def _sliding(size: Size, _: int) -> Shapes:
    after = dict.fromkeys(("post_attention_norm.weight", "post_ffw_norm.weight"), (size.embedding,))
    return _attention(size) | _head_norms(size) | _dense(size) | after


def _sinks(size: Size, _: int) -> Shapes:
    biases = {
        "attn_output.bias": (size.embedding,),
        "ffn_gate_inp.bias": (EXPERTS,),
        "ffn_gate_exps.bias": (EXPERT_WIDTH, EXPERTS),
        "ffn_up_exps.bias": (EXPERT_WIDTH, EXPERTS),
        "ffn_down_exps.bias": (size.embedding, EXPERTS),
    }
    norms = {"post_attention_norm.weight": (size.embedding,), "attn_sinks.weight": (size.heads,)}
    return _attention(size) | norms | _experts(size) | biases


RANK, ROPE, QUERY_RANK, NOPE = 512, 64, 768, 128


def _latent_keys(_: Size) -> dict[str, Value | None]:
    return {
        "attention.head_count_kv": 1,
        "attention.key_length": RANK + ROPE,
        "attention.value_length": RANK,
        "attention.key_length_mla": NOPE + ROPE,
        "attention.value_length_mla": NOPE,
        "attention.kv_lora_rank": RANK,
        "attention.q_lora_rank": QUERY_RANK,
        "rope.dimension_count": ROPE,
        "leading_dense_block_count": 1_000,
        "expert_count": EXPERTS,
        "expert_used_count": EXPERTS_USED,
        "expert_shared_count": 1,
        "expert_feed_forward_length": EXPERT_WIDTH,
    }


def _latent(size: Size, _: int) -> Shapes:
    return _dense(size) | {
        "attn_norm.weight": (size.embedding,),
        "attn_q_a_norm.weight": (QUERY_RANK,),
        "attn_kv_a_norm.weight": (RANK,),
        "attn_q_a.weight": (size.embedding, QUERY_RANK),
        "attn_q_b.weight": (QUERY_RANK, size.heads * (NOPE + ROPE)),
        "attn_kv_a_mqa.weight": (size.embedding, RANK + ROPE),
        "attn_k_b.weight": (NOPE, RANK, size.heads),
        "attn_v_b.weight": (RANK, NOPE, size.heads),
        "attn_output.weight": (size.heads * NOPE, size.embedding),
    }


CONVOLUTION, STATE, STEP_RANK = 4, 64, 32


def _state_keys(size: Size) -> dict[str, Value | None]:
    return {
        "ssm.conv_kernel": CONVOLUTION,
        "ssm.inner_size": 2 * size.embedding,
        "ssm.state_size": STATE,
        "ssm.time_step_rank": STEP_RANK,
    }


def _recurrent(size: Size, _: int) -> Shapes:
    inner = 2 * size.embedding
    return {
        "attn_norm.weight": (size.embedding,),
        "ssm_in.weight": (size.embedding, 2 * inner),
        "ssm_conv1d.weight": (CONVOLUTION, inner),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (inner, STEP_RANK + 2 * STATE),
        "ssm_dt.weight": (STEP_RANK, inner),
        "ssm_dt.bias": (inner,),
        "ssm_a": (STATE, inner),
        "ssm_d": (inner,),
        "ssm_out.weight": (inner, size.embedding),
    }


def _every_other_keys(size: Size) -> dict[str, Value | None]:
    heads = [size.kv_heads * (number % 2) for number in range(size.layers)]
    count = size.embedding // size.head
    return _state_keys(size) | {"attention.head_count": count, "attention.head_count_kv": heads}


def _every_other(size: Size, number: int) -> Shapes:
    if number % 2:
        return _attention(size._replace(heads=size.embedding // size.head)) | _dense(size)
    norms = {
        "ssm_dt_norm.weight": (STEP_RANK,),
        "ssm_b_norm.weight": (STATE,),
        "ssm_c_norm.weight": (STATE,),
    }
    return _recurrent(size, number) | norms | _dense(size)


GROUPS, VALUE_HEADS, LINEAR_HEAD = 8, 16, 128


def _linear_keys(size: Size) -> dict[str, Value | None]:
    return _expert_keys(size) | {
        "ssm.conv_kernel": CONVOLUTION,
        "ssm.inner_size": VALUE_HEADS * LINEAR_HEAD,
        "ssm.state_size": LINEAR_HEAD,
        "ssm.time_step_rank": VALUE_HEADS,
        "ssm.group_count": GROUPS,
    }


def _linear(size: Size, number: int) -> Shapes:
    wide = size.heads * size.head
    inner, keys = VALUE_HEADS * LINEAR_HEAD, GROUPS * LINEAR_HEAD
    shared = _experts(size) | _shared_expert(size) | {
        "post_attention_norm.weight": (size.embedding,),
        "ffn_gate_inp_shexp.weight": (size.embedding,),
    }  # fmt: skip
    if number % 4 == 3:
        gated = {"attn_q.weight": (size.embedding, 2 * wide)}
        return _attention(size) | gated | _head_norms(size) | shared
    return shared | {
        "attn_norm.weight": (size.embedding,),
        "attn_qkv.weight": (size.embedding, 2 * keys + inner),
        "attn_gate.weight": (size.embedding, inner),
        "ssm_conv1d.weight": (CONVOLUTION, 2 * keys + inner),
        "ssm_dt.bias": (VALUE_HEADS,),
        "ssm_a": (VALUE_HEADS,),
        "ssm_ba.weight": (size.embedding, 2 * VALUE_HEADS),
        "ssm_norm.weight": (LINEAR_HEAD,),
        "ssm_out.weight": (inner, size.embedding),
    }


WINDOW = {"attention.sliding_window": 1024}
KINDS: dict[str, Kind] = {
    "grouped": Kind(
        "llama", lambda _: {}, lambda size, _: _attention(size) | _dense(size)
    ),
    "sliding": Kind("gemma3", lambda _: dict(WINDOW), _sliding),
    "sinks": Kind("gpt-oss", lambda size: _expert_keys(size) | WINDOW, _sinks),
    "latent": Kind("deepseek2", _latent_keys, _latent),
    "recurrent": Kind("mamba", lambda size: _state_keys(size) | {
        "attention.head_count": 0, "attention.head_count_kv": 0, "feed_forward_length": 0,
    }, _recurrent),
    "hybrid": Kind("jamba", _every_other_keys, _every_other),
    "linear": Kind("qwen3next", _linear_keys, _linear),
    "experts": Kind(
        "qwen3moe",
        _expert_keys,
        lambda size, _: _attention(size) | _head_norms(size) | _experts(size)
        | {"ffn_norm.weight": (size.embedding,)},
    ),
}  # fmt: skip
"""
What they stand for: grouped heads; windows; windows and sinks with experts; latent attention
(MLA); states only; states and caches by turns, its heads an array; gated delta nets with
experts; experts.
"""
