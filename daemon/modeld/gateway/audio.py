"""
Speech to text: OpenAI's form with a sound, passed on to the server of the model that it names.

llama-server answers where the model hears, and says so where it does not.  Which fields it makes
parameters of, nobody has written down: those of OpenAI's API pass, and no other.
"""

from typing import Final

from modeld.gateway import forms
from modeld.gateway.http import Problem
from modeld.gateway.openai import OPENAI
from modeld.gateway.table import Call, Relayed, Row, Wanted

PATH: Final = "/v1/audio/transcriptions"
_FIELDS: Final = frozenset(
    (
        "file",
        "model",
        "language",
        "prompt",
        "response_format",
        "temperature",
        "stream",
        "include[]",
        "timestamp_granularities[]",
        "chunking_strategy",
    )
)


def to_transcription(call: Call) -> Wanted:
    """
    Return what has a sound transcribed.

    Raises:
        Problem: 415 or 400, it is no such form.
    """
    form = forms.read(call.head.headers.get(b"content-type", b""), call.body)
    unknown = sorted({*form.texts, *form.files} - _FIELDS)
    if unknown:
        raise Problem(400, f"there is no field '{unknown[0]}' in a transcription")
    if form.files != ("file",):
        raise Problem(400, "a transcription has one file, whose field is 'file'")
    return Wanted(
        model=form.text("model"),
        is_stream=form.text("stream") in {"true", "1"},
        path=PATH,
        body=call.body,
        content_type=form.content_type,
        is_verbatim=True,
    )


ROWS = (Row(method="POST", path=PATH, dialect=OPENAI, action=Relayed(to_transcription)),)
