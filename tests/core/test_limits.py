"""What is known of models: real names find their rows, and headers win over tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modeld.core.entities import Header, Location, Model
from modeld.core.limits import (
    BUILT_IN,
    UNKNOWN_CONTEXT_TOKENS,
    Row,
    canonical_names,
    facts,
    family_of,
    find_row,
)

# A file's name -> the pattern, family and context of its row.
NAMES: dict[str, tuple[str, str, int]] = {
    "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf": ("llama3.1:*", "llama", 128_000),
    "Llama-3.3-70B-Instruct-IQ2_XXS.gguf": ("llama3.3:*", "llama", 128_000),
    "Meta-Llama-3-8B-Instruct.Q8_0.gguf": ("llama3:*", "llama", 8192),
    "llama-2-7b-chat.Q4_K_M.gguf": ("llama2*", "llama", 4096),
    "Llama-3.2-11B-Vision-Instruct-Q4_K_M.gguf": ("llama3.2:*vision*", "llama", 128_000),
    "codellama-34b-instruct.Q4_K_M.gguf": ("codellama:*", "llama", 16_384),
    "CodeLlama-7B-Python.Q5_K_S.gguf": ("codellama:*", "llama", 16_384),
    "mistral-7b-instruct-v0.2.Q5_K_M.gguf": ("mistral:*", "mistral", 32_768),
    "Mistral-Nemo-Instruct-2407-Q4_K_M.gguf": ("mistral-nemo:*", "mistral", 131_072),
    "Phi-3-mini-4k-instruct-q4.gguf": ("phi3:*", "phi", 4096),
    "Phi-3.5-mini-instruct-Q4_K_M.gguf": ("phi3.5:*", "phi", 131_072),
    "phi-2.Q4_K_M.gguf": ("phi2:*", "phi", 2048),
    "gemma-2b-it.gguf": ("gemma:*", "gemma", 8192),
    "gemma-2-9b-it-Q4_K_M.gguf": ("gemma2:*", "gemma", 8192),
    "google_gemma-3-4b-it-Q4_K_M.gguf": ("gemma3:*", "gemma", 131_072),
    "deepseek-coder-6.7b-instruct.Q4_K_M.gguf": ("deepseek-coder:*", "deepseek", 16_384),
    "DeepSeek-Coder-V2-Lite-Instruct-Q4_K_M.gguf": ("deepseek-coder-v2*", "deepseek", 163_840),
    "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf": ("deepseek-r1:distill-qwen*", "qwen", 131_072),
    "qwen2.5-0.5b-instruct-q4_0.gguf": ("qwen2.5:*", "qwen", 32_768),
    "qwen2-7b-instruct-q5_k_m.gguf": ("qwen2:*", "qwen", 32_768),
    "Qwen_Qwen3-8B-Q4_K_M.gguf": ("qwen3:*", "qwen", 40_960),
    "qwen2.5-coder-32b-instruct-q5_k_m-00001-of-00003.gguf": ("qwen2.5-coder:*", "qwen", 32_768),
    "starcoder2-15b-instruct-v0.1.Q4_K_M.gguf": ("starcoder2:*", "starcoder", 16_384),
    "starcoder-15b.Q4_0.gguf": ("starcoder:*", "starcoder", 8192),
    "wizardcoder-python-34b-v1.0.Q4_K_M.gguf": ("wizardcoder:*", "wizardcoder", 16_384),
    "neural-chat-7b-v3-3.Q4_K_M.gguf": ("neural-chat:*", "neural-chat", 8192),
    "orca-2-7b.Q4_K_M.gguf": ("orca*", "", 4096),
    "vicuna-13b-v1.5.Q4_K_M.gguf": ("vicuna:*", "", 4096),
    "nomic-embed-text-v1.5.f16.gguf": ("*embed*", "", 512),
    "Qwen3-Reranker-0.6B-Q8_0.gguf": ("*rerank*", "", 512),
    "Llama-Guard-3-8B.Q4_K_M.gguf": ("llama-guard*", "guard", 8192),
}
# As ollama.com has them.
TAGS = ("llama3.1:8b", "codellama:13b", "deepseek-coder:33b", "gemma3:12b", "gpt-oss:20b",
        "granite3.3:2b", "mistral-small:24b", "qwen2.5-coder:7b", "starcoder2:15b", "orca2:7b",
        "ministral-3:8b", "llama2-uncensored:7b", "qwen3-vl:8b")  # fmt: skip


def model(stem: str = "thing", *, mmproj: str = "", **header: object) -> Model:
    """Return a model with this name and header."""
    location = Location(
        tier="ssd",
        path=f"/m/{stem}.gguf",
        shard_paths=(f"/m/{stem}.gguf",),
        mmproj_path=mmproj,
        size_bytes=1,
        mtime_ns=0,
    )
    return Model(
        id=stem,
        name=stem,
        size_bytes=1,
        header=Header(**header),  # type: ignore[arg-type]
        locations=(location,),
    )


@pytest.mark.parametrize("name", NAMES)
def test_find_row_knows_a_file_by_its_name(name: str) -> None:
    """People have files, and tables have names: without this no table ever applies."""
    row = find_row(canonical_names(name.partition("-00001")[0]), BUILT_IN)

    assert row is not None
    assert (row.pattern, row.family, row.context_tokens) == NAMES[name]


@pytest.mark.parametrize("name", TAGS)
def test_find_row_knows_names_with_tags(name: str) -> None:
    """The tables of others are written so."""
    assert find_row(canonical_names(name), BUILT_IN) is not None


def test_canonical_names_split_a_name_wherever_its_tag_may_begin() -> None:
    """No file says where."""
    assert canonical_names("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf") == (
        "llama3.1-8b-instruct:latest",
        "llama3.1-8b:instruct",
        "llama3.1:8b-instruct",
    )


@given(st.text(max_size=300))
def test_canonical_names_are_few_for_any_name(name: str) -> None:
    """A file may be called anything."""
    assert len(canonical_names(name)) <= 6


def test_find_row_takes_the_first_that_fits() -> None:
    """The order of a table is its author's word."""
    first, second = Row(pattern="a*", family="one"), Row(pattern="ab?:*", family="two")

    assert find_row(["abc:1"], (first, second)) is first
    assert find_row(["abc:1"], (second, first)) is second
    assert find_row(["xabc:1"], (first, second)) is None


