"""`core.estimate`: what llama-fit-params is asked, and what its answer means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeld.core.entities import Binary
from modeld.core.estimate import parse_answer, question
from modeld.core.fit import Told

MIB = 1024**2
TOOL = Binary(
    argv=("/llama-server",),
    estimator="/llama-fit-params",
    flags={
        **dict.fromkeys(("-ctk", "--temp", "-np", "-md", "-ngl", "-fa"), True),
        "-nkvo": False,
    },
)
GOOD = "CUDA0 7401 814 517 \nHost 1280 0 154 \n"


def test_question_has_what_matters_and_nothing_that_the_tool_refuses() -> None:
    """It ends with an error at an option that it does not know: -np, --mmproj, -md."""
    asked = ("-ctk", "q8_0", "--temp", "1", "-np", "2", "-md", "/d.gguf", "-ngl", "20", "-nkvo")

    assert question("/m.gguf", 8192, asked, TOOL) == (
        "/llama-fit-params", "-m", "/m.gguf", "-c", "8192", "-fit", "off", "--fit-print", "on",
        "-ctk", "q8_0", "-ngl", "20", "-nkvo",
    )  # fmt: skip


def test_question_is_none_without_flash_attention() -> None:
    """The tool aborts; the formula knows."""
    assert question("/m.gguf", 8192, ("-fa", "off"), TOOL) == ()


def test_answer_is_mebibytes_of_each_device() -> None:
    """GPUs in the engine's order, the machine's own memory last."""
    assert parse_answer(GOOD) == (
        Told("CUDA0", 7401 * MIB, 814 * MIB, 517 * MIB),
        Told("Host", 1280 * MIB, 0, 154 * MIB),
    )
    assert parse_answer("Host 9 1 1") == (Told("Host", 9 * MIB, MIB, MIB),)


@pytest.mark.parametrize(
    "text",
    [
        "", "Host", "Host 1 2", "Host 1 2 -3 ", "Host 1 2 3 4", "Host 0 0 0 ",
        "CUDA0 1 2 3 \n", "Host 1 2 3 \nCUDA0 1 2 3 \n", "Host 1 1 1 \nHost 1 1 1 \n",
        "CUDA0 1 1 1 \nCUDA0 1 1 1 \nHost 1 1 1 \n", f"loading\n{GOOD}", "-c 4096 -ngl 99\n",
        "Host 9999999999 1 1", "Host 1 1 1\n" * 100,
    ],
)  # fmt: skip
def test_answer_of_any_other_form_is_none(text: str) -> None:
    """Half an answer would be booked as the whole."""
    assert parse_answer(text) == ()


@given(st.text(alphabet="Host CUDA0123456789\n -", max_size=80))
def test_answer_of_anything_is_devices_or_nothing(text: str) -> None:
    """A program of somebody else prints what it likes."""
    told = parse_answer(text)

    assert not told or told[-1].device == "Host"
