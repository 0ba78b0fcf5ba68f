"""What modelctl raises beside the errors of `modeld.errors`: the daemon's own refusals."""

from modeld.errors import ModeldError, Numbers


class Refusal(ModeldError):
    """The daemon answered that it won't, or that it went wrong."""

    def __init__(self, word: str, message: str, hint: str, numbers: Numbers) -> None:
        super().__init__(message, hint=hint)
        self.word = word
        """The daemon's code, perhaps one that this version does not know."""
        self.numbers = numbers


def word_of(error: ModeldError) -> str:
    """Return the code of an error, as it stands in JSON."""
    return error.word if isinstance(error, Refusal) else str(error.code)
