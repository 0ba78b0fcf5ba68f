"""
Copies models between tiers, and removes copies that modeld made: the `Copier` port.

    copier    the port; one thread a copy, one a tier
      job       one copy from its order to its end
        source    reads, and leaves the page cache as it was, or full
        sink      writes past the page cache, and sums up
        pipe      between the two
        disks     whose turn it is to read
        publish   all files become visible, or none
      errands   measure, tidy, remove, verify
        ledger    what modeld made
        tier      a folder that nothing leads out of
"""

from modeld.host.copy.copier import FileCopier
from modeld.host.copy.read_ahead import PageReader

__all__ = ["FileCopier", "PageReader"]
