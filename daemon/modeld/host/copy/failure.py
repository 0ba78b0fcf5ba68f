"""Why a copy ends early: the reason that `CopyEnded` carries, and a sentence."""

import errno

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.ESTALE}
_REFUSED = {errno.EEXIST, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ}


class CopyFailed(Exception):
    """A copy can't go on."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        """
        `no-space`, `source-changed`, `read-only`, `missing`, `io`, or `refused`: a name is taken or
        leads elsewhere, or the folder is one that others can change.
        """
        self.sentence = sentence


def of_source(error: OSError, path: str) -> CopyFailed:
    """Return what an error of the file that is read means."""
    if error.errno in _MISSING:
        return CopyFailed("missing", f"{path} is not there any more")
    return CopyFailed("io", f"{path} can't be read: {error.strerror}")


def of_target(error: OSError, path: str) -> CopyFailed:
    """Return what an error of the folder that is written to means."""
    if error.errno in _NO_SPACE:
        return CopyFailed("no-space", f"there is no room below {path}: {error.strerror}")
    if error.errno in _READ_ONLY:
        return CopyFailed("read-only", f"{path} can't be written to: {error.strerror}")
    if error.errno in _MISSING:
        return CopyFailed("missing", f"{path} is not there: {error.strerror}")
    if error.errno in _REFUSED:
        return CopyFailed("refused", f"{error.filename or path}: {error.strerror}")
    return CopyFailed("io", f"writing below {path} failed: {error.strerror}")
