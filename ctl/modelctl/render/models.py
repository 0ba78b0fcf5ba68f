"""Text of `list`, `show`, `ps` and `status`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from modelctl.render.answer import (
    HOT_DAYS,
    ago,
    engine_text,
    names,
    need_text,
    parameters,
    rank,
    seconds_since,
    state_cell,
)
from modelctl.render.screen import Cell, Column, Screen, clean, mark, paint, pairs, spell, table
from modeld.units import GIB, format_bytes, format_duration

if TYPE_CHECKING:
    from modeld.wire.models import (
        FailedRow,
        LoadedModel,
        ModelRow,
        Models,
        ServerRow,
        Servers,
        Shown,
        StatusReport,
    )

_LIST = (
    Column("NAME", flexible=True),
    Column("NICK", flexible=True),
    Column("TIER", droppable=2),
    Column("SIZE", right=True),
    Column("QUANT", droppable=3),
    Column("PARAMS", right=True, droppable=4),
    Column("CTX", right=True, droppable=5),
    Column("RANK", right=True, droppable=1),
    Column("USES", right=True, droppable=6),
    Column("LAST USED", right=True),
)
_PS = (
    Column("NAME", flexible=True),
    Column("NICK", flexible=True),
    Column("STATE"),
    Column("PID", right=True, droppable=5),
    Column("CONTEXT", right=True, droppable=4),
    Column("MEMORY", right=True),
    Column("TIER", droppable=3),
    Column("PORT", right=True, droppable=6),
    Column("REQUESTS", right=True, droppable=2),
    Column("IDLE", right=True),
    Column("UNTIL", right=True, droppable=1),
)
_VRAM = (Column("VRAM", right=True),)
"""Of all GPUs together; only where a server is on one."""
_MORE_LIST = (Column("STATE"), Column("FILE"))
_MORE_PS = (Column("UP", right=True), Column("SERVER"), Column("SOCKET"))


def list_text(reply: Models, screen: Screen, *, now: float, verbose: bool) -> str:
    """Return the models as a table, lowest rank first, with a sum below it on a terminal."""
    rows = [_list_row(model, now, verbose=verbose) for model in reply.models]
    columns = _LIST + (_MORE_LIST if verbose else ())
    if not screen.terminal:
        return table(columns, rows, screen, header=verbose)
    if not rows:
        return paint("no models found\n", "dim", screen)
    text = table(columns, rows, _wide(screen) if verbose else screen, header=True)
    return text + paint(_total(reply.models), "dim", screen)


def _wide(screen: Screen) -> Screen:
    """Return a screen on which nothing is shortened: lines with a path wrap as they must."""
    return screen._replace(width=sys.maxsize)


def list_warnings(reply: Models) -> list[str]:
    """Return what is wrong with the models: one sentence each."""
    found = [
        f"{model.name} can't be loaded: {model.problem}" for model in reply.models if model.problem
    ]
    alone = [model.name for model in reply.models if reply.has_hdd and model.tiers == ("ssd",)]
    if alone:
        found.append(
            "*** on the SSD only; these are never expired from it, even if space is low: "
            + ", ".join(alone)
        )
    if reply.scanning:
        found.append("the disks are still being looked at; there may be more")
    return [*reply.warnings, *found]


def _list_row(model: ModelRow, now: float, *, verbose: bool) -> list[Cell | str]:
    usable = not model.problem and model.tiers
    row: list[Cell | str] = [
        Cell(model.name, "plain" if usable else "dim"),
        names(model.nicknames, model.slots),
        Cell(tier_mark(model, now), "plain" if model.tiers else "dim"),
        format_bytes(model.size_bytes) if model.size_bytes else "",
        model.quantisation,
        parameters(model.parameters),
        str(model.context_tokens or ""),
        rank(model.rank),
        str(model.uses),
        ago(model.last_used, now),
    ]
    if verbose:
        row += [state_cell(model.state, pinned=model.pinned) if model.state else "", model.path]
    return row


def tier_mark(model: ModelRow, now: float) -> str:
    """
    Return where the copies are, in llama-pack's marks.

    `{SSD}` used enough to be there, `SSD` used in the last week, `ssd` not, `HDD1` a permanent
    copy, `***` on the SSD alone, `st` only remembered.
    """
    if not model.tiers:
        return "st"
    age_seconds = seconds_since(model.last_used, now)
    hot = age_seconds is not None and age_seconds <= HOT_DAYS * 86400
    marks = [("SSD" if hot else "ssd") if tier == "ssd" else tier.upper() for tier in model.tiers]
    if model.wanted_on_ssd:
        marks.insert(0, "{SSD}")
    return "+".join(marks) + ("***" if model.tiers == ("ssd",) else "")


def _total(models: tuple[ModelRow, ...]) -> str:
    tiers: dict[str, int] = {}
    for model in models:
        for tier in model.tiers:
            tiers[tier] = tiers.get(tier, 0) + model.size_bytes
    parts = [f"{tier} {format_bytes(count)}" for tier, count in sorted(tiers.items(), reverse=True)]
    noun = "model" if len(models) == 1 else "models"
    size = format_bytes(sum(model.size_bytes for model in models))
    return f"{len(models)} {noun}, {size}" + (f" ({', '.join(parts)})" if parts else "") + "\n"


def ps_text(reply: Servers, screen: Screen, *, verbose: bool) -> str:
    """Return the servers as a table; models whose server died stand below it."""
    has_gpus = any(any(server.gpu_bytes) for server in reply.servers)
    rows = [_ps_row(server, verbose=verbose, has_gpus=has_gpus) for server in reply.servers]
    columns = _PS + (_VRAM if has_gpus else ()) + (_MORE_PS if verbose else ())
    if not screen.terminal:
        for failed in reply.failed:
            rest = [""] * (len(columns) - 3)
            rows.append([failed.name, "", state_cell("failed"), *rest])
        return table(columns, rows, screen, header=verbose)
    wide = _wide(screen) if verbose else screen
    text = table(columns, rows, wide, header=True) if rows else ""
    text += "".join(_failed_line(failed, screen) for failed in reply.failed)
    return text or paint("no model is loaded\n", "dim", screen)


def failed_text(failed: FailedRow) -> str:
    """Return what became of a model's server, and what modeld does about it."""
    times = "once" if failed.deaths == 1 else f"{failed.deaths} times"
    again = (
        f"next try in {format_duration(failed.retry_in_s)}"
        if failed.retry_in_s > 0
        else "not tried again until asked"
    )
    return f"died {times}, {again}: {failed.cause}"


