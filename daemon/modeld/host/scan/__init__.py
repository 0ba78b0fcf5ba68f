"""
Finds model files on this machine: the `Scanner` port.

    scanner   one scan at a time, in threads; `FilesFound`
    walk        folders -> files
    headers     files -> headers: remembered, or
    worker        read in a process of its own
"""

from modeld.host.scan.scanner import FileScanner

__all__ = ["FileScanner"]
