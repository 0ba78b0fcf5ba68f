"""
One change of the user's file: checked in whole by modeld, written, and applied where modeld runs.

What the change is, and what is told of it, is up to the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeld.wire.configuration import CheckConfig, ConfigChecked
from modeld.wire.daemon import Reload, Reloaded

if TYPE_CHECKING:
    from modelctl.questions import Questions
    from modelctl.session import Session
    from modelctl.user_file import UserFile


def check(
    questions: Questions, file: UserFile, text: str, *, key: str = ""
) -> ConfigChecked | None:
    """
    Return what another text would do, None where it is the same one; nothing is changed.

    Args:
        questions: Whom to ask.
        file: The file as it was read.
        text: What would stand in it.
        key: A setting of which modeld is to say where it would be set.

    Raises:
        ModeldError: modeld would not take it.
    """
    if text == file.text:
        return None
    return questions.ask(CheckConfig(path=file.path, text=text, key=key), ConfigChecked)


def write(session: Session, file: UserFile, text: str, *, is_applied: bool) -> Reloaded | None:
    """
    Put a text that was checked into the file; return what modeld made of it, if it was told.

    Raises:
        ModeldError: The disk would not take it, or modeld went wrong.
    """
    file.replace(text)
    return session.ask(Reload(), Reloaded) if is_applied else None
