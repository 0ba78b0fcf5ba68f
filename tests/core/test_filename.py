"""What file names tell, on names as people have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.entities import Header
from modeld.core.filename import (
    complete,
    is_mmproj,
    name_words,
    parse_name,
    split_shard,
)

K = 1024
M = 10**6
B = 10**9

# name -> parameters, quantisation, context as a person reads them from the name.
NAMES: dict[str, tuple[int, str, int]] = {
    "Qwen3-8B-Q4_K_M.gguf": (8 * B, "Q4_K_M", 0),
    "Qwen3-0.6B-Q8_0.gguf": (600 * M, "Q8_0", 0),
    "Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_XL.gguf": (30 * B, "Q4_K_XL", 0),
    "Qwen3-235B-A22B-Q3_K_L-00001-of-00003.gguf": (235 * B, "Q3_K_L", 0),
    "Qwen3-Coder-480B-A35B-Instruct-1M-Q2_K.gguf": (480 * B, "Q2_K", K * K),
    "Qwen2.5-7B-Instruct-1M-Q4_K_M.gguf": (7 * B, "Q4_K_M", K * K),
    "qwen2.5-0.5b-instruct-q4_0.gguf": (500 * M, "Q4_0", 0),
    "qwen2.5-coder-32b-instruct-q5_k_m-00001-of-00003.gguf": (32 * B, "Q5_K_M", 0),
    "Qwen2-VL-2B-Instruct-Q6_K.gguf": (2 * B, "Q6_K", 0),
    "QwQ-32B-IQ4_XS.gguf": (32 * B, "IQ4_XS", 0),
    "llama-2-7b-chat.Q4_K_M.gguf": (7 * B, "Q4_K_M", 0),
    "llama-2-7b-32k-instruct.Q5_K_S.gguf": (7 * B, "Q5_K_S", 32 * K),
    "codellama-34b-instruct.Q4_K_M.gguf": (34 * B, "Q4_K_M", 0),
    "Meta-Llama-3-8B-Instruct.Q8_0.gguf": (8 * B, "Q8_0", 0),
    "Meta-Llama-3.1-405B-Instruct-Q4_K_M-00002-of-00009.gguf": (405 * B, "Q4_K_M", 0),
    "Meta-Llama-3.1-8B-Instruct-128k-Q4_K_M.gguf": (8 * B, "Q4_K_M", 128 * K),
    "Llama-3.2-1B-Instruct-f16.gguf": (1 * B, "F16", 0),
    "Llama-3.3-70B-Instruct-IQ2_XXS.gguf": (70 * B, "IQ2_XXS", 0),
    "Llama-4-Scout-17B-16E-Instruct-Q2_K_L.gguf": (17 * B, "Q2_K_L", 0),
    "Llama-3-8B-Instruct-262k-Q6_K.gguf": (8 * B, "Q6_K", 262_000),
    "Mistral-7B-Instruct-v0.3.Q4_K_M.gguf": (7 * B, "Q4_K_M", 0),
    "mistral-7b-instruct-v0.2.Q5_K_M.gguf": (7 * B, "Q5_K_M", 0),
    "Mistral-Nemo-Instruct-2407-Q4_K_M.gguf": (0, "Q4_K_M", 0),
    "Mistral-Small-3.2-24B-Instruct-2506-UD-IQ3_XXS.gguf": (24 * B, "IQ3_XXS", 0),
    "mixtral-8x7b-instruct-v0.1.Q3_K_M.gguf": (56 * B, "Q3_K_M", 0),
    "Mixtral-8x22B-v0.1-IQ3_S.gguf": (176 * B, "IQ3_S", 0),
    "Yarn-Mistral-7B-128k.Q4_K_S.gguf": (7 * B, "Q4_K_S", 128 * K),
    "Devstral-Small-2507-Q4_K_M.gguf": (0, "Q4_K_M", 0),
    "gemma-2-9b-it-Q4_K_M.gguf": (9 * B, "Q4_K_M", 0),
    "gemma-2b-it.gguf": (2 * B, "", 0),
    "gemma-3-270m-it-qat-Q4_0.gguf": (270 * M, "Q4_0", 0),
    "gemma-3-4b-it-q4_0_s.gguf": (4 * B, "Q4_0", 0),
    "gemma-3-27b-it-BF16-00001-of-00002.gguf": (27 * B, "BF16", 0),
    "gemma-3n-E4B-it-Q8_0.gguf": (4 * B, "Q8_0", 0),
    "Phi-3-mini-4k-instruct-q4.gguf": (0, "Q4", 4 * K),
    "Phi-3-mini-128k-instruct-fp16.gguf": (0, "F16", 128 * K),
    "Phi-3.5-mini-instruct-Q4_K_M.gguf": (0, "Q4_K_M", 0),
    "phi-4-Q4_K_M.gguf": (0, "Q4_K_M", 0),
    "phi-2.Q2_K.gguf": (0, "Q2_K", 0),
    "DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf": (1500 * M, "Q4_K_M", 0),
    "DeepSeek-R1-UD-IQ1_S-00001-of-00003.gguf": (0, "IQ1_S", 0),
    "DeepSeek-V3-0324-IQ1_M-00003-of-00005.gguf": (0, "IQ1_M", 0),
    "deepseek-coder-6.7b-instruct.Q5_K_M.gguf": (6700 * M, "Q5_K_M", 0),
    "DeepSeek-Coder-V2-Lite-Instruct-Q4_K_M.gguf": (0, "Q4_K_M", 0),
    "gpt-oss-20b-mxfp4.gguf": (20 * B, "MXFP4", 0),
    "gpt-oss-120b-MXFP4_MOE-00001-of-00003.gguf": (120 * B, "MXFP4_MOE", 0),
    "Kimi-K2-Instruct-1T-Q2_K.gguf": (10**12, "Q2_K", 0),
    "SmolLM2-135M-Instruct-Q8_0.gguf": (135 * M, "Q8_0", 0),
    "SmolLM2-1.7B-Instruct.Q4_K_M.gguf": (1700 * M, "Q4_K_M", 0),
    "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf": (1100 * M, "Q4_K_M", 0),
    "TinyLlama-1.1B-Chat-v1.0-TQ1_0.gguf": (1100 * M, "TQ1_0", 0),
    "Falcon3-10B-Instruct-1.58bit-TQ2_0.gguf": (10 * B, "TQ2_0", 0),
    "Falcon-H1-34B-Instruct-Q4_K_M.gguf": (34 * B, "Q4_K_M", 0),
    "Yi-34B-200K.Q4_K_M.gguf": (34 * B, "Q4_K_M", 200_000),
    "internlm2_5-7b-chat-1m-q8_0.gguf": (7 * B, "Q8_0", K * K),
    "granite-3.1-8b-instruct-Q4_K_M.gguf": (8 * B, "Q4_K_M", 0),
    "granite-4.0-h-small-UD-Q4_K_XL.gguf": (0, "Q4_K_XL", 0),
    "starcoder2-15b-Q4_0_4_8.gguf": (15 * B, "Q4_0_4_8", 0),
    "RWKV-x060-World-1B6-v2.1-F16.gguf": (1600 * M, "F16", 0),
    "nomic-embed-text-v1.5.f32.gguf": (0, "F32", 0),
    "bge-m3-Q8_0.gguf": (0, "Q8_0", 0),
    "jina-reranker-v2-base-multilingual-FP16.gguf": (0, "F16", 0),
    "command-r-08-2024-Q4_K_M.gguf": (0, "Q4_K_M", 0),
    "c4ai-command-r-plus-104b.IQ2_M.gguf": (104 * B, "IQ2_M", 0),
    "stablelm-zephyr-3b.Q4_K_M.gguf": (3 * B, "Q4_K_M", 0),
    "MiniCPM3-4B-Q4_K_M.gguf": (4 * B, "Q4_K_M", 0),
    "LFM2-350M-Q4_K_M.gguf": (350 * M, "Q4_K_M", 0),
    "GLM-4.5-Air-UD-Q2_K_XL-00001-of-00002.gguf": (0, "Q2_K_XL", 0),
    "GLM-4-32B-0414-IQ4_NL.gguf": (32 * B, "IQ4_NL", 0),
    "Nemotron-Nano-9B-v2-NVFP4.gguf": (9 * B, "NVFP4", 0),
    "Hermes-3-Llama-3.1-8B.Q4-K-M.gguf": (8 * B, "Q4_K_M", 0),
    "openchat_3.5.Q4_K_M.gguf": (0, "Q4_K_M", 0),
    "Nous-Hermes-2-SOLAR-10.7B.Q4_K_M.gguf": (10_700 * M, "Q4_K_M", 0),
    "dolphin-2.9-llama3-8b-256k-Q5_K_M.gguf": (8 * B, "Q5_K_M", 256 * K),
    "Bonsai-8B-Q1_0.gguf": (8 * B, "Q1_0", 0),
    "ggml-model-Q4_K_M.gguf": (0, "Q4_K_M", 0),
    "my model 13B q4_k_m.gguf": (13 * B, "Q4_K_M", 0),
    "model.gguf": (0, "", 0),
    "13b.gguf": (13 * B, "", 0),
    "Wayfarer-12B-Q4_K_S-imat.gguf": (12 * B, "Q4_K_S", 0),
}


def test_names_are_read_as_people_read_them() -> None:
    """Where no header can be read, the name is all there is."""
    wrong = {}
    for name, expected in NAMES.items():
        told = parse_name(name)
        found = (told.parameters, told.quantisation, told.context_tokens)
        if found != expected:
            wrong[name] = found
    assert len(wrong) <= len(NAMES) // 10, wrong


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b-00002-of-00003.gguf", ("a/b", 1, 3)),
        ("b.gguf", ("b", 0, 1)),
        ("b.GGUF", ("b", 0, 1)),
        ("b-00000-of-00003.gguf", ("b-00000-of-00003", 0, 1)),
        ("b-00004-of-00003.gguf", ("b-00004-of-00003", 0, 1)),
        ("b-1-of-3.gguf", ("b-1-of-3", 0, 1)),
    ],
)
def test_shard_suffix_is_the_one_of_llama_cpp(path: str, expected: tuple[str, int, int]) -> None:
    """A shard that is taken for a model fails to load, and its model is never whole."""
    assert split_shard(path) == expected


@pytest.mark.parametrize("name", ["mmproj-F16.gguf", "Qwen2-VL.MMPROJ.gguf", "x-mmproj-model.gguf"])
def test_projector_is_known_by_its_name(name: str) -> None:
    """A projector in the list of models is noise, and fails to load."""
    assert is_mmproj(name)


def test_words_are_those_that_tell_the_model() -> None:
    """A projector in F16 belongs to every quantisation of its model, and to no other F16."""
    assert name_words("mmproj-gemma-3_27b-F16") == ["gemma", "3", "27b"]
    assert name_words("ggml-model-Q4_K_M") == name_words("mmproj-model-f16") == []


def test_header_wins_over_the_name() -> None:
    """Names lie: people rename files."""
    header = Header(parameters=8 * B, quantisation="Q4_K_M", context_tokens=4096)
    assert complete(header, "llama-70B-128k-Q8_0.gguf") == header
    assert complete(Header(quantisation="F16"), "llama-70B-128k-Q8_0.gguf") == Header(
        parameters=70 * B, quantisation="F16", context_tokens=128 * K
    )


@given(st.text(max_size=80))
def test_any_name_tells_something_or_nothing(name: str) -> None:
    """One strange file must not hide all others."""
    told = parse_name(name)
    assert told.parameters >= 0
    assert told.shard_index < told.shard_count
    assert len(name_words(name)) <= 16
