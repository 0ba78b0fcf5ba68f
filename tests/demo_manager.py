"""
The second part of `make demo`: what a program does with `modeld.client`, on a real llama.cpp.

Load, a limit, force, clean-up and status, as Airganizer's own demonstration shows them, in
directories of its own.  The models are tiny; what each is said to need is configured, so that the
sums are those of real ones on a machine of 16 GB.
"""

from modeld.client import ModelManager
from tests.support.daemon import Daemon, a_daemon
from tests.support.tiny_gguf import write_model

GIGABYTES = {
    "llama3.2-1b": 3.0,
    "llama3.2": 4.5,
    "codellama": 7.0,
    "llama3.2-vision": 12.0,
    "giant": 20.0,
}
SETTINGS = "memory.limit_gb = 16.0\n" + "".join(
    f'[models.entries."{name}"]\nmemory_gb = {gigabytes}\n' for name, gigabytes in GIGABYTES.items()
)


class Show:
    """Shows each step, and counts what was checked."""

    def __init__(self, manager: ModelManager) -> None:
        self.manager = manager
        self.passed = self.failed = 0

    def step(self, title: str) -> None:
        """Print a heading."""
        print(f"\n# {title}", flush=True)

    def check(self, what: str, ok: bool) -> None:
        """Count one check, and say so where it failed."""
        self.passed += ok
        self.failed += not ok
        if not ok:
            print(f"FAILED: {what}", flush=True)

    def loaded(self) -> list[str]:
        """Return the names of what is loaded."""
        return [model.name for model in self.manager.get_loaded_models()]

    def asks(self, name: str, expected: tuple[bool, str]) -> None:
        """Ask whether a model can be loaded, and show the answer."""
        answer = self.manager.can_load_model(name)
        print(f"can_load_model({name!r}) -> {answer}", flush=True)
        self.check(f"{name}: {expected}", answer == expected)


def play(show: Show) -> None:
    """Show what the manager does."""
    manager = show.manager
    show.step("at first nothing is loaded")
    manager.print_status()
    show.check("16 GB are free", manager.get_available_ram() == 16.0)
    show.step("two models fit beside each other")
    show.check("the first is loaded", manager.load_model("llama3.2-1b"))
    show.check("the second is loaded", manager.load_model("llama3.2"))
    show.check("once more is no work", manager.load_model("llama3.2"))
    manager.print_status()
    show.step("a third would be one too many")
    show.asks("codellama", (False, "Max concurrent models (2) reached"))
    show.check("it is not loaded", not manager.load_model("codellama"))
    show.check("the two stay", show.loaded() == ["llama3.2-1b", "llama3.2"])
    show.step("with force, the one that was not used for longest makes room")
    show.check("it is loaded", manager.load_model("codellama", force=True))
    show.check("the other stays", show.loaded() == ["llama3.2", "codellama"])
    show.step("a large model does not fit beside the two")
    show.asks("llama3.2-vision", (False, "Insufficient RAM: need 12.0GB, have 4.5GB available"))
    show.check("with force it is loaded", manager.load_model("llama3.2-vision", force=True))
    show.check("alone", show.loaded() == ["llama3.2-vision"])
    manager.print_status()
    show.step("what is larger than the machine is refused before anything is unloaded")
    show.check("it is not loaded", not manager.load_model("giant", force=True))
    show.check("nothing was unloaded for it", show.loaded() == ["llama3.2-vision"])
    show.step("clean-up")
    show.check("nothing is idle for 5 minutes", manager.unload_idle_models() == [])
    show.check("it is unloaded", manager.unload_model("llama3.2-vision"))
    show.check("once more is no error", manager.unload_model("llama3.2-vision"))
    manager.print_status()
    show.check("all memory is free again", manager.get_available_ram() == 16.0)


def prepare(daemon: Daemon) -> None:
    """Put the models on the disk, and start modeld."""
    for name in GIGABYTES:
        write_model(daemon.models / f"{name}.gguf", sentence=f"I am {name} .", name=name)
    daemon.start()


def run() -> tuple[int, int]:
    """Run the demonstration; return how many checks passed and failed."""
    print("\n# a program and its ModelManager: from modeld.client import get_model_manager")
    with a_daemon(settings=SETTINGS, start=False) as daemon:
        prepare(daemon)
        manager = ModelManager(str(daemon.runtime / "rpc.sock"))
        show = Show(manager)
        play(show)
        manager.close()
    return show.passed, show.failed
