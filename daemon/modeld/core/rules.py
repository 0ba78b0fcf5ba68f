"""
What the words of a message tell: whether a rule fits, and whether it is code or short.

Rules are regular expressions of RE2's syntax, found anywhere, in the letters as they are.  RE2
takes time in proportion to the text whatever the pattern, so nothing that somebody writes into a
configuration or a prompt can hold everybody up; it has no look-around and no back-references for
that.  Nothing is remembered here, and no message is kept.
"""

from collections.abc import Callable, Iterator

CODE_WORDS = (
    "code", "function", "implement", "debug", "class", "def ", "fn ", "const ", "let ", "var ",
    "import ", "async ", "await ", "refactor", "bug", "error", "syntax",
)  # fmt: skip
"""Any of them, in any letters, is talk of programs; parts of words count (`classic`)."""
SHORT_LETTERS = 100
MAX_TEXT_LETTERS = 32 * 1024
"""Of a longer message, the first and the last half of that is looked at."""

Matcher = Callable[[bytes], bool]


def compiled(pattern: str) -> Matcher:
    """
    Return what tells whether a text, in UTF-8, fits a pattern somewhere.

    Raises:
        ValueError: It is none; the message says why, and where.
    """
    import re2  # noqa: PLC0415 (takes 6 ms, and most have no rules)

    options = re2.Options()
    options.log_errors = False
    try:
        expression = re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(_placed(pattern, error.args[0])) from None
    return lambda text: expression.search(text) is not None


def _placed(pattern: str, told: object) -> str:
    """Return RE2's complaint with the place of what it complains of."""
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    about, _, fragment = text.partition(": ")
    at = pattern.find(fragment)
    return f"{about} at letter {at + 1}: {fragment}" if fragment and at >= 0 else text


def bounded(text: str) -> str:
    """Return as much of a message as is looked at: a long one's beginning and end."""
    if len(text) <= MAX_TEXT_LETTERS:
        return text
    half = MAX_TEXT_LETTERS // 2
    return f"{text[:half]}\n{text[-half:]}"


def heuristics(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the roles that suit a message, the most fitting first: role, route, why."""
    lower = text.lower()
    word = next((each for each in CODE_WORDS if each in lower), "")
    if word:
        yield "code", "heuristic:code", f"the message has '{word.strip()}'"
    if len(text) < SHORT_LETTERS:
        yield "fast", "heuristic:short", f"the message has {len(text)} letters, under 100"
    yield "primary", "default", "neither code nor short"
