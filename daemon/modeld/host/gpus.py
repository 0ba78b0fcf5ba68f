"""
The GPUs of this machine and their memory: NVIDIA's by its library, AMD's by sysfs.

Each is asked anew for every figure, for other programs use them too.  Where the library or the
driver is not there, there are no such GPUs, and nobody is told twice.  Nothing here sets anything.
"""

import contextlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from modeld.core.entities import Gpu
from modeld.units import GIB

CARDS = Path("/sys/class/drm")
SMALLEST_BYTES = GIB
"""Less is what a processor's own graphics takes out of the machine's memory."""
LIBRARY = "pynvml"


class LocalGpus:
    """All GPUs: NVIDIA's first, in the order in which programs number them."""

    def __init__(
        self, environment: Mapping[str, str], cards: Path = CARDS, library: str = LIBRARY
    ) -> None:
        self._visible = environment.get("CUDA_VISIBLE_DEVICES")
        self._cards = cards
        self._library_name = library
        self._library: ModuleType | None = None
        self._is_looked_for = False
        self._has_any = False

    def all(self) -> tuple[Gpu, ...]:
        """Return each GPU as it is now."""
        gpus = (*self._nvidia(), *self._amd())
        self._has_any = bool(gpus)
        return gpus

    def of_process(self, pid: int) -> tuple[int, ...]:
        """Return what a process holds of each GPU, in bytes; empty where nobody tells."""
        library = self._nvml() if self._has_any else None
        if library is None:
            return ()
        try:
            held = [self._held(library, handle, pid) for handle in self._handles(library)]
        except library.NVMLError:
            return ()
        return tuple(held) if any(held) else ()

    def _held(self, library: ModuleType, handle: object, pid: int) -> int:
        """Return what a process holds of one NVIDIA GPU."""
        found = [
            *library.nvmlDeviceGetComputeRunningProcesses(handle),
            *library.nvmlDeviceGetGraphicsRunningProcesses(handle),
        ]
        # a driver that does not tell says None
        return max((each.usedGpuMemory or 0 for each in found if each.pid == pid), default=0)

    def _nvidia(self) -> list[Gpu]:
        library = self._nvml()
        if library is None:
            return []
        found = []
        try:
            for handle in self._handles(library):
                memory = library.nvmlDeviceGetMemoryInfo(handle)
                name = library.nvmlDeviceGetName(handle)
                text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
                gpu = Gpu(name=text, total_bytes=int(memory.total), used_bytes=int(memory.used))
                found.append(gpu)
        except library.NVMLError:
            return []
        return found

    def _handles(self, library: ModuleType) -> list[object]:
        """Return the GPUs that programs may use, in their order."""
        count = library.nvmlDeviceGetCount()
        chosen = list(range(count))
        if self._visible is not None:
            words = [word.strip() for word in self._visible.split(",")]
            if all(word.isdecimal() for word in words):
                chosen = [int(word) for word in words if int(word) < count]
            elif self._visible.strip() in {"", "-1"}:
                chosen = []
        return [library.nvmlDeviceGetHandleByIndex(index) for index in chosen]

    def _nvml(self) -> ModuleType | None:
        """Return NVIDIA's library, ready to be asked; None where it or its driver is missing."""
        if not self._is_looked_for:
            self._is_looked_for = True
            with contextlib.suppress(ImportError):
                library = importlib.import_module(self._library_name)
                with contextlib.suppress(library.NVMLError):
                    library.nvmlInit()
                    self._library = library
        return self._library

    def _amd(self) -> list[Gpu]:
        found = []
        for total_file in sorted(self._cards.glob("card*/device/mem_info_vram_total")):
            with contextlib.suppress(OSError, ValueError):
                total = int(total_file.read_text("ascii"))
                used = int(total_file.with_name("mem_info_vram_used").read_text("ascii"))
                if total >= SMALLEST_BYTES:
                    name = f"AMD {total_file.parent.parent.name}"
                    found.append(Gpu(name=name, total_bytes=total, used_bytes=used))
        return found