def _failed_line(failed: FailedRow, screen: Screen) -> str:
    word = paint(spell("✖ failed", screen), "error", screen)
    return f"{word}  {clean(failed.name)}  {clean(failed_text(failed))}\n"


def _ps_row(server: ServerRow, *, verbose: bool, has_gpus: bool) -> list[Cell | str]:
    memory = format_bytes(server.memory_bytes) if server.memory_bytes else ""
    row: list[Cell | str] = [
        server.name,
        names(server.nicknames, server.slots),
        state_cell(server.state, fraction=server.fraction, pinned=server.pinned),
        str(server.pid or ""),
        str(server.context_tokens or ""),
        memory if server.measured or not memory else f"~{memory}",
        server.tier,
        str(server.port or ""),
        str(server.in_flight),
        format_duration(server.idle_seconds)
        if server.state == "ready" and not server.in_flight
        else "",
        _until(server),
    ]
    if has_gpus:
        row.append(format_bytes(sum(server.gpu_bytes)) if any(server.gpu_bytes) else "")
    if verbose:
        row += [format_duration(server.up_seconds), server.server_id, server.socket]
    return row


def _until(server: ServerRow) -> str:
    """Return how long a server stays if nobody asks it."""
    if server.state != "ready":
        return ""
    return "never" if server.left_seconds is None else f"in {format_duration(server.left_seconds)}"


def status_text(reply: StatusReport, screen: Screen) -> str:
    """Return how everything is: the daemon, then memory and models in Airganizer's layout."""
    starter = "systemd" if reply.launcher == "systemd" else "modeld itself"
    lines = [
        f"modeld {reply.version}  pid {reply.pid}  up {format_duration(reply.up_seconds)}",
        f"  gateway  {', '.join(f'http://{one}' for one in reply.gateway) or 'off'}"
        + (", with a key" if reply.key_file else ""),
        f"  engine   {engine_text(reply.binary) or 'none found'}",
        f"  version  {reply.binary_version or 'unknown'}, started by {starter}",
        f"  disks    {_disks(reply)}",
        *(f"  copying  {clean(sentence.removeprefix('copy '))}" for sentence in reply.copying),
        *([f"  state    NOT SAVED {reply.saved}"] if reply.saved else []),
        "",
        *memory_lines(reply),
    ]
    dot = mark("●", "warning" if reply.saved else "success", screen)
    return dot + "".join(f"{spell(clean(line), screen)}\n" for line in lines)


