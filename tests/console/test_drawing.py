"""Pictures: whatever there is to draw, it stays inside, nothing lies over another thing, and all of it is told."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from taquba_workflow_sync import RunEvent, RunState, RunStatus
from taquba_workflow_sync.console.drawing.activity import MINUTES, activity, by_kind
from taquba_workflow_sync.console.drawing.flow import MOST_STEPS, Picture, picture
from taquba_workflow_sync.console.drawing.timeline import MOST_ROWS, timeline
from taquba_workflow_sync.console.drawing.walked import walked
from taquba_workflow_sync.flow.graph import Edge, Graph
from taquba_workflow_sync.queue.metrics import MinuteActivity
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.status import AttemptOutcome

pytestmark = pytest.mark.embedded
NOW = datetime(2026, 11, 27, 12, 34, 56, tzinfo=UTC)


def graph(steps: list[str], edges: list[Edge], waits: dict[Edge, str] | None = None) -> Graph:
    return Graph("f", 1, steps[0], tuple(steps), tuple(edges), MappingProxyType(waits or {}))


def points(path: str) -> list[tuple[float, float]]:
    """Return points all along a path of curves."""
    assert re.fullmatch(r"M-?[0-9.]+ -?[0-9.]+(C(-?[0-9.]+ ?){6})+", path)
    numbers = [float(each) for each in re.findall(r"-?[0-9.]+", path)]
    ends = list(zip(numbers[::2], numbers[1::2], strict=True))
    found = []
    for begin in range(0, len(ends) - 1, 3):
        for part in range(11):
            t = part / 10
            shares = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
            one = ends[begin : begin + 4]
            found.append(tuple(sum(share * at[axis] for share, at in zip(shares, one, strict=True)) for axis in (0, 1)))
    return found  # type: ignore[return-value]  # pairs


def boxes_run_through(found: Picture) -> list[str]:
    """Return the steps that a line between others runs through."""
    return [
        box.text
        for arrow in found.arrows
        for box in found.boxes
        if any(
            abs(x - box.x) < box.width / 2 - 1 and abs(y - box.y) < box.height / 2 - 1 for x, y in points(arrow.path)
        )
    ]


def check_picture(found: Picture) -> None:
    layers: dict[float, list[Any]] = {}
    for box in found.boxes:
        layers.setdefault(box.y, []).append(box)
        assert box.x - box.width / 2 >= 0 and box.x + box.width / 2 <= found.width + 0.5
        assert box.y - box.height / 2 >= 0 and box.y + box.height / 2 <= found.height + 0.5
        assert box.width >= len(box.text) * 7
    for layer in layers.values():
        ordered = sorted(layer, key=lambda box: box.x)
        for left, right in pairwise(ordered):
            assert left.x + left.width / 2 < right.x - right.width / 2, "two steps lie over each other"
    for above, below in pairwise(sorted(layers)):
        assert above + layers[above][0].height < below
    for arrow in found.arrows:
        for x, y in points(arrow.path):
            assert -0.5 <= x <= found.width + 0.5 and -0.5 <= y <= found.height + 0.5
        assert arrow.x >= 0 and arrow.x + len(arrow.wait) * 7 <= found.width + 0.5
        assert arrow.y >= 10, "what is written is cut off at the top"
        for box in found.boxes if arrow.wait else ():
            is_beside = arrow.x + len(arrow.wait) * 7 < box.x - box.width / 2 or box.x + box.width / 2 < arrow.x
            is_over = arrow.y <= box.y - box.height / 2 or box.y + box.height / 2 <= arrow.y - 10
            assert is_beside or is_over, "what is waited for is written over a step"


@settings(max_examples=200, deadline=None)
@given(some.data())
def test_steps_of_any_flow_lie_beside_and_below_each_other_inside_the_picture(data: Any) -> None:
    names = some.text(min_size=1, max_size=60) | some.sampled_from(["a", "ship", "\u202e", "<b>", "x" * 500])
    steps = data.draw(some.lists(names, min_size=1, max_size=MOST_STEPS, unique=True))
    edges = data.draw(some.lists(some.tuples(*[some.sampled_from(steps)] * 2), max_size=80, unique=True))
    waits = data.draw(some.dictionaries(some.sampled_from(edges), names, max_size=10)) if edges else {}
    found = picture(graph(steps, edges, waits), current=steps[-1], done=steps[:1])
    assert found is not None and {box.name for box in found.boxes} == set(steps)
    assert len(found.arrows) == len(edges)
    check_picture(found)
    assert [box.name for box in found.boxes if box.mark == "current"] == [steps[-1]]


def test_one_step_with_a_way_to_itself_is_a_box_and_a_loop() -> None:
    found = picture(graph(["a"], [("a", "a")], {("a", "a"): "signal go"}))
    assert found is not None and len(found.boxes) == 1 and found.arrows[0].wait == "signal go"
    check_picture(found)


def test_sixty_steps_in_a_row_in_a_circle_and_side_by_side_are_drawn_and_sixty_one_are_not() -> None:
    steps = [f"step {number}" for number in range(MOST_STEPS)]
    row = list(pairwise(steps))
    for edges in (row, [*row, (steps[-1], steps[0])], [(steps[0], each) for each in steps[1:]], [],
                  [(a, b) for a in steps for b in steps]):  # fmt: skip
        found = picture(graph(steps, edges))
        assert found is not None and len(found.arrows) == len(edges)
        check_picture(found)
    assert picture(graph([*steps, "one more"], row)) is None


def test_a_step_stands_below_those_that_lead_to_it_and_ways_back_are_at_the_side() -> None:
    found = picture(graph(["a", "b", "c", "d"], [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "b")]))
    assert found is not None
    at = {box.name: box.y for box in found.boxes}
    assert at["a"] < at["b"] < at["c"] < at["d"]
    check_picture(found)
    assert boxes_run_through(found) == []
    assert found.boxes[0].is_start


@settings(max_examples=200, deadline=None)
@given(some.data())
def test_no_line_runs_through_a_step_and_no_text_over_another(data: Any) -> None:
    steps = [f"s{number}" for number in range(data.draw(some.integers(2, 12)))]
    ways = some.tuples(*[some.sampled_from(steps)] * 2)
    edges = data.draw(some.lists(ways, min_size=1, max_size=20, unique=True))
    waits = data.draw(some.dictionaries(some.sampled_from(edges), some.sampled_from(["later", "signal approved"])))
    found = picture(graph(steps, edges, waits))
    assert found is not None
    assert boxes_run_through(found) == []
    written = [each for each in found.arrows if each.wait]
    for number, one in enumerate(written):
        for other in written[:number]:
            is_apart = one.x + 6.6 * len(one.wait) <= other.x or other.x + 6.6 * len(other.wait) <= one.x
            assert is_apart or abs(one.y - other.y) >= 12


def test_where_a_run_is_or_has_ended_and_what_it_has_behind_it_is_marked() -> None:
    shown = graph(["a", "b", "c"], [("a", "b"), ("b", "c")])
    found = picture(shown, current="b", done=["a"]), picture(shown, current="c", mark="failed", done=["a", "b"])
    assert [[box.mark for box in each.boxes] for each in found if each] == [
        ["done", "current", ""],
        ["done", "done", "failed"],
    ]


def test_what_a_run_has_behind_it_is_told_where_the_graph_leaves_no_doubt() -> None:
    row = graph(["a", "b", "c", "d"], [("a", "b"), ("b", "c"), ("c", "d")])
    assert walked(row, "c", 2) == {0: "a", 1: "b", 2: "c"}
    assert walked(row, "a", 0) == {0: "a"}
    fork = graph(["a", "b", "c", "d"], [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    assert walked(fork, "d", 2) == {0: "a", 2: "d"}
    again = graph(["a", "b"], [("a", "b"), ("b", "b")])
    assert walked(again, "b", 3) == {0: "a", 1: "b", 2: "b", 3: "b"}


def test_of_a_graph_that_does_not_tell_all_nothing_follows() -> None:
    row = graph(["a", "b", "c"], [("a", "b"), ("b", "c")])
    assert walked(row, "c", 1) == {1: "c"}, "another version, or a step that was chosen as the run went"
    assert walked(row, "gone", 1) == walked(row, None, 0) == {}
    hidden = graph(["a", "b", "c", "d"], [("a", "b"), ("b", "d")])
    assert walked(hidden, "d", 2) == {2: "d"}, "no way is seen to c, so there are ways that are not seen"
    assert walked(graph(["a", "b"], [("a", "b"), ("b", "a")]), "b", 10**9 + 1) == {10**9 + 1: "b"}


def run(**changes: Any) -> RunStatus:
    values: dict[str, Any] = {
        "run_id": "r", "job_id": "j", "state": RunState.RUNNING, "current_step": 0, "attempts": 1,
        "submitted_at": NOW - timedelta(minutes=5), "finished_at": None, "headers": {}, "error": None,
    }  # fmt: skip
    return RunStatus(**{**values, **changes})


def happened(kind: EventKind, seconds: float, **more: Any) -> RunEvent:
    return RunEvent(NOW + timedelta(seconds=seconds), kind, **{"step": 0, **more})


def check_chart(chart: Any) -> None:
    right = chart.width - 12  # a margin
    for number, row in enumerate(chart.rows):
        assert 0 < row.y < chart.height and row.y == chart.rows[0].y + 24 * number
        for span in row.spans:
            assert span.x >= 200 and span.x + span.width <= right + 0.02 and span.width >= 3
        for left, next_ in pairwise(row.spans):
            assert left.x <= next_.x and left.x + left.width <= next_.x + next_.width
    for mark in (*chart.marks, *chart.ticks):
        assert 200 <= mark.x <= right
    assert 1 <= len(chart.ticks) <= 8
    xs = [tick.x for tick in chart.ticks]
    assert xs == sorted(xs) and chart.ticks[0].text == "0"
    assert len(chart.rows) <= 2 * MOST_ROWS + 1


moments = some.floats(-1e9, 1e9) | some.floats(-10, 10) | some.sampled_from([0.0, -300.0, 1e-3, -1e-6])


@settings(max_examples=200, deadline=None)
@given(some.data())
def test_whatever_happened_to_a_run_is_drawn_inside_its_time(data: Any) -> None:
    events = [
        happened(kind, at, step=step, attempt=attempt, outcome=outcome, detail="<d>")
        for kind, at, step, attempt, outcome in data.draw(some.lists(some.tuples(
            some.sampled_from(EventKind), moments, some.integers(0, 3), some.none() | some.integers(1, 3),
            some.sampled_from(["succeeded", "failed", "retried", "", "\u202e"])), max_size=60))
    ]  # fmt: skip
    finished = data.draw(some.none() | moments)
    submitted = data.draw(moments)
    children = [run(run_id=f"c{n}", submitted_at=NOW + timedelta(seconds=at)) for n, at in
                enumerate(data.draw(some.lists(moments, max_size=50)))]  # fmt: skip
    one = run(
        submitted_at=NOW + timedelta(seconds=submitted),
        finished_at=None if finished is None else NOW + timedelta(seconds=finished),
        waiting_for=data.draw(some.sampled_from([None, "time", "signal:x", "group:g", "limit:k"])),
    )
    check_chart(timeline(one, events, children, NOW))


def test_a_run_that_was_tried_twice_shows_both_attempts_and_the_wait_between() -> None:
    events = [
        happened(EventKind.SUBMITTED, -300), happened(EventKind.STARTED, -300, attempt=1),
        happened(EventKind.ENDED, -240, attempt=1, outcome="retried"), happened(EventKind.STARTED, -120, attempt=2),
    ]  # fmt: skip
    chart = timeline(run(), events, [], NOW)
    check_chart(chart)
    first, second = chart.rows
    assert [span.kind for span in first.spans] == ["warn"] and [span.kind for span in second.spans] == ["wait", "now"]
    assert second.spans[0].title == "waited for 2 min" and second.spans[1].title == "runs, 2 min"
    assert [tick.text for tick in chart.ticks] == ["0", "+1 min", "+2 min", "+3 min", "+4 min", "+5 min"]


def test_a_run_that_waits_shows_what_for_and_for_how_long() -> None:
    chart = timeline(run(state=RunState.PENDING, waiting_for="signal:go"), [], [], NOW)
    ((span,),) = [row.spans for row in chart.rows]
    assert (span.kind, span.title) == ("wait", "waits for signal go, 5 min")


def test_an_attempt_whose_end_is_missing_from_a_long_history_ends_with_the_next_or_with_the_run() -> None:
    events = [happened(EventKind.STARTED, -300 + 10 * number, attempt=number + 1) for number in range(3)]
    chart = timeline(run(state=RunState.FAILED, finished_at=NOW - timedelta(seconds=100)), events, [], NOW)
    check_chart(chart)
    assert [row.spans[-1].title for row in chart.rows] == ["ended, 10 s", "ended, 10 s", "ended, 3 min"]
    assert not [span for row in chart.rows for span in row.spans if span.kind == "now"]


def test_of_many_attempts_the_last_are_drawn_and_the_others_counted() -> None:
    events = []
    for number in range(100):
        events.append(happened(EventKind.STARTED, -300 + number, step=number, attempt=1))
        events.append(happened(EventKind.ENDED, -299.5 + number, step=number, attempt=1, outcome="continued"))
    chart = timeline(run(), events, [], NOW)
    check_chart(chart)
    assert chart.left_out == 60 and chart.rows[0].name == "step 60"


@pytest.mark.parametrize("seconds", [0, 0.001, 0.5, 3, 59, 61, 3_599, 86_401, 1e7, 3e9])
def test_the_scale_of_a_run_of_any_length_has_round_numbers(seconds: float) -> None:
    one = run(submitted_at=NOW - timedelta(seconds=seconds), state=RunState.SUCCEEDED, finished_at=NOW)
    chart = timeline(one, [], [], NOW)
    check_chart(chart)
    if seconds > 0.001:
        assert len(chart.ticks) >= 3, [tick.text for tick in chart.ticks]


@settings(max_examples=100, deadline=None)
@given(some.lists(some.tuples(some.integers(-70, 10), some.dictionaries(
    some.sampled_from([*(outcome.value for outcome in AttemptOutcome), "another"]), some.integers(0, 10**9))
), max_size=70))  # fmt: skip
def test_the_bars_of_an_hour_stay_in_their_box_and_count_what_they_show(
    found: list[tuple[int, dict[str, int]]],
) -> None:
    this = NOW.replace(second=0, microsecond=0)
    minutes = {at: MinuteActivity(this + timedelta(minutes=at), counts, {}) for at, counts in found}
    chart = activity(list(minutes.values()), NOW, width=180, height=28)
    inside = [each for at, each in minutes.items() if -MINUTES < at <= 0]
    assert sum(chart.total.values()) == sum(sum(by_kind(each.attempts).values()) for each in inside)
    assert chart.per_minute == sum(by_kind(minutes[-1].attempts).values()) if -1 in minutes else chart.per_minute == 0
    for bar in chart.bars:
        assert bar.x >= 0 and bar.x + bar.width <= chart.width
        for segment in bar.segments:
            assert segment.y >= -2 and segment.y + segment.height <= chart.height + 0.1 and segment.height >= 1
    assert [bar.x for bar in chart.bars] == sorted(bar.x for bar in chart.bars)


def test_every_outcome_of_an_attempt_is_counted_as_something() -> None:
    for outcome in AttemptOutcome:
        assert sum(by_kind({outcome.value: 1}).values()) == 1, outcome
