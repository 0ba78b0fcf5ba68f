"""The documented disk policy in twenty lines, written from the requirements and nothing else."""

from collections.abc import Iterable, Iterator, Mapping

DAY = 86_400


def decisions(
    loads: Iterable[tuple[float, str]],
    sizes: Mapping[str, int],
    room: int,
    *,
    min_uses: int = 3,
    stale_days: float = 7.0,
    top: int = 5,
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield what is copied and what is expired at each load, on an SSD with `room` bytes."""
    uses: dict[str, list[int]] = {}
    ssd: set[str] = set()

    def rank(one: str, now: float) -> float:
        times = uses.get(one, [])
        idle = (now - times[-1]) / DAY if times else 999.0
        known = times[-100:]
        week = sum(now - time <= 7 * DAY for time in known)
        month = sum(now - time <= 30 * DAY for time in known)
        return 10 * week + 3 * month + 0.5 * len(times) + max(0.0, 7 - idle) - 2 * idle

    for now, model in loads:
        uses.setdefault(model, []).append(int(now))
        free = room - sum(sizes[one] for one in ssd)
        recent = sum(now - time <= 7 * DAY for time in uses[model][-100:])
        gone: list[str] = []
        if model in ssd or recent < min_uses or sizes[model] > room:
            yield (), ()
            continue
        for one in sorted(ssd, key=lambda each: (rank(each, now), each)):
            if free >= sizes[model]:
                break
            if now - uses[one][-1] >= stale_days * DAY:
                gone.append(one)
                free += sizes[one]
        if free < sizes[model]:
            yield (), ()
            continue
        ssd = ssd - set(gone) | {model}
        free -= sizes[model]
        copied = [model]
        best = sorted(sizes, key=lambda each: (-rank(each, now), each))[:top] if gone else []
        for one in best:
            fresh = one in uses and now - uses[one][-1] < stale_days * DAY
            if one not in ssd and fresh and sizes[one] <= free:
                ssd.add(one)
                copied.append(one)
                break
        yield tuple(copied), tuple(gone)
