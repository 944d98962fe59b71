"""Power cuts at random instants of a recorded scenario; see the package's docstring for the model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import interpose
from tests.faults.figures import Figures
from tests.faults.power import cuts
from tests.faults.power.scenario import LIES

_MISSING = interpose.missing()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with cuts.scratch(tmp_path) as directory:
        yield directory


@pytest.mark.parametrize(("durability", "wanted"), [("full", 60), ("relaxed", 40)])
def test_a_power_cut_leaves_a_sound_store_with_all_that_was_promised(place: Path, durability: str, wanted: int) -> None:
    """With ``full`` whatever was acknowledged is there, with ``relaxed`` only a suffix of the commits is missing."""
    chance = random.Random(1)
    figures = Figures("power")
    recorded = cuts.record(cuts.new_directory(place), durability=durability, seed=1, runs=3)
    count = cuts.cut(recorded, place, figures, wanted=wanted, chance=chance, run_on_every=30)
    # And once more, over the recovery from one of the cuts and what was done after it.
    following = cuts.record_next(cuts.new_directory(place), recorded, chance, figures, "next")
    assert following is not None
    count += cuts.cut(following, place, figures, wanted=10, chance=chance, run_on_every=30)
    figures.assert_clean()
    assert count == figures.faults[cuts.FAULT] == wanted + 10
    assert figures.checked["an acknowledged submit"] and figures.checked["runs to the end"] >= 2
    doubts = {kind for name in figures.checked if " with " in name for kind in name.split()[2].split("+")}
    assert doubts >= {"log", "database", "names", "journal"}, "some kinds of instants were never hit"
    assert figures.checked["cut that undid commits"], "no cut lost anything: the model is too kind"


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_a_power_cut_leaves_nothing_of_a_feature_half_done(place: Path, durability: str) -> None:
    """What the step's end or the call has acknowledged is there, with ``full``; with either, whole or not at all."""
    chance = random.Random(2)
    figures = Figures("power")
    recorded = cuts.record_one(cuts.new_directory(place), durability=durability, seed=2, runs=1, script=cuts.FEATURES)
    count = cuts.cut(recorded, place, figures, wanted=20, chance=chance, run_on_every=10)
    figures.assert_clean()
    assert count == 20
    seen = (
        "an effect is its step's end",
        "a group is opened by its step's end",
        "no signal is lost",
        "a commit is whole",
    )
    assert all(figures.checked[each] for each in (*seen, "a memo keeps its value", "a moment has one run"))
    assert figures.checked["runs to the end"] >= 2


def test_a_recording_is_cut_however_late_it_is(place: Path) -> None:
    recorded = cuts.record_one(cuts.new_directory(place), runs=1)
    figures = Figures("power")
    assert cuts.cut(recorded, place, figures, wanted=30, chance=random.Random(1), until=0, least=5) == 5
    figures.assert_clean()


@pytest.mark.parametrize("how", ["killed", "overtaken"])
def test_a_store_survives_whose_maker_was_stopped_while_making_its_directories(place: Path, how: str) -> None:
    """Who finds a directory cannot know whether its maker came to make its name durable."""
    stage = cuts.PowerStage(place, durability="full", seed=1)
    try:
        rule = stage.recorder.add(
            "fsync", only="directories", times=1, kills=how == "killed", pauses=how == "overtaken"
        )
        maker = stage.start("maker", runs=1, threads=1)
        if how == "killed":
            stage.end(maker, -9)
        else:
            rule.wait_paused()
        stage.end(stage.start("next", runs=2, threads=1))
        recorded = stage.recorded()
        rule.release()
        if how == "overtaken":
            stage.end(maker)
    finally:
        stage.close()
    figures = Figures("power")
    cuts.cut(recorded, place, figures, wanted=1_000, chance=random.Random(1), everywhere=True, run_on_every=1_000)
    figures.assert_clean()
    assert figures.checked["an acknowledged submit"]


def test_after_a_power_cut_the_owner_of_each_claim_is_known_to_be_dead(place: Path) -> None:
    """Its lock file is there, or its claims would wait for their leases: minutes, where a second is promised."""
    recorded = cuts.record_one(cuts.new_directory(place))
    assert cuts.find_unknown_owners(recorded, place / "look") == set()


@pytest.mark.parametrize("lie", [None, *LIES])
def test_the_simulation_finds_out_who_lies(place: Path, lie: str | None) -> None:
    """A process that does not sync, does not sync directories, or answers before its COMMIT is caught each time."""
    figures = Figures("power")
    recorded = cuts.record_one(cuts.new_directory(place), lie=lie, runs=2)
    cuts.cut(recorded, place, figures, wanted=1_000, chance=random.Random(1), everywhere=True, run_on_every=1_000)
    assert figures.acknowledged
    if lie is None:
        figures.assert_clean()
    else:
        assert figures.lost, f"{lie}: nothing was lost"
        assert any(each.startswith("an acknowledged submit") for each in figures.violations)


def test_relaxed_durability_is_weaker_and_the_simulation_sees_it(place: Path) -> None:
    """What ``full`` promises, ``relaxed`` does not keep: judged by the promise of ``full`` it loses runs."""
    recorded = cuts.record_one(cuts.new_directory(place), durability="relaxed", runs=1)
    figures = Figures("power")
    judged = cuts.judged_as(recorded, "full")
    cuts.cut(judged, place, figures, wanted=1_000, chance=random.Random(1), everywhere=True, run_on_every=1_000)
    assert figures.lost
