"""Forms, read in the one way that there is."""

import contextlib
import email
from email.policy import HTTP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.gateway.forms import MAX_PARTS, MAX_TEXT_BYTES, Form, read
from modeld.gateway.http import Problem

TYPE = b"multipart/form-data; boundary=cut"


def part(name: str, content: bytes = b"x", more: str = "") -> bytes:
    """Return one part, with its delimiter before it."""
    head = f'Content-Disposition: form-data; name="{name}"{more}'.encode()
    return b"--cut\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def file(name: str = "file", content: bytes = b"RIFF") -> bytes:
    """Return one file, as clients send it."""
    return part(name, content, '; filename="a.wav"\r\nContent-Type: audio/wav')


END = b"--cut--\r\n"


def refused(content_type: bytes, body: bytes) -> int:
    """Return the status with which a form is refused."""
    with pytest.raises(Problem) as caught:
        read(content_type, body)
    return caught.value.status


def test_fields_and_files_are_told_apart() -> None:
    """A model's name is a text, a sound is not."""
    form = read(TYPE, part("model", b"tiny") + file() + part("a[]", b"1") + part("a[]", b"2") + END)

    assert form.text("model") == "tiny"
    assert form.text("language") == ""
    assert form.files == ("file",)
    assert form.texts["a[]"] == ("1", "2")
    assert form.content_type == TYPE.decode()


@pytest.mark.parametrize(
    ("content_type", "passed_on"),
    [
        (b'Multipart/Form-Data;boundary="cut"', "multipart/form-data; boundary=cut"),
        (b"multipart/form-data ; boundary=cut", "multipart/form-data; boundary=cut"),
    ],
)
def test_type_is_passed_on_in_one_spelling(content_type: bytes, passed_on: str) -> None:
    """What a client writes into a header never reaches a server as it is."""
    assert read(content_type, file() + END).content_type == passed_on


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"",
        b"multipart/mixed; boundary=cut",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=cut; boundary=other",
        b"multipart/form-data; boundary=cut; charset=x",
        b'multipart/form-data; boundary="cut',
        b"multipart/form-data; boundary=c ut",
        b"multipart/form-data; boundary=" + b"x" * 71,
    ],
)
def test_type_with_another_meaning_is_refused(content_type: bytes) -> None:
    """Two readers must not find two boundaries."""
    assert refused(content_type, file() + END) == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--cut",
        file(),
        file() + b"--cut-",
        b"preamble\r\n" + file() + END,
        file() + END + b"epilogue",
        file() + b"--cut--\r\n\r\n",
        file().replace(b"\r\n", b"\n") + b"--cut--",
        part("file", b"a\r\n--cutter\r\nb") + END,
        part("file", b"a\n--cut\nb") + END,
        b"--cut\r\n\r\nno head\r\n" + END,
        b"--cut\r\n--cut--\r\n",
        b"--cut  \r\n" + file()[7:] + END,
        part("model", b"a", "\r\nX-Other: 1") + END,
        part("model", b"a", "\r\nContent-Disposition: form-data; name=other") + END,
        part("model", b"a", "; name=other") + END,
        part("mo\\del") + END,
        part("") + END,
        part("model", b"a", '; filename="a\\"b"') + END,
        part("model", b"a", "\r\n folded: x") + END,
        part("model", b"\xff") + END,
        part("prompt", b"x" * (MAX_TEXT_BYTES + 1)) + END,
        part("a", b"x", "\r\nContent-Type: " + "x" * 5000) + END,
        file() + file() + END,
        part("a") * (MAX_PARTS + 1) + END,
    ],
)
def test_form_that_two_readers_could_cut_differently_is_refused(body: bytes) -> None:
    """What the gateway looked at has to be what the server sees."""
    assert refused(TYPE, body) == 400


def test_text_that_is_given_twice_or_as_a_file_is_refused() -> None:
    """The server may take the other one."""
    for body in (part("model") + part("model"), file("model")):
        form = read(TYPE, body + file() + END)
        with pytest.raises(Problem, match="more than one text for 'model'"):
            form.text("model")


def test_file_may_have_any_bytes_but_the_boundary() -> None:
    """A sound is no text."""
    content = bytes(range(256)) * 100 + b"\r\n--\r\n--cu\r\n\r\n"

    assert read(TYPE, file(content=content) + END).files == ("file",)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["model", "prompt", "b"]), st.binary(max_size=20))))
def test_what_is_read_is_what_pythons_own_reader_finds(fields: list[tuple[str, bytes]]) -> None:
    """A reader of another kind is the best witness that there is one meaning."""
    body = b"".join(part(name, content) for name, content in fields) + file() + END
    try:
        form: Form | None = read(TYPE, body)
    except Problem:
        return
    assert form is not None
    message = email.message_from_bytes(b"Content-Type: " + TYPE + b"\r\n\r\n" + body, policy=HTTP)
    found: dict[str, list[bytes]] = {}
    for each in message.iter_parts():
        name = str(each.get_param("name", header="content-disposition"))
        if each.get_filename() is None:
            found.setdefault(name, []).append(each.get_payload(decode=True))
    ours = {name: [text.encode() for text in texts] for name, texts in form.texts.items()}
    assert ours.keys() == found.keys()
    assert {name: len(texts) for name, texts in ours.items()} == {
        name: len(texts) for name, texts in found.items()
    }


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_nonsense_is_refused_and_nothing_else_happens(data: bytes) -> None:
    """Whoever sends bytes gets a status, never an exception."""
    for body in (data, b"--cut\r\n" + data, b"--cut\r\n" + data + b"\r\n" + END):
        with contextlib.suppress(Problem):
            read(TYPE, body)
