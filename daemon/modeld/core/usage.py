"""
What requests cost, and what the models gave for it: counted by model.

Pure sums of what the gateway measured and what the servers themselves reported.  Nothing here
reads an answer, and nothing is guessed where a server did not say.
"""

from msgspec import Struct


class Figures(Struct, frozen=True, kw_only=True):
    """What one request to a model cost."""

    waited_seconds: float = 0.0
    """For its model to be loaded."""
    was_ready: bool = True
    """Whether the model was loaded when it came."""
    first_byte_seconds: float = 0.0
    """From the request's sending to the first byte of the answer's body."""
    seconds: float = 0.0
    """From the request's coming to the answer's end."""
    prompt_tokens: int = 0
    """As the server's final report says, cached ones included; 0 where it says nothing."""
    cached_tokens: int = 0
    generated_tokens: int = 0
    generation_seconds: float = 0.0
    is_failed: bool = False
