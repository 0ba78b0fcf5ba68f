"""Requests changed on their way to a server: by model, by variant, in each kind's own words."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeld.config.schema import Parameters, Rewrite
from modeld.gateway.http import Problem
from modeld.gateway.rewriting import apply, rewritten
from modeld.gateway.table import Wanted
from modeld.supervisor.door import Routes
from tests.support.fake_door import model

CHAT = "/v1/chat/completions"
COLD = Rewrite(set=Parameters(temperature=0.0))


def changed(body: str, *changes: Rewrite, path: str = CHAT) -> dict[str, object]:
    """Return a body after these changes, decoded."""
    found: dict[str, object] = json.loads(rewritten(body.encode(), path, changes))
    return found


def test_set_wins_over_the_request_and_default_does_not() -> None:
    """The two words of the configuration mean what they say."""
    rewrite = Rewrite(
        set=Parameters(temperature=0.5), default=Parameters(top_p=0.9, min_p=0.1, seed=7)
    )

    found = changed('{"temperature":1,"top_p":0.2,"seed":null}', rewrite)

    assert found == {"temperature": 0.5, "top_p": 0.2, "min_p": 0.1, "seed": 7}


def test_strip_comes_first() -> None:
    """A field that is stripped says nothing any more, so that a default may take its place."""
    rewrite = Rewrite(strip=("temperature", "logit_bias"), default=Parameters(temperature=0.3))

    assert changed('{"temperature":2,"logit_bias":{}}', rewrite) == {"temperature": 0.3}


def test_changes_are_made_one_after_the_other() -> None:
    """A variant has the last word over what holds for its model."""
    common = Rewrite(set=Parameters(temperature=0.5), default=Parameters(max_tokens=10))
    own = Rewrite(set=Parameters(temperature=0.1), default=Parameters(max_tokens=20))

    assert changed("{}", common, own) == {"temperature": 0.1, "max_tokens": 10}


def test_what_does_not_change_keeps_its_bytes() -> None:
    """Numbers and letters mean to a server what the client wrote, not what a decoder made of it."""
    body = b'{"model":"t","a":1.50,"b":"\\u00e4","messages":[ {"x":1e3} ]}'

    found = bytes(rewritten(body, CHAT, (COLD,)))

    assert b'"a":1.50,"b":"\\u00e4","messages":[ {"x":1e3} ]' in found
    assert found.endswith(b'"temperature":0.0}')


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (CHAT, "max_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/messages", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/completion", "n_predict"),
        ("/infill", "n_predict"),
    ],
)
@pytest.mark.parametrize(
    "asked", ["max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"]
)
def test_length_has_one_name_afterwards_whatever_it_was_called(
    path: str, name: str, asked: str
) -> None:
    """llama-server takes any of four, and n_predict over the others: two would be a way around."""
    rewrite = Rewrite(set=Parameters(max_tokens=5))

    assert changed(f'{{"{asked}":9000}}', rewrite, path=path) == {name: 5}
    asked_for_more = changed(
        f'{{"{asked}":9000}}', Rewrite(default=Parameters(max_tokens=5)), path=path
    )
    assert asked_for_more == {asked: 9000}


def test_anthropic_has_words_of_its_own_and_lacks_some() -> None:
    """What llama-server would ignore there is not sent, so that nobody reads it as obeyed."""
    rewrite = Rewrite(set=Parameters(stop=("end",), seed=1, min_p=0.5, temperature=0.2, top_k=3))

    found = changed('{"stop":["x"]}', rewrite, path="/v1/messages")

    assert found == {"stop_sequences": ["end"], "temperature": 0.2, "top_k": 3}


def test_thinking_goes_to_the_template_beside_what_it_is_told_already() -> None:
    """A client's other arguments for the template are its own."""
    forced = Rewrite(set=Parameters(enable_thinking=False))
    gentle = Rewrite(default=Parameters(enable_thinking=False))
    asked = '{"chat_template_kwargs":{"enable_thinking":true,"x":1}}'

    assert changed(asked, forced) == {"chat_template_kwargs": {"enable_thinking": False, "x": 1}}
    assert changed(asked, gentle) == json.loads(asked)
    assert changed("{}", gentle) == {"chat_template_kwargs": {"enable_thinking": False}}
    assert changed("{}", forced, path="/v1/completions") == {}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/v1/rerank"])
def test_what_generates_nothing_gets_no_parameters(path: str) -> None:
    """A tokenizer has no temperature; what is to be stripped is stripped all the same."""
    rewrite = Rewrite(set=Parameters(temperature=1, enable_thinking=True), strip=("user",))

    assert changed('{"input":"a","user":"b"}', rewrite, path=path) == {"input": "a"}


def test_a_model_without_changes_keeps_the_very_same_request() -> None:
    """Whoever configures nothing must not pay for it, nor see a byte moved."""
    wanted = Wanted(model="tiny", is_stream=False, path=CHAT, body=b'{ "a":1}')
    other = Routes(rewrites={"other": (COLD,)})

    assert apply(Routes(), "tiny", model("tiny"), wanted) is wanted
    assert apply(other, "tiny", model("tiny"), wanted) is wanted


def test_a_variant_is_changed_by_its_name_alone() -> None:
    """The model itself stays as it is for those who call it by its own name."""
    routes = Routes(rewrites={"cold": (COLD,)})
    wanted = Wanted(model="cold", is_stream=False, path=CHAT, body=b"{}")

    assert apply(routes, "cold", model("tiny"), wanted).body == b'{"temperature":0.0}'
    assert apply(routes, "tiny", model("tiny"), wanted) is wanted


def test_what_passes_as_it_is_is_not_changed() -> None:
    """A form is no JSON, and `/upstream` promises not to look."""
    routes = Routes(rewrites={"tiny": (COLD,)})
    wanted = Wanted(model="tiny", is_stream=False, path=CHAT, body=b"--x", is_verbatim=True)

    assert apply(routes, "tiny", model("tiny"), wanted) is wanted


def test_a_field_whose_name_is_no_text_is_refused() -> None:
    """A name that nobody reads passes the first look, and the server would refuse it."""
    with pytest.raises(Problem) as caught:
        rewritten(b'{"model":"tiny","\xff":1}', CHAT, (COLD,))

    assert caught.value.status == 400


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["model", "stop", "top_k", "n_predict", "é"]), _VALUES))
def test_only_the_named_fields_ever_change(body: dict[str, object]) -> None:
    """Whatever a client sends, what the configuration does not speak of passes."""
    rewrite = Rewrite(set=Parameters(top_k=4), strip=("stop",))

    found = changed(json.dumps(body), rewrite)

    assert found.pop("top_k") == 4
    kept = {name: value for name, value in body.items() if name not in {"top_k", "stop"}}
    assert found == kept
