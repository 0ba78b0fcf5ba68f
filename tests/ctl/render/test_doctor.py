"""How findings are drawn."""

from modelctl.render.doctor import Finding, findings_text
from modelctl.render.screen import Screen

FINDINGS = (
    Finding("daemon", "ok", "it runs"),
    Finding("linger", "warning", "it is off\nand more", "loginctl enable-linger"),
    Finding("keys", "failure", "evil\x1b[2J", "chmod 600 keys"),
)


def test_findings_have_a_mark_a_word_and_a_cure_on_a_terminal() -> None:
    """Colour alone tells nothing to many people, and a file's name must not drive the terminal."""
    text = findings_text(FINDINGS, Screen(terminal=True))

    assert text == (
        "● ok       daemon         it runs\n"
        "◐ warning  linger         it is off\n"
        "                          and more\n"
        "                          cure: loginctl enable-linger\n"
        "✖ failure  keys           evil\\x1b[2J\n"
        "                          cure: chmod 600 keys\n"
        "1 ok, 1 warning, 1 failure\n"
    )


def test_findings_are_coloured_by_their_state() -> None:
    """Red is looked at first."""
    text = findings_text(FINDINGS, Screen(terminal=True, colour=True))
    assert "\x1b[97;41mfailure\x1b[0m" in text
    assert "\x1b[33mwarning\x1b[0m" in text


def test_findings_are_four_columns_in_a_pipe() -> None:
    """One line each, whatever they say."""
    lines = findings_text(FINDINGS, Screen()).splitlines()
    assert [line.split("\t") for line in lines] == [
        ["ok", "daemon", "it runs", "-"],
        ["warning", "linger", "it is off; and more", "loginctl enable-linger"],
        ["failure", "keys", "evil\\x1b[2J", "chmod 600 keys"],
    ]
