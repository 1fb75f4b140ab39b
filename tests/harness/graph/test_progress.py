from __future__ import annotations

import io

import pytest

from harness.graph import progress, screen
from harness.graph.progress import Display
from harness.graph.screen import Bars, Lines, duration
from harness.graph.stages import Stage


class Clock:
    """Time that passes only when told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (progress, screen):
        monkeypatch.setattr(module, "time", made)
    return made


def stages(count: int) -> list[Stage]:
    return [
        Stage(f"s{i}", "harness.graph.files:sha256_file", {"i": i}, seconds_hint=10.0)
        for i in range(count)
    ]


def test_estimate_learns_from_stages_of_the_same_function(clock: Clock) -> None:
    display = Display()
    made = stages(4)
    display.plan(made, made, workers=2)
    assert display.seconds_left() == pytest.approx(20.0)  # 4 · 10 s over 2 workers
    display.started(made[0])
    clock.now = 4.0
    assert display.seconds_left() == pytest.approx(18.0)
    display.finished(made[0].address, 4.0, True)
    assert display.seconds_left() == pytest.approx(6.0)  # 3 · 4 s over 2 workers


def test_expectations_of_unequal_stages_are_scaled_by_what_their_function_has_taken(
    clock: Clock,
) -> None:
    display = Display()
    made = stages(4)
    display.expect(dict(zip([one.address for one in made], [10.0, 20.0, 30.0], strict=False)))
    display.plan(made, made, workers=2)
    assert display.seconds_left() == pytest.approx(35.0)  # the fourth takes its hint, 10 s
    display.started(made[0])
    display.finished(made[0].address, 20.0, True)
    assert display.seconds_left() == pytest.approx(60.0)  # 2 · (20 + 30 + 10) s over 2 workers


def test_a_running_stage_takes_what_it_reports_itself(clock: Clock) -> None:
    display = Display()
    made = stages(2)
    display.plan(made, made, workers=1)
    display.started(made[0])
    display.progress(made[0].address, 0, 100, "steps")
    clock.now = 100.0  # ten times what was expected, and a tenth is done
    display.progress(made[0].address, 10, 100, "steps")
    assert display.seconds_left() == pytest.approx(910.0)
    clock.now = 200.0
    assert display.seconds_left() == pytest.approx(810.0)
    display.stopped(made[0].address)
    assert display.seconds_left() == pytest.approx(20.0)


def test_pace_is_measured_from_the_first_report(clock: Clock) -> None:
    display = Display()
    clock.now = 60.0  # a minute of imports
    assert display.stage_left("a", 1, 101) is None
    clock.now = 70.0
    assert display.stage_left("a", 11, 101) == pytest.approx(90.0)


def test_plain_lines(clock: Clock) -> None:
    stream = io.StringIO()
    display = Display(Lines(stream))
    made = stages(2)
    display.plan([*made, Stage("old", "harness.graph.files:content_hash")], made, workers=1)
    display.started(made[0])
    for done in range(1, 101):
        clock.now = float(done)
        display.progress(made[0].address, done, 100, "steps")
    display.finished(made[0].address, 100.0, True)
    display.started(made[1])
    display.finished(made[1].address, 0.0, False)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "3 stages, 1 in the store, 2 to run"
    assert lines[1] == "s0: steps 20/100, about 1 min 20 s left"
    assert 4 <= sum(line.startswith("s0: steps") for line in lines) <= 5
    assert "[1/2] s0: done in 1 min 40 s, about 1 min 40 s left" in lines
    assert lines[-1] == "[2/2] s1: made by another run"


def test_bars_take_the_same_events() -> None:
    display = Display(Bars())
    made = stages(2)
    display.plan(made, made, workers=2)
    for stage in made:
        display.started(stage)
        display.progress(stage.address, 1, 2, "steps")
        display.tick()
    display.note("a note [with brackets]")
    for stage in made:
        display.finished(stage.address, 1.0, True)
    display.close()
    assert display.made == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (-3, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
