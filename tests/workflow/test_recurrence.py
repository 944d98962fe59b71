"""When schedules fire: the rules by themselves, held against a table written by hand and against Debian's cron."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from taquba_workflow_sync.clock import from_ms, to_ms
from taquba_workflow_sync.workflow.cron import NICKNAMES, Crontab
from taquba_workflow_sync.workflow.recurrence import MOST_MISSED, Between, Cron, Every, due
from taquba_workflow_sync.workflow.schedule import zone_of

from .debian_cron import firings

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def at(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


def cron(expression: str, zone: str = "UTC") -> Cron:
    return Cron(Crontab(expression), zone_of(zone))


def fires(expression: str, zone: str, begin: str, end: str) -> list[str]:
    """Every firing after one moment and before another, by the wall clock of the zone with its offset."""
    rule, found, moment = cron(expression, zone), [], at(begin)
    while (following := rule.after(moment)) is not None and following < at(end):
        assert following > moment, "a next time is strictly later"
        found.append(f"{from_ms(following).astimezone(zone_of(zone)):%d %H:%M %z}")
        moment = following
    return found


# By hand. The begin and the end are in UTC.
TABLE = [
    # Berlin, 29 March 2026: 02:00 +01 becomes 03:00 +02.
    ("30 2 * * *", "Europe/Berlin", "2026-03-28 00:00", "2026-03-31 00:00",
     ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]),
    ("0,30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 12:00", ["29 03:00 +0200"]),
    ("0 2,3 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 12:00", ["29 03:00 +0200"]),
    ("30 1,2,3 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 12:00",
     ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]),
    ("*/20 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 12:00", []),
    ("30 * * * *", "Europe/Berlin", "2026-03-28 23:45", "2026-03-29 02:45",
     ["29 01:30 +0100", "29 03:30 +0200", "29 04:30 +0200"]),
    ("0 */2 * * *", "Europe/Berlin", "2026-03-28 22:30", "2026-03-29 02:30", ["29 00:00 +0100", "29 04:00 +0200"]),
    # Berlin, 25 October 2026: 03:00 +02 becomes 02:00 +01.
    ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-26 12:00", ["25 02:30 +0200", "26 02:30 +0100"]),
    ("0 3 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-25 12:00", ["25 03:00 +0100"]),
    ("15,45 2-3 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-25 12:00",
     ["25 02:15 +0200", "25 02:45 +0200", "25 03:15 +0100", "25 03:45 +0100"]),
    ("30 * * * *", "Europe/Berlin", "2026-10-24 23:45", "2026-10-25 02:45",
     ["25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"]),
    ("*/30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-25 12:00",
     ["25 02:00 +0200", "25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100"]),
    # New York, 8 March and 1 November 2026.
    ("@daily", "America/New_York", "2026-03-07 12:00", "2026-03-10 12:00",
     ["08 00:00 -0500", "09 00:00 -0400", "10 00:00 -0400"]),
    ("15 2 * * 0", "America/New_York", "2026-03-01 12:00", "2026-03-16 12:00", ["08 03:00 -0400", "15 02:15 -0400"]),
    ("30 1 1 nov *", "America/New_York", "2026-10-01 00:00", "2027-12-01 00:00", ["01 01:30 -0400", "01 01:30 -0400"]),
    ("@hourly", "America/New_York", "2026-11-01 04:30", "2026-11-01 07:30",
     ["01 01:00 -0400", "01 01:00 -0500", "01 02:00 -0500"]),
    # Lord Howe changes by half an hour: 4 October 2026 02:00 becomes 02:30, 5 April 2026 02:00 becomes 01:30.
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02 16:00", "2026-10-05 00:00",
     ["04 02:30 +1100", "05 02:15 +1100"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04 00:00", "2026-04-06 00:00",
     ["05 01:45 +1100", "06 01:45 +1030"]),
    ("45 * * * *", "Australia/Lord_Howe", "2026-04-04 14:30", "2026-04-04 16:30",
     ["05 01:45 +1100", "05 01:45 +1030", "05 02:45 +1030"]),
    # Midnight itself is skipped: Beirut, 29 March 2026.
    ("0 0 * * *", "Asia/Beirut", "2026-03-27 23:00", "2026-03-30 12:00",
     ["29 01:00 +0300", "30 00:00 +0300"]),
    # Apia had no 30 December 2011. A day is a correction, so what was due on it is not made up for.
    ("0 3 * * *", "Pacific/Apia", "2011-12-28 14:00", "2011-12-31 12:00",
     ["29 03:00 -1000", "31 03:00 +1400"]),
    ("30 * * * *", "Pacific/Apia", "2011-12-30 08:45", "2011-12-30 11:45",
     ["29 23:30 -1000", "31 00:30 +1400", "31 01:30 +1400"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "zone", "begin", "end", "expected"), TABLE)
def test_where_the_clocks_change_it_fires_as_the_table_says(
    expression: str, zone: str, begin: str, end: str, expected: list[str]
) -> None:
    assert fires(expression, zone, begin, end) == expected


CHANGES = [
    ("Europe/Berlin", "2026-03-29 01:00"), ("Europe/Berlin", "2026-10-25 01:00"),
    ("America/New_York", "2026-03-08 07:00"), ("America/New_York", "2026-11-01 06:00"),
    ("Australia/Lord_Howe", "2026-10-03 15:30"), ("Australia/Lord_Howe", "2026-04-04 15:00"),
    ("Asia/Beirut", "2026-03-28 22:00"), ("America/Santiago", "2026-04-05 03:00"),
    ("Africa/Casablanca", "2026-02-15 02:00"), ("Africa/Casablanca", "2026-03-22 02:00"),
    ("Pacific/Apia", "2011-12-30 10:00"), ("America/Caracas", "2016-05-01 07:00"),
    ("Antarctica/Troll", "2026-03-29 01:00"), ("Antarctica/Troll", "2026-10-25 01:00"), ("UTC", "2026-03-29 01:00"),
]  # fmt: skip


def _some_expression(chance: random.Random) -> str:
    def field(least: int, most: int) -> str:
        some = sorted(chance.sample(range(least, most + 1), chance.randint(1, 3)))
        return chance.choice(["*", f"*/{chance.randint(2, 7)}", str(some[0]), ",".join(map(str, some))])

    hours = chance.choice([field(0, 3), field(0, 3), "1-3", "2", "*", "*/2"])
    days = chance.choice(["*", "*", "29,30,31", "25-30", "1,8"])
    return f"{field(0, 59)} {hours} {days} * {chance.choice(['*', '*', 'sun', '1-5'])}"


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_around_a_change_every_expression_fires_as_under_debians_cron(zone: str, change: str) -> None:
    chance = random.Random(f"{zone} {change}")
    begin, end = (datetime.fromisoformat(change).replace(tzinfo=UTC) + timedelta(days=days) for days in (-2, 2))
    for _ in range(12):
        expression = _some_expression(chance)
        rule, found, moment = cron(expression, zone), [], to_ms(begin)
        while (following := rule.after(moment)) is not None and following < to_ms(end):
            found.append(from_ms(following))
            moment = following
        assert found == list(firings(expression, zone, begin, end)), expression


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_a_next_time_is_the_first_of_those_later_than_any_watermark(zone: str, change: str) -> None:
    chance = random.Random(f"{change} {zone}")
    begin = datetime.fromisoformat(change).replace(tzinfo=UTC) - timedelta(hours=5)
    end = begin + timedelta(days=3)
    for _ in range(5):
        expression = _some_expression(chance)
        every = [to_ms(each) for each in firings(expression, zone, begin, end)]
        rule = cron(expression, zone)
        for _ in range(40):
            watermark = to_ms(begin) + chance.randint(0, 10 * HOUR)
            following = rule.after(watermark)
            assert following is None or following > watermark
            later = [each for each in every if each > watermark]
            if later:
                assert following == later[0], (expression, from_ms(watermark))


def test_a_year_is_crossed_from_one_summer_time_to_another() -> None:
    assert fires("30 12 1 jul *", "Europe/Berlin", "2026-01-01", "2029-01-01") == ["01 12:30 +0200"] * 3
    assert fires("0 0 29 2 *", "America/New_York", "2026-01-01", "2033-01-01") == ["29 00:00 -0500"] * 2


def test_either_of_two_days_will_do_unless_one_begins_with_a_star() -> None:
    assert fires("0 0 13 * fri", "UTC", "2026-11-01", "2026-11-21") == [
        "06 00:00 +0000", "13 00:00 +0000", "20 00:00 +0000",
    ]  # fmt: skip
    assert fires("0 0 */13 * fri", "UTC", "2026-11-01", "2027-03-01") == [
        "27 00:00 +0000", "01 00:00 +0000",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NICKNAMES)
def test_a_nickname_stands_for_five_fields(name: str) -> None:
    for text in (name, name.upper(), f" {name} "):
        assert cron(text).after(at("2026-11-22")) == cron(NICKNAMES[name]).after(at("2026-11-22"))


def test_names_of_months_and_days_may_be_written_either_way() -> None:
    for text in ("0 6 * jan mon-fri", "0 6 * JAN MON-FRI", "0 6 * 1 1-5"):
        assert cron(text).after(at("2026-11-22")) == at("2027-01-01 06:00")
    assert (
        cron("0 6 * * sun").after(at("2026-11-22"))
        == cron("0 6 * * 7").after(at("2026-11-22"))
        == at("2026-11-22 06:00")
    )


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("60 * * * *", "minute field '60'"),
        ("a * * * *", "minute field 'a'"),
        ("*/0 * * * *", "minute field"),
        ("5-1 * * * *", "minute field '5-1'"),
        ("1,,2 * * * *", "minute field"),
        ("0 24 * * *", "hour field '24'"),
        ("0 -1 * * *", "hour field"),
        ("0 0 0 * *", "day of month field '0'"),
        ("0 0 32 * *", "day of month field '32'"),
        ("0 0 mon * *", "day of month field 'mon'"),
        ("0 0 * 13 *", "month field '13'"),
        ("0 0 * january *", "month field 'january'"),
        ("0 0 * * 8", "day of week field '8'"),
        ("0 0 * * mon#6", "day of week field"),
        ("0 0 * * jan", "day of week field 'jan'"),
        ("0 0 30 2 *", "never comes.*day of month"),
        ("0 0 31 feb,apr *", "never comes"),
        ("0 0 * *", "has 4 fields; it must have five: minute, hour, day of month, month, day of week"),
        ("0 0 0 * * *", "has 6 fields"),
        ("", "has 0 fields"),
        ("@reboot", "no nickname"),
        ("@daily 3", "has 2 fields"),
        ("1," * 2000 + "1 * * * *", "characters"),
        ("\u0661 * * * *", "minute field"),
        ("9" * 900 + " * * * *", "minute field"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_field_that_is_wrong(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Crontab(expression)


def test_every_fires_at_its_first_moment_and_each_interval_after_it() -> None:
    rule = Every(1_000, 300)
    assert [rule.after(ms) for ms in (-5, 999, 1_000, 1_001, 1_299, 1_300, 9_999)] == [
        1_000, 1_000, 1_300, 1_300, 1_300, 1_600, 10_000,
    ]  # fmt: skip


def test_start_is_inclusive_and_until_is_not() -> None:
    hourly = cron("@hourly")
    bounded = Between(hourly, at("2026-11-22 10:00"), at("2026-11-22 12:00"))
    assert bounded.after(at("2026-11-22 00:00")) == at("2026-11-22 10:00")
    assert bounded.after(at("2026-11-22 10:00")) == at("2026-11-22 11:00")
    assert bounded.after(at("2026-11-22 11:00")) is None


# Catch-up


EVERY_MINUTE = Every(0, MINUTE)


def test_what_is_due_of_one_is_the_latest_missed_or_not() -> None:
    assert due(EVERY_MINUTE, 0, 10 * MINUTE + 5, "one") == [10 * MINUTE]
    assert due(Every(0, DAY), 0, 9 * DAY + 8 * HOUR, "one") == [9 * DAY]
    assert due(EVERY_MINUTE, 10 * MINUTE, 10 * MINUTE + 5, "one") == []


def test_what_is_due_of_all_is_the_last_thousand() -> None:
    assert due(EVERY_MINUTE, 0, 3 * MINUTE, "all") == [MINUTE, 2 * MINUTE, 3 * MINUTE]
    found = due(EVERY_MINUTE, 0, 5_000 * MINUTE, "all")
    assert len(found) == MOST_MISSED and found[0] == 4_001 * MINUTE and found[-1] == 5_000 * MINUTE


def test_what_is_due_of_none_is_what_is_late_by_sixty_seconds_at_most() -> None:
    daily = Every(0, DAY)
    assert due(daily, 0, DAY + 60_000, "none") == [DAY]
    assert due(daily, 0, DAY + 60_001, "none") == []
    assert due(Every(0, 20_000), 0, DAY, "none") == [DAY - 60_000, DAY - 40_000, DAY - 20_000, DAY]


@pytest.mark.parametrize("catch_up", ["one", "all", "none"])
@pytest.mark.parametrize("expression", ["* * * * *", "@yearly", "0 0 29 2 *", "*/5 3 * * *"])
def test_a_long_absence_is_looked_through_from_its_end(expression: str, catch_up: str) -> None:
    rule = cron(expression, "Europe/Berlin")
    watermark, now = at("2004-03-01"), at("2026-11-22 03:10:30")
    found = due(rule, watermark, now, catch_up)
    moments, moment = [], now - 400 * DAY if expression != "0 0 29 2 *" else watermark
    if expression in ("* * * * *", "*/5 3 * * *"):
        moment = now - (2 * DAY if expression == "* * * * *" else 120 * DAY)
    while (following := rule.after(moment)) is not None and following <= now:
        moments.append(following)
        moment = following
    match catch_up:
        case "one":
            assert found == moments[-1:]
        case "all":
            assert found[-len(moments[-1_000:]) :] == moments[-1_000:]
            assert len(found) == (1_000 if expression.startswith("*") else {"@yearly": 22, "0 0 29 2 *": 5}[expression])
        case "none":
            assert found == [each for each in moments if now - each <= 60_000]


def test_a_watermark_that_no_clock_has_shown_ends_the_search_all_the_same() -> None:
    assert due(cron("@yearly"), -(2**62), at("2026-11-22"), "one") == [at("2026-01-01")]
    assert len(due(cron("@yearly"), -(2**62), at("2026-11-22"), "all")) == 50


def test_there_is_nothing_beyond_the_calendar() -> None:
    assert cron("0 0 1 1 *", "Europe/Berlin").after(at("9999-12-31")) is None
    assert cron("* * * * *", "Pacific/Apia").after(2**62) is None
    assert Between(Every(0, DAY), None, None).after(at("9999-12-31 12:00")) is None