def _disks(reply: StatusReport) -> str:
    noun = "model" if reply.models_on_disk == 1 else "models"
    tiers = ", ".join(f"{tier} {format_bytes(size)}" for tier, size in reply.disk_bytes.items())
    text = f"{reply.models_on_disk} {noun}" + (f" ({tiers})" if tiers else "")
    return text + (", still looking" if reply.scanning else "")


def memory_lines(reply: StatusReport) -> list[str]:
    """Return the lines of requirement S4-14, to the letter."""
    lines = [
        "Model Manager Status:",
        f"  RAM: {reply.used_ram_gb:.1f}/{reply.total_ram_gb:.1f}GB used",
        f"  Available: {reply.available_ram_gb:.1f}GB",
        *(
            f"  GPU {index}: {gpu.booked_bytes / GIB:.1f}/{gpu.total_bytes / GIB:.1f}GB used"
            f" ({gpu.name})"
            for index, gpu in enumerate(reply.gpus)
        ),
        f"  Loaded: {reply.loaded_models_count} models ({reply.local_models_count} local)",
    ]
    if reply.loaded_models:
        lines += ["", "  Currently loaded:", *map(_loaded_line, reply.loaded_models)]
    return lines


def _loaded_line(model: LoadedModel) -> str:
    return f"    • {model.name:<20} |  {model.ram_gb:6.1f}GB | idle: {model.idle_seconds:6.0f}s"


def one_status_text(name: str, reply: StatusReport, screen: Screen, *, now: float) -> str:
    """Return whether one model exists and is loaded."""
    cell = state_cell("ready" if reply.loaded else "gone")
    word = "loaded" if reply.loaded else "not loaded" if reply.exists else "not found"
    used = ago(reply.last_used or "", now)
    return f"{mark(cell.symbol, cell.style, screen)}{clean(name)}  {word}  last used {used}\n"


def show_text(reply: Shown, screen: Screen, *, now: float) -> str:
    """Return everything about one model, as labels and values."""
    model = reply.model
    rows = [
        ("name", model.name),
        ("id", model.id),
        ("nicknames", ", ".join(model.nicknames)),
        ("slots", ", ".join(model.slots)),
        ("state", model.state or "not loaded"),
        ("pinned", "yes" if model.pinned else "no"),
        *(("file", _location(one)) for one in reply.locations),
        ("size", format_bytes(model.size_bytes)),
        ("memory", need_text(reply.need_bytes, reply.need_source, reply.need_parts)),
        *(
            (f"GPU {index}", format_bytes(need))
            for index, need in enumerate(reply.need_gpu_bytes)
            if need
        ),
        ("architecture", model.architecture),
        ("parameters", parameters(model.parameters)),
        ("quantisation", model.quantisation),
        ("context", str(model.context_tokens or "")),
        ("rank", rank_sum(model.rank, reply.rank_terms)),
        ("uses", str(model.uses)),
        ("last used", ago(model.last_used, now)),
        ("run time", format_duration(reply.runtime_seconds) if reply.runtime_seconds else ""),
        ("arguments", _command_line(reply.arguments)),
        ("requests", "; ".join(reply.request)),
        *(
            ("variant", f"{name} ({'; '.join(changes) or 'as its model'})")
            for name, changes in sorted(reply.variants.items())
        ),
        ("unit", reply.unit),
        ("command", _command_line(reply.argv)),
        ("problem", model.problem),
    ]
    return pairs([row for row in rows if row[1]], screen)


def header_text(reply: Shown, screen: Screen) -> str:
    """Return what the file says of itself."""
    return pairs([(key, str(value)) for key, value in reply.header.items()], screen)


def _location(location: dict[str, str | int]) -> str:
    tier = location.get("tier", "")
    return f"{location.get('path', '')} ({tier})" if tier else str(location.get("path", ""))


def rank_sum(value: float, terms: dict[str, float]) -> str:
    """Return a rank and the terms that it is the sum of."""
    if not terms:
        return rank(value)
    parts = " ".join(
        f"{'+' if term >= 0 else '-'} {abs(term):.1f} {name}" for name, term in terms.items()
    )
    return f"{rank(value)} = {parts.removeprefix('+ ')}"


def _command_line(arguments: tuple[str, ...]) -> str:
    if not arguments:
        return ""
    from shlex import join

    return join(arguments)
