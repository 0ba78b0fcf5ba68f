"""
What other caches would do with the same SSD: LRU, LFU, GDSF and Sieve.

Yardsticks for `compare`, never used by the daemon.  All copy at every miss and expire whatever
their rule says, whether it runs or not, as caches of small objects do; a model that is larger
than the SSD passes by.  Each is the textbook's rule for objects of different size:

    lru        what was not used for the longest time goes
    lfu        what was used least often goes, counted over the whole history
    gdsf       the lowest L + uses / size goes, L being what the last one had
    gdsf-cost  the same with the seconds of a load as cost, so that the size cancels: L + uses
    sieve      a hand walks from the oldest to the newest and takes the first that was not used
               since it last came by
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from modeld.core.replay import Access, Cache, Load


class _Filled:
    """What all of them share: a model that misses is copied after enough others went."""

    def __init__(self, sizes_bytes: Mapping[str, int], total_bytes: int) -> None:
        self._sizes = sizes_bytes
        self._total_bytes = total_bytes
        self._used_bytes = 0
        self._residents: OrderedDict[str, None] = OrderedDict()

    def access(self, load: Load) -> Access:
        """Serve one load."""
        model_id = load.model_id
        self._used(model_id)
        if model_id in self._residents:
            self._hit(model_id)
            return Access(hit=True)
        size = self._sizes[model_id]
        if size > self._total_bytes:
            return Access(hit=False)
        expired = []
        while self._used_bytes + size > self._total_bytes:
            victim = self._victim()
            del self._residents[victim]
            self._used_bytes -= self._sizes[victim]
            expired.append(victim)
        self._residents[model_id] = None
        self._used_bytes += size
        self._copied(model_id)
        return Access(hit=False, written=(model_id,), expired=tuple(expired))

    def _used(self, model_id: str) -> None:
        """Note a use, whatever comes of it."""

    def _hit(self, model_id: str) -> None:
        """Note a use of a resident."""

    def _copied(self, model_id: str) -> None:
        """Note a new resident."""

    def _victim(self) -> str:
        """Return the resident to go."""
        raise NotImplementedError


class Lru(_Filled):
    """Least recently used."""

    def _hit(self, model_id: str) -> None:
        self._residents.move_to_end(model_id)

    def _victim(self) -> str:
        return next(iter(self._residents))


class Lfu(Lru):
    """Least frequently used, and of those the least recently used."""

    def __init__(self, sizes_bytes: Mapping[str, int], total_bytes: int) -> None:
        super().__init__(sizes_bytes, total_bytes)
        self._uses: dict[str, int] = {}

    def _used(self, model_id: str) -> None:
        self._uses[model_id] = self._uses.get(model_id, 0) + 1

    def _victim(self) -> str:
        return min(self._residents, key=self._uses.__getitem__)


class Gdsf(Lru):
    """Greedy dual with size and frequency, at a cost of 1 a load."""

    def __init__(self, sizes_bytes: Mapping[str, int], total_bytes: int) -> None:
        super().__init__(sizes_bytes, total_bytes)
        self._inflation = 0.0
        self._uses: dict[str, int] = {}
        self._worth: dict[str, float] = {}

    def _density(self, size_bytes: int) -> float:
        """Return cost / size."""
        return 1.0 / size_bytes

    def _weigh(self, model_id: str) -> None:
        self._worth[model_id] = self._inflation + self._uses[model_id] * self._density(
            self._sizes[model_id]
        )

    def _hit(self, model_id: str) -> None:
        super()._hit(model_id)
        self._uses[model_id] += 1
        self._weigh(model_id)

    def _copied(self, model_id: str) -> None:
        self._uses[model_id] = 1
        self._weigh(model_id)

    def _victim(self) -> str:
        victim = min(self._residents, key=self._worth.__getitem__)
        self._inflation = self._worth.pop(victim)
        return victim


class GdsfCost(Gdsf):
    """The same at the cost of what a load takes, which is proportional to the size."""

    def _density(self, size_bytes: int) -> float:
        return 1.0 if size_bytes else 0.0


class Sieve(_Filled):
    """A queue with one visited bit and a hand."""

    def __init__(self, sizes_bytes: Mapping[str, int], total_bytes: int) -> None:
        super().__init__(sizes_bytes, total_bytes)
        self._visited: dict[str, bool] = {}
        self._hand = ""
        """The next to look at; empty for the oldest."""

    def _hit(self, model_id: str) -> None:
        self._visited[model_id] = True

    def _copied(self, model_id: str) -> None:
        self._visited[model_id] = False

    def _victim(self) -> str:
        queue = list(self._residents)
        position = queue.index(self._hand) if self._hand in self._residents else 0
        while self._visited[queue[position]]:
            self._visited[queue[position]] = False
            position = (position + 1) % len(queue)
        self._hand = queue[position + 1] if position + 1 < len(queue) else ""
        return queue[position]


BASELINES: dict[str, Callable[[Mapping[str, int], int], Cache]] = {
    "lru": Lru,
    "lfu": Lfu,
    "gdsf": Gdsf,
    "gdsf-cost": GdsfCost,
    "sieve": Sieve,
}
