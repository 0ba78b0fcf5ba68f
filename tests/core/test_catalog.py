"""Which models a set of files is."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.catalog import build_catalog
from modeld.core.entities import FoundFile, Header, Model

TIERS = ("ssd", "hdd1", "hdd2")
HEADER = Header(
    architecture="qwen3",
    name="Qwen3",
    parameters=8_000_000_000,
    quantisation="Q4_K_M",
    context_tokens=40960,
    tensor_count=399,
    tensor_bytes=900,
    extent_bytes=1000,
)


def found(
    tier: str, relative_path: str, size_bytes: int = 1000, header: Header | None = HEADER
) -> FoundFile:
    """Make a file as a scan reports it."""
    return FoundFile(
        tier=tier,
        path=f"/{tier}/{relative_path}",
        relative_path=relative_path,
        size_bytes=size_bytes,
        mtime_ns=size_bytes,
        header=header,
        problem="" if header is not None else "it is not a GGUF file",
    )


def shard(index: int, count: int, *, first: Header = HEADER) -> Header:
    """Make the header of one shard."""
    own = first if index == 0 else Header(tensor_count=1, quantisation="Q4_K")
    return Header(
        architecture=own.architecture,
        name=own.name,
        quantisation=own.quantisation,
        context_tokens=own.context_tokens,
        parameters=100 + index,
        tensor_count=10,
        tensor_bytes=50,
        extent_bytes=60,
        shard_count=count,
        shard_index=index,
    )


def shards(tier: str, stem: str, count: int) -> Iterator[FoundFile]:
    """Make all shards of a model."""
    for index in range(count):
        name = f"{stem}-{index + 1:05d}-of-{count:05d}.gguf"
        yield found(tier, name, 100 + index, shard(index, count))


def only(*files: FoundFile) -> Model:
    """Return the one model that the files are."""
    catalog = build_catalog(files, TIERS)
    assert catalog.problems == ()
    (model,) = catalog.models.values()
    return model


def test_model_is_known_by_its_path_without_extension() -> None:
    """State is kept under this id for years."""
    model = only(found("hdd1", "qwen/Qwen3-8B-Q4_K_M.gguf"))
    assert (model.id, model.name) == ("qwen/Qwen3-8B-Q4_K_M", "Qwen3-8B-Q4_K_M")
    assert model.aliases == ()
    assert model.location.path == "/hdd1/qwen/Qwen3-8B-Q4_K_M.gguf"
    assert model.location.shard_paths == ("/hdd1/qwen/Qwen3-8B-Q4_K_M.gguf",)
    assert (model.size_bytes, model.location.mtime_ns) == (1000, 1000)


def test_copies_on_several_tiers_are_one_model_with_locations_in_look_up_order() -> None:
    """The SSD is what copies are made for."""
    model = only(found("hdd2", "m.gguf"), found("ssd", "m.gguf"), found("hdd1", "m.gguf"))
    assert [location.tier for location in model.locations] == ["ssd", "hdd1", "hdd2"]


def test_copy_at_another_path_is_the_same_model_and_its_path_an_alias() -> None:
    """People sort each disk their own way."""
    model = only(found("hdd1", "qwen/m.gguf"), found("ssd", "m.gguf"))
    assert model.id == "qwen/m"
    assert model.aliases == ("m",)
    assert model.location.path == "/ssd/m.gguf"


def test_id_stays_when_the_copy_on_the_ssd_comes_and_goes() -> None:
    """Statistics and nicknames would be lost with every promotion."""
    on_hdd = found("hdd1", "qwen/m.gguf")
    assert only(on_hdd).id == only(on_hdd, found("ssd", "cache/m.gguf")).id


@pytest.mark.parametrize(
    "other",
    [
        found("ssd", "m.gguf", 999),
        found("ssd", "m.gguf", 1000, Header(architecture="llama", tensor_count=1)),
    ],
)
def test_same_path_with_other_content_is_another_model_with_a_qualified_id(
    other: FoundFile,
) -> None:
    """Two models under one id would share statistics, and one could never be loaded."""
    catalog = build_catalog([other, found("hdd1", "m.gguf")], TIERS)
    assert {model.id: model.location.tier for model in catalog.models.values()} == {
        "m": "hdd1",
        "ssd:m": "ssd",
    }
    assert {model.name for model in catalog.models.values()} == {"m"}


def test_same_name_in_two_folders_of_one_tier_is_two_models() -> None:
    """`ggml-model-Q4_K_M.gguf` is the name of thousands of models."""
    catalog = build_catalog([found("hdd1", "a/m.gguf"), found("hdd1", "b/m.gguf")], TIERS)
    assert sorted(catalog.models) == ["a/m", "b/m"]


def test_copy_belongs_to_the_twin_with_the_same_path() -> None:
    """Two tunings of one model have the same name, size and shape."""
    files = [found("hdd1", "a/m.gguf"), found("hdd1", "b/m.gguf"), found("ssd", "b/m.gguf")]
    catalog = build_catalog(files, TIERS)
    assert [location.tier for location in catalog.models["a/m"].locations] == ["hdd1"]
    assert [location.tier for location in catalog.models["b/m"].locations] == ["ssd", "hdd1"]


def test_copy_of_one_of_two_twins_is_its_own_model_when_nobody_can_tell() -> None:
    """Serving the wrong weights is worse than not using a copy."""
    files = [found("hdd1", "a/m.gguf"), found("hdd1", "b/m.gguf"), found("ssd", "m.gguf")]
    assert sorted(build_catalog(files, TIERS).models) == ["a/m", "b/m", "m"]


def test_alias_that_is_another_models_id_is_dropped() -> None:
    """An id means one model, whatever else was once called so."""
    files = [
        found("hdd1", "a/m.gguf"),
        found("ssd", "b/m.gguf"),
        found("hdd2", "b/m.gguf", 5),
    ]
    catalog = build_catalog(files, TIERS)
    assert catalog.models["a/m"].aliases == ()
    assert catalog.models["b/m"].size_bytes == 5


def test_complete_shards_are_one_model_with_summed_numbers() -> None:
    """Each shard alone is a fragment; together they are what people call the model."""
    model = only(*shards("hdd1", "big/m", 3))
    assert model.id == "big/m"
    assert model.size_bytes == 100 + 101 + 102
    assert model.header.parameters == 303
    assert model.header.tensor_bytes == 150
    assert (model.header.architecture, model.header.quantisation) == ("qwen3", "Q4_K_M")
    assert model.location.path == "/hdd1/big/m-00001-of-00003.gguf"
    assert len(model.location.shard_paths) == 3


def test_incomplete_shards_are_a_problem_that_names_what_is_missing() -> None:
    """A download of nine files that stopped at the fifth must say so."""
    files = list(shards("hdd1", "m", 4))
    catalog = build_catalog([files[0], files[2]], TIERS)
    assert catalog.models == {}
    assert catalog.problems == (
        "/hdd1/m-00001-of-00004.gguf: of its 4 shards, 2, 4 are missing or unusable",
    )


def test_problem_of_many_missing_shards_stays_short() -> None:
    """A file may claim 65,535 of them."""
    catalog = build_catalog([next(shards("hdd1", "m", 60_000))], TIERS)
    assert len(catalog.problems[0]) < 200


def test_shard_whose_name_contradicts_its_header_is_a_problem() -> None:
    """llama.cpp makes up the names of the other shards from the header."""
    file = found("hdd1", "renamed.gguf", 100, shard(0, 3))
    (problem,) = build_catalog([file], TIERS).problems
    assert "-00001-of-00003.gguf" in problem


def test_lone_file_with_a_shard_suffix_is_a_model() -> None:
    """The header decides: llama.cpp loads it."""
    assert only(found("hdd1", "m-00001-of-00002.gguf")).id == "m-00001-of-00002"


def test_file_and_shards_of_one_name_get_two_ids() -> None:
    """Somebody merged the shards and kept them."""
    catalog = build_catalog([found("hdd1", "m.gguf"), *shards("hdd1", "m", 2)], TIERS)
    assert sorted(catalog.models) == ["m", "m-00001-of-00002"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "it is not a GGUF file"),
        (Header(architecture="llama", kind="adapter", tensor_count=1), "adapter"),
        (Header(tensor_count=1), "architecture"),
        (Header(architecture="llama"), "no tensors"),
    ],
)
def test_unusable_file_is_a_problem_and_no_model(header: Header | None, reason: str) -> None:
    """It would be offered, chosen, and fail to load."""
    catalog = build_catalog([found("hdd1", "m.gguf", header=header)], TIERS)
    assert catalog.models == {}
    (problem,) = catalog.problems
    assert problem.startswith("/hdd1/m.gguf: ")
    assert reason in problem


def test_files_of_tiers_that_are_not_configured_are_left_out() -> None:
    """A scan that began before a reload may report them."""
    assert build_catalog([found("hdd9", "m.gguf")], TIERS).models == {}


PROJECTOR = Header(architecture="clip", kind="mmproj", tensor_count=1, quantisation="F16")


def projector_of(model: str, *files: str) -> str:
    """Return which of the projectors in `files`, all on one tier, a model gets."""
    catalog = build_catalog(
        [
            found("hdd1", name, header=PROJECTOR if "mmproj" in name else HEADER)
            for name in (f"{model}.gguf", *files)
        ],
        TIERS,
    )
    assert not any("mmproj" in model_id for model_id in catalog.models)
    return catalog.models[model].location.mmproj_path.removeprefix("/hdd1/")


def test_only_model_of_a_folder_gets_its_projector() -> None:
    """`mmproj-F16.gguf` is how most repositories call it."""
    assert projector_of("a/gemma-3-12b-it-Q4_K_M", "a/mmproj-F16.gguf") == "a/mmproj-F16.gguf"
    assert projector_of("gemma", "mmproj-model-f16.gguf") == "mmproj-model-f16.gguf"


def test_every_quantisation_in_a_folder_gets_the_projector() -> None:
    """They are one model."""
    names = ("a/gemma-3-12b-it-Q8_0.gguf", "a/mmproj-F16.gguf")
    assert projector_of("a/gemma-3-12b-it-Q4_K_M", *names) == "a/mmproj-F16.gguf"


def test_models_of_one_folder_get_the_projector_of_their_name() -> None:
    """A flat folder has many of both."""
    files = (
        "gemma-3-4b-it-Q8_0.gguf",
        "Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf",
        "mmproj-gemma-3-12b-it-f16.gguf",
        "mmproj-gemma-3-4b-it-f16.gguf",
        "Qwen2.5-VL-7B-Instruct-mmproj-f16.gguf",
    )
    assert projector_of("gemma-3-12b-it-Q4_K_M", *files) == "mmproj-gemma-3-12b-it-f16.gguf"
    assert projector_of("gemma-3-4b-it-Q4_K_M", *files) == "mmproj-gemma-3-4b-it-f16.gguf"
    model = "Qwen2.5-VL-7B-Instruct-Q8_0"
    assert projector_of(model, *files) == "Qwen2.5-VL-7B-Instruct-mmproj-f16.gguf"


@pytest.mark.parametrize(
    ("model", "projector"),
    [
        ("gemma-3-4b-it-Q8_0", "mmproj-gemma-3-27b-it.gguf"),
        ("qwen-3-8b-Q8_0", "mmproj-gemma-3-8b.gguf"),
        ("LongFamilyName-13B", "mmproj-LongFamilyName-7B.gguf"),
        ("phi-4", "other/mmproj-phi-4.gguf"),
    ],
)
def test_projector_of_another_model_is_not_taken(model: str, projector: str) -> None:
    """llama-server refuses to start with it, and the model could not be used at all."""
    assert projector_of(model, "llama-3-8b.gguf", projector) == ""


def test_projector_by_name_alone_is_no_model() -> None:
    """Files that do not say what they are go by their name."""
    files = [found("hdd1", "x-MMPROJ.gguf"), found("hdd1", "m.gguf", 5)]
    assert list(build_catalog(files, TIERS).models) == ["m"]


def test_f16_is_the_preferred_type_of_a_projector() -> None:
    """BF16 is slow or missing on many devices, F32 twice the size."""
    files = [found("hdd1", "a/m.gguf")]
    for kind in ("BF16", "F16", "F32"):
        header = Header(architecture="clip", kind="mmproj", tensor_count=1, quantisation=kind)
        files.append(found("hdd1", f"a/mmproj-{kind}.gguf", header=header))
    assert only(*files).location.mmproj_path == "/hdd1/a/mmproj-F16.gguf"


def test_copy_without_a_projector_uses_the_one_of_another_tier() -> None:
    """A copied model must not lose its eyes."""
    model = only(
        found("ssd", "a/m.gguf"),
        found("hdd1", "a/m.gguf"),
        found("hdd1", "a/mmproj-F16.gguf", header=PROJECTOR),
    )
    assert {location.mmproj_path for location in model.locations} == {"/hdd1/a/mmproj-F16.gguf"}


def test_each_tier_uses_its_own_projector() -> None:
    """The SSD's is read faster."""
    model = only(
        *(found(tier, "a/m.gguf") for tier in ("ssd", "hdd1")),
        *(found(tier, "a/mmproj-F16.gguf", header=PROJECTOR) for tier in ("ssd", "hdd1")),
    )
    assert [location.mmproj_path for location in model.locations] == [
        "/ssd/a/mmproj-F16.gguf",
        "/hdd1/a/mmproj-F16.gguf",
    ]


FILES = st.builds(
    found,
    st.sampled_from(TIERS),
    st.sampled_from(["m", "a/m", "b/m", "m-00001-of-00002", "m-00002-of-00002", "ssd:m"]).map(
        lambda stem: f"{stem}.gguf"
    ),
    st.sampled_from([1, 2]),
    st.sampled_from([HEADER, shard(0, 2), shard(1, 2), PROJECTOR, None]),
)


@given(st.lists(FILES, unique_by=lambda file: file.path))
def test_every_file_is_told_once_and_order_does_not_matter(files: list[FoundFile]) -> None:
    """A file that is neither offered nor complained about is lost; an order is an accident."""
    catalog = build_catalog(files, TIERS)
    assert all(model_id == model.id for model_id, model in catalog.models.items())
    used = [
        path
        for model in catalog.models.values()
        for location in model.locations
        for path in location.shard_paths
    ]
    assert len(used) == len(set(used))
    for model in catalog.models.values():
        tiers = [location.tier for location in model.locations]
        assert tiers == sorted(set(tiers), key=TIERS.index)
    shuffled = random.Random(0).sample(files, len(files))
    assert build_catalog(shuffled, TIERS) == catalog
