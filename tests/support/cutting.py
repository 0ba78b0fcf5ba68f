"""Bytes as a network may deliver them."""

from collections.abc import Iterator, Sequence
from itertools import pairwise


def cut(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """Give the bytes in pieces, cut at these places."""
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    for start, end in pairwise(edges):
        yield data[start:end]
