"""`host.gpus`: what GPUs there are, on machines that are acted out."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from modeld.core.entities import Gpu
from modeld.host.gpus import LocalGpus

GIB = 1024**3


class NVMLError(Exception):
    """As the library's."""


class Driver:
    """Acts out NVIDIA's library: two GPUs, and who uses them."""

    def __init__(self) -> None:
        self.inits = 0
        self.is_dead = False
        self.processes = {0: [(42, 5 * GIB), (7, None)], 1: [(42, None)]}

    def module(self, *, has_driver: bool = True) -> ModuleType:
        """Return it as a module."""
        module = ModuleType("acted_nvml")

        def start() -> None:
            self.inits += 1
            if not has_driver:
                raise NVMLError

        def memory(handle: int) -> SimpleNamespace:
            if self.is_dead:
                raise NVMLError
            return SimpleNamespace(total=24 * GIB, used=(handle + 1) * GIB)

        def processes(handle: int) -> list[SimpleNamespace]:
            if self.is_dead:
                raise NVMLError
            return [SimpleNamespace(pid=p, usedGpuMemory=m) for p, m in self.processes[handle]]

        module.__dict__.update(
            NVMLError=NVMLError,
            nvmlInit=start,
            nvmlDeviceGetCount=lambda: 2,
            nvmlDeviceGetHandleByIndex=lambda index: index,
            nvmlDeviceGetName=lambda handle: b"Acted" if handle else "Acted out",
            nvmlDeviceGetMemoryInfo=memory,
            nvmlDeviceGetComputeRunningProcesses=processes,
            nvmlDeviceGetGraphicsRunningProcesses=lambda _: [],
        )
        return module


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Return a driver that is there."""
    acted = Driver()
    monkeypatch.setitem(sys.modules, "acted_nvml", acted.module())
    return acted


def gpus(folder: Path, library: str = "acted_nvml", **environment: str) -> LocalGpus:
    """Return the GPUs of a machine whose AMD cards are in that folder."""
    return LocalGpus(environment, cards=folder, library=library)


def test_gpus_of_a_machine_without_any_are_none(tmp_path: Path) -> None:
    """Most machines: everything is as it was, and nothing is said."""
    found = gpus(tmp_path, "no_such_library")

    assert found.all() == ()
    assert found.of_process(1) == ()


def test_gpus_without_a_driver_are_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library may be installed where no GPU is."""
    acted = Driver()
    monkeypatch.setitem(sys.modules, "acted_nvml", acted.module(has_driver=False))
    found = gpus(tmp_path)

    assert [found.all(), found.all()] == [(), ()]
    assert acted.inits == 1


def test_gpus_of_nvidia_have_names_and_memory(tmp_path: Path, driver: Driver) -> None:
    """The budget on each is made of this."""
    assert gpus(tmp_path).all() == (
        Gpu(name="Acted out", total_bytes=24 * GIB, used_bytes=GIB),
        Gpu(name="Acted", total_bytes=24 * GIB, used_bytes=2 * GIB),
    )


@pytest.mark.parametrize(
    ("visible", "used"), [("1", [2]), ("1,0", [2, 1]), ("", []), ("-1", []), ("GPU-ab", [1, 2])]
)
def test_gpus_are_those_that_programs_may_use(
    tmp_path: Path, driver: Driver, visible: str, used: list[int]
) -> None:
    """The engine sees no others, and numbers these from 0."""
    found = gpus(tmp_path, CUDA_VISIBLE_DEVICES=visible).all()

    assert [gpu.used_bytes // GIB for gpu in found] == used


def test_gpu_memory_of_a_process_is_told_where_the_driver_tells(
    tmp_path: Path, driver: Driver
) -> None:
    """Learned from it; a driver in a container says None."""
    found = gpus(tmp_path)
    found.all()

    assert found.of_process(42) == (5 * GIB, 0)
    assert found.of_process(7) == ()
    assert found.of_process(1) == ()


def test_gpus_of_a_driver_that_died_are_none(tmp_path: Path, driver: Driver) -> None:
    """A GPU that fell off the bus must not end the daemon."""
    found = gpus(tmp_path)
    found.all()
    driver.is_dead = True

    assert found.all() == ()
    assert found.of_process(42) == ()


def test_gpus_of_amd_are_read_from_sysfs(tmp_path: Path) -> None:
    """Without the memory that a processor's own graphics takes, and without what is no number."""
    for name, total, used in (
        ("card0", str(16 * GIB), str(GIB)), ("card1", str(512 * 1024**2), "0"), ("card2", "x", "0"),
    ):  # fmt: skip
        device = tmp_path / name / "device"
        device.mkdir(parents=True)
        (device / "mem_info_vram_total").write_text(f"{total}\n")
        (device / "mem_info_vram_used").write_text(f"{used}\n")
    (tmp_path / "card0-DP-1").mkdir()

    assert gpus(tmp_path, "no_such_library").all() == (
        Gpu(name="AMD card0", total_bytes=16 * GIB, used_bytes=GIB),
    )
