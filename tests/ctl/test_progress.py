"""What a load looks like while it goes on."""

import json

from modelctl.progress import Json, Live, Plain, Silent, Sink
from modelctl.render.screen import Screen, columns_of
from modeld.wire.codec import Progress

STEPS = [
    Progress(phase="queue", model="qwen"),
    Progress(phase="stop", model="qwen", text="big: finishing 1 request"),
    Progress(phase="load", model="qwen", text="text_model", fraction=0.0),
    Progress(phase="load", model="qwen", text="text_model", fraction=0.43),
    Progress(phase="ready", model="qwen"),
]


class Recorder:
    """A sink that keeps what is written, and a clock that the test moves."""

    def __init__(self, width: int = 80) -> None:
        self.text = ""
        self.now = 100.0
        self.width = width

    def sink(self) -> Sink:
        """Return the sink."""
        return Sink(self._write, lambda: Screen(width=self.width, terminal=True), lambda: self.now)

    def _write(self, text: str) -> None:
        self.text += text

    def lines(self) -> list[str]:
        """Return what a terminal would show: of each line, what was drawn last."""
        return [line.rpartition("\x1b[K")[2] for line in self.text.split("\n")]


def show(recorder: Recorder, *steps: Progress, seconds: float = 0.2) -> None:
    """Show steps, some time apart."""
    writer = Live(recorder.sink())
    for step in steps:
        writer.step(step)
        recorder.now += seconds
    writer.finish()


def test_live_takes_one_line_for_each_phase() -> None:
    """The phases that are over stay, so that one sees where the time went."""
    recorder = Recorder()
    show(recorder, *STEPS, seconds=1.0)

    assert recorder.lines() == [
        "queue   qwen  1.0 s",
        "stop    big: finishing 1 request  1.0 s",
        "load    █████████░░░░░░░░░░░  43 %  text_model  2.0 s",
        "",
    ]


def test_live_draws_at_most_ten_times_a_second() -> None:
    """llama-server reports every percent of a small model within a few milliseconds."""
    recorder = Recorder()
    steps = [Progress(phase="load", fraction=n / 100) for n in range(100)]
    show(recorder, *steps, seconds=0.001)

    assert recorder.text.count("\r") <= 3


def test_live_never_exceeds_the_width_of_the_terminal() -> None:
    """A line that wraps can't be drawn again."""
    for width in (8, 10, 14, 20, 40, 80):
        recorder = Recorder(width)
        step = Progress(phase="load", model="日本語" * 10, text="x" * 200, fraction=0.5)
        show(recorder, step, seconds=3.0)

        assert all(columns_of(line) < width for line in recorder.lines())


def test_live_shows_that_time_passes_while_nothing_comes() -> None:
    """A still picture looks like a hang."""
    recorder = Recorder()
    writer = Live(recorder.sink())
    writer.step(Progress(phase="start", text="llama-server"))
    recorder.now += 7
    writer.tick()

    assert recorder.lines()[-1] == "start   llama-server  7.0 s"


def test_live_leaves_a_fresh_line_behind() -> None:
    """The error that follows must not be glued to the bar."""
    recorder = Recorder()
    show(recorder, STEPS[2])

    assert recorder.text.endswith("\n")


def test_live_is_cleaned_of_what_drives_terminals() -> None:
    """Stage names come from a program that reads foreign files."""
    recorder = Recorder()
    show(recorder, Progress(phase="load", text="\x1b[2J"))

    assert "\x1b[2J" not in recorder.text


def test_plain_writes_a_line_for_each_phase_and_each_tenth() -> None:
    """A log file should say what went on, not two hundred times the same."""
    recorder = Recorder()
    writer = Plain(recorder.sink())
    for step in [*STEPS[:2], *[Progress(phase="load", fraction=n / 100) for n in range(101)]]:
        writer.step(step)

    assert recorder.text.splitlines()[:4] == [
        "queue: qwen",
        "stop: qwen big: finishing 1 request",
        "load: 0 %",
        "load: 10 %",
    ]
    assert len(recorder.text.splitlines()) == 2 + 11


def test_json_writes_one_object_for_each_step() -> None:
    """For a program that draws its own bar."""
    recorder = Recorder()
    writer = Json(recorder.sink())
    for step in STEPS:
        writer.step(step)
    items = [json.loads(line) for line in recorder.text.splitlines()]

    assert items[3] == {
        "v": 1,
        "type": "progress",
        "phase": "load",
        "text": "text_model",
        "model": "qwen",
        "fraction": 0.43,
    }
    assert len(items) == len(STEPS)


def test_silent_writes_nothing() -> None:
    """`--progress none`."""
    writer = Silent()
    writer.step(STEPS[0])
    writer.tick()
    writer.finish()


def test_live_copy_tells_its_percentage_once() -> None:
    """Read and written differ a little; two figures that contradict each other help nobody."""
    recorder = Recorder()
    show(recorder, Progress(phase="copy", text="41%, 2.0 GB of 4.7 GB, 180 MB/s", fraction=0.43))

    assert recorder.lines()[0] == "copy    █████████░░░░░░░░░░░  43 %  2.0 GB of 4.7 GB, 180 MB/s"


def test_plain_copy_takes_a_line_at_each_tenth_whatever_its_rate() -> None:
    """Bytes and rate change with every step; the log of a service is no place for all of them."""
    recorder = Recorder()
    writer = Plain(recorder.sink())
    writer.step(Progress(phase="copy", model="big", text="3 uses in 7 days >= 3", fraction=0.0))
    for step in range(1, 30):
        writer.step(Progress(phase="copy", text=f"{step} GB of 100 GB", fraction=step / 100))

    assert recorder.text.splitlines() == [
        "copy: big 3 uses in 7 days >= 3 0 %",
        "copy: 1 GB of 100 GB 1 %",
        "copy: 10 GB of 100 GB 10 %",
        "copy: 20 GB of 100 GB 20 %",
    ]