def test_find_row_knows_no_brackets() -> None:
    """Only `*` and `?` mean anything; a bracket is a letter."""
    assert find_row(["a[b]:latest"], [Row(pattern="a[b]:*")]) is not None
    assert find_row(["ab:latest"], [Row(pattern="a[b]:*")]) is None


def test_facts_prefer_the_header_to_any_table() -> None:
    """A file knows its own context."""
    known = facts(
        model("llama3.1-8b", context_tokens=262_144), (Row(pattern="*", context_tokens=1),)
    )

    assert (known.context_tokens, known.context_source) == (262_144, "header")


def test_facts_prefer_the_users_table_to_the_built_in_one() -> None:
    """Who writes a table knows better than we do."""
    known = facts(model("llama3.1-8b"), (Row(pattern="llama3.1:*", context_tokens=1000),))

    assert (known.context_tokens, known.context_source) == (1000, "table")


def test_facts_of_an_unknown_model_are_safe() -> None:
    """Too little is refused in words; too much fails in the middle."""
    known = facts(model("whatever"))

    assert known.context_tokens == UNKNOWN_CONTEXT_TOKENS
    assert known.context_source == "default"
    assert (known.tools, known.vision, known.streaming) == (False, False, True)
    assert known.profiles == ("general",)


def test_facts_know_tools_by_the_template_where_there_is_one() -> None:
    """A table may promise what this file's template can't do, and the other way round."""
    assert not facts(model("llama3.1-8b", has_chat_template=True)).tools
    assert facts(model("codellama", has_chat_template=True, has_tool_template=True)).tools
    assert facts(model("llama3.1-8b")).tools, "without a template, the table says"
    assert facts(model("codellama", has_chat_template=True), any_template=True).tools


def test_facts_know_vision_by_the_projector() -> None:
    """Without one no picture can be read, whatever the table says."""
    assert not facts(model("gemma-3-4b-it")).vision
    assert facts(model("thing", mmproj="/m/mmproj.gguf")).vision


def test_facts_know_what_never_speaks() -> None:
    """Routing a question to an embedding model would answer it with an error."""
    assert not facts(model("mine", architecture="nomic-bert")).streaming
    assert not facts(model("bge-m3")).streaming


def test_facts_look_at_the_headers_name_where_the_files_says_nothing() -> None:
    """People rename files: `tool.gguf`."""
    assert facts(model("tool", name="Meta Llama 3.1 8B Instruct")).pattern == "llama3.1:*"


@pytest.mark.parametrize(
    ("architecture", "family"),
    [("llama", "llama"), ("qwen3moe", "qwen"), ("gemma3n", "gemma"), ("phi3", "phi"),
     ("starcoder2", "starcoder"), ("deepseek2", "deepseek"), ("gpt-oss", "gpt-oss"),
     ("command-r", "command-r"), ("", ""), ("123", "")],
)  # fmt: skip
def test_family_of_is_told_by_the_architecture(architecture: str, family: str) -> None:
    """A fine-tune with a name of its own still has the family of what it was made from."""
    assert family_of(Header(architecture=architecture)) == family


def test_facts_of_a_fine_tune_have_the_family_of_its_architecture() -> None:
    """Most models that people have are no row of any table."""
    tuned = model("dolphin-2.9-8b", architecture="llama")

    assert facts(tuned).family == "llama"
    assert facts(replace(tuned, name="phi-2")).family == "phi", "a name that is known wins"
