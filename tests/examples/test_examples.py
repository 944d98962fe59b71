"""Every example runs as a user runs it, and the quickstart survives kill -9 at any step."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.relational.sql.names import table

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TIMEOUT = 120  # seconds; ten times what the slowest example takes, and more

# What each example must print, in this order. A new example needs its line here: the test below says so.
EXPECTED = {
    "agent": ["OfflineModel", "step 0: read", "writing from", "model calls", "public domain"],
    "approval_delay": ["please approve", "not yet", "approved, transferring 250", "done after"],
    "cancel": ["is crawling; cancel: True", "cancelled after", "cancel: True", "never ran", "cancelled again: False"],
    "crash_resume": ["first worker", "step 5, attempt 1", "kill -9", "second worker", "step 5, attempt 2", "ran twice"],
    "cron_etl": ["two starts at once", "loaded 57 states", "0 steps done here", "8 steps ran, each once"],
    "exactly_once": ["workers killed", "steps that ended: 80", "counter: 80", "exactly once for each step"],
    "fan_out": [
        "step 0: 57 states",
        "56 measured, 1 failed",
        "1 tried again",
        "step 2: 57 measured",
        "57 states after 3",
    ],
    "fleet": ["ann: kill -9", "bob: cut off", "bob: back", "24 of 24 runs succeeded", "steps counted once: True"],
    "llm_agent": [
        "OfflineModel is asked",
        "kill -9 after call 1",
        "kill -9 after call 4",
        "attempt 4",
        "0 of them twice",
    ],
    "human_approval": ["the answer is", "is duplicate", "is succeeded", "is failed: nobody answered in time"],
    "multi_step": ["attempt 1: charge", "payment failed", "attempt 2: charge", "ship", "history: step 0 attempt 1"],
    "nightly": ["report: 15 3 * * *, next at 03:15 in Europe/Berlin", "fired: pulse 2", "triggered: 3376 airports"],
    "order_flow": [
        'charge"])',
        "expected str, got int",
        "charged for the tent",
        "kill -9",
        "second worker",
        "for the lamp, attempt 2",
        "piano on its way",
        "three charges in the ledger, each once",
    ],
    "progress": ["loading", "0 of 400", "now: running 1", "history of load-", "submitted", "started", "terminated"],
    "quickstart": ["pid ", "new run", "step  0  extract", "step 48  report", "3364 airports loaded", "table verified"],
    "rate_limited": ["two processes", "36 runs succeeded", "acme: at most 2 at once", "proved"],
    "single_step": ["step 0 of run", "12 words", "result: "],
    "webhook": ["answered 503, signature right: True", "answered 200, signature right: True"],
}


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a user who has the package installed, no key for a model, and no proxy."""
    unwanted = ("OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(unwanted)}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONWARNINGS": "error", **more}


def command(example: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{example}.py"), *arguments]


def run(example: str, *arguments: str, cwd: Path, **env: str) -> str:
    """Run an example to its end, demand that it succeeded in silence on stderr, and return what it printed."""
    done = subprocess.run(
        command(example, *arguments),
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


#: What has a longer form of the same: it is killed more often further down, and CI runs every example as it stands.
SHORTER = {"exactly_once": ("--kills", "3", "--runs", "8")}


@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_an_example_runs_on_its_own(example: str, tmp_path: Path) -> None:
    output = run(example, *SHORTER.get(example, ()), cwd=tmp_path)
    if output.startswith("no PostgreSQL here"):
        pytest.skip(output)
    position = 0
    for part in EXPECTED[example]:
        found = output.find(part, position)
        assert found >= 0, f"{part!r} is missing, or not in its place, in:\n{output}"
        position = found + len(part)


#: One stands for all, but in CI: twice five seconds and more for each.
TWICE = "fan_out"


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(name, marks=[] if name == TWICE else [pytest.mark.soak])
        for name in sorted(path.stem for path in EXAMPLES.glob("*.py"))
        if name != "fleet"  # which has a server of its own
    ],
)
def test_an_example_runs_twice_on_a_store_of_ones_own(example: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    quick = ["--pause", "0"] if example == "quickstart" else []
    for _ in range(2):
        run(example, "--store", str(store), *quick, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["store"], "an example writes into its store only"


# The quickstart, killed.

STEP_LINE = re.compile(r"^step +(\d+) ")
LAST_STEP = 48
SLOW_ENOUGH = ("--pause", "0.05")  # seconds a step: the kill comes long before the run can end


def steps_in(output: str) -> list[int]:
    return [int(found[1]) for line in output.splitlines() if (found := STEP_LINE.match(line))]


def run_quickstart_until(step: int, *arguments: str, cwd: Path) -> list[int]:
    """Start the quickstart, kill it with SIGKILL when it prints the given step, and return the steps it printed."""
    with subprocess.Popen(
        command("quickstart", *arguments), cwd=cwd, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        watchdog = threading.Timer(TIMEOUT, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if steps_in(line) == [step]:
                    process.send_signal(signal.SIGKILL)
                    break
            lines.extend(process.stdout)
            process.wait()
        finally:
            watchdog.cancel()
            watchdog.join()
    steps = steps_in("".join(lines))
    assert step in steps, f"it never came to step {step}: {lines}"
    return steps


def assert_goes_on(steps: list[int], killed_after: int) -> None:
    """A restart begins with the next step, or with the last one if the kill came before its end was recorded."""
    assert steps[0] in (killed_after, killed_after + 1)
    assert steps == list(range(steps[0], steps[-1] + 1)), "each once, and in order"


def right_position(row: dict[str, str]) -> tuple[float, float]:
    """The position of an airport: eight in the Pacific have lost a sign in the file."""
    latitude, longitude = float(row["latitude"]), float(row["longitude"])
    if row["state"] == "AS":
        latitude = -latitude
    return latitude, abs(longitude) if row["state"] in ("GU", "CQ") else longitude


def assert_table_is_right(database: Path) -> None:
    """Compare the loaded table with the CSV file, by nothing that the example has in it."""
    with (EXAMPLES / "data" / "airports.csv").open(encoding="utf-8", newline="") as file:
        source = [row for row in csv.DictReader(file) if row["state"] != "NA"]
    with closing(sqlite3.connect(database)) as db:
        table = db.execute("SELECT iata, name, city, state, latitude, longitude FROM airport ORDER BY iata").fetchall()
        rejected = db.execute("SELECT count(*), count(DISTINCT iata) FROM rejected").fetchone()
        nearest = dict(db.execute("SELECT iata, nearest_hub FROM airport WHERE km_to_hub = 0"))
        (twice,) = db.execute("SELECT count(*) - count(DISTINCT iata) FROM airport").fetchone()
    expected = [
        (row["iata"], row["name"], row["city"], row["state"], *right_position(row))
        for row in sorted(source, key=lambda row: row["iata"])
    ]
    assert table == expected
    assert twice == 0
    assert rejected == (12, 12)
    assert all(iata == hub for iata, hub in nearest.items()) and len(nearest) == 10


@pytest.mark.parametrize("step", [0, 11, 12, 20, 30, 40, 45])
def test_the_quickstart_goes_on_at_the_next_step_after_kill_9(step: int, tmp_path: Path) -> None:
    before = run_quickstart_until(step, *SLOW_ENOUGH, cwd=tmp_path)
    output = run("quickstart", "--pause", "0", cwd=tmp_path)

    assert_goes_on(steps_in(output), killed_after=before[-1])
    assert steps_in(output)[-1] == LAST_STEP
    assert "is under way: going on at step" in output
    assert "table verified" in output
    assert_table_is_right(tmp_path / "var" / "quickstart" / "airports.sqlite")


def test_the_quickstart_survives_kill_after_kill(tmp_path: Path) -> None:
    last = -1
    for _ in range(4):
        step = last + random.randint(2, 8)
        print(f"to be killed at step {step}")
        steps = run_quickstart_until(step, *SLOW_ENOUGH, cwd=tmp_path)
        assert_goes_on(steps, killed_after=last)
        last = steps[-1]
    output = run("quickstart", "--pause", "0", cwd=tmp_path)
    assert_goes_on(steps_in(output), killed_after=last)
    assert "table verified" in output
    assert_table_is_right(tmp_path / "var" / "quickstart" / "airports.sqlite")


def test_the_quickstart_says_when_it_has_finished_and_starts_afresh_when_told(tmp_path: Path) -> None:
    first = run("quickstart", "--pause", "0", cwd=tmp_path)
    second = run("quickstart", "--pause", "0", cwd=tmp_path)
    third = run("quickstart", "--pause", "0", "--fresh", cwd=tmp_path)

    assert steps_in(first) == list(range(LAST_STEP + 1))
    assert steps_in(second) == [] and "has already finished; --fresh does it again" in second
    assert steps_in(third) == list(range(LAST_STEP + 1))
    assert [text.splitlines()[-1] for text in (second, third)] == [first.splitlines()[-1]] * 2
    assert_table_is_right(tmp_path / "var" / "quickstart" / "airports.sqlite")


def test_two_quickstarts_at_once_share_the_steps_of_one_run(tmp_path: Path) -> None:
    outputs = run_at_once(command("quickstart", "--pause", "0.02"), times=2, cwd=tmp_path)

    assert sorted(steps_in("".join(outputs))) == list(range(LAST_STEP + 1))
    assert all("table verified" in output for output in outputs)
    assert_table_is_right(tmp_path / "var" / "quickstart" / "airports.sqlite")


# The others, where more than running them is to be seen.


def run_at_once(argv: list[str], times: int, cwd: Path) -> list[str]:
    """Start a command several times at the same moment, and return what each printed."""
    started = [
        subprocess.Popen(argv, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(times)
    ]
    try:
        ended = [process.communicate(timeout=TIMEOUT) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * times, ended
    assert [stderr for _, stderr in ended] == [""] * times
    return [stdout for stdout, _ in ended]


def test_a_counter_equals_the_steps_that_ended_however_often_a_worker_was_killed(tmp_path: Path) -> None:
    output = run("exactly_once", "--store", "store", "--kills", "8", "--runs", "16", cwd=tmp_path)
    killed = int(re.findall(r"^(\d+) workers killed", output, re.MULTILINE)[0])
    assert killed >= 4, "the proof is worth what it has survived"

    with closing(sqlite3.connect(tmp_path / "store" / "jobs" / "db" / "cache.db")) as db:
        (ended,) = db.execute(
            f"SELECT count(*) FROM {table('attempt')} WHERE outcome IN ('continued', 'succeeded')"
        ).fetchone()
        values = dict(db.execute(f"SELECT CAST(key AS TEXT), CAST(value AS INTEGER) FROM {table('kv')}"))
        (receipts,) = db.execute(f"SELECT count(DISTINCT payload) FROM {table('job')} WHERE run_id IS NULL").fetchone()
    (counter,) = (value for key, value in values.items() if key.endswith("/steps"))
    pockets = sum(value for key, value in values.items() if "/pocket/" in key)
    assert counter == pockets == receipts == ended == 160


def test_cron_etl_started_twice_at_once_does_the_work_once(tmp_path: Path) -> None:
    argv = command("cron_etl", "--store", "etl", "--date", "2026-11-22")
    outputs = run_at_once(argv, times=2, cwd=tmp_path)

    steps = re.findall(r"^\d+ step (\d+):", "".join(outputs), re.MULTILINE)
    assert sorted(steps) == list("01234567")
    assert sum(map(int, re.findall(r"(\d+) steps done here", "".join(outputs)))) == 8
    assert "run etl-2026-11-22 is succeeded" in "".join(outputs)
    with closing(sqlite3.connect(tmp_path / "etl" / "etl.sqlite")) as db:
        loaded = dict(db.execute("SELECT state, airports FROM airports"))
    with (EXAMPLES / "data" / "airports.csv").open(encoding="utf-8", newline="") as file:
        states = [row["state"] for row in csv.DictReader(file)]
    assert loaded == {state: states.count(state) for state in set(states)}


def test_cron_etl_does_another_day_anew(tmp_path: Path) -> None:
    outputs = [
        run("cron_etl", "--store", "etl", "--date", day, cwd=tmp_path)
        for day in ("2026-11-22", "2026-11-22", "2026-11-23")
    ]
    assert [re.findall(r"(\d+) steps done here", output) for output in outputs] == [["8"], ["0"], ["8"]]


class FakeChatService(ThreadingHTTPServer):
    """Speaks as much of OpenAI's chat completions as the agent uses; the first request meets a rate limit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeChatHandler)
        self.asked: list[dict[str, object]] = []
        self.keys: set[str | None] = set()
        self.statuses = iter([429])


class FakeChatHandler(BaseHTTPRequestHandler):
    server: FakeChatService

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = next(self.server.statuses, 200)
        if status == 200:
            self.server.asked.append({"path": self.path, **request})
            self.server.keys.add(self.headers["Authorization"])
        answer = f"answer {len(self.server.asked)}"
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def fake_chat_service() -> Iterator[FakeChatService]:
    with FakeChatService() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_the_agent_asks_a_model_over_http_when_there_is_a_key(tmp_path: Path) -> None:
    document = tmp_path / "notes.md"
    document.write_text("# Title\n\nFirst part.\n\nSecond part.\n")
    with fake_chat_service() as server:
        output = run(
            "agent",
            "What is it?",
            "--document",
            str(document),
            cwd=tmp_path,
            OPENAI_API_KEY="k-1",
            OPENAI_BASE_URL=f"http://127.0.0.1:{server.server_port}/v1",
            OPENAI_MODEL="m-1",
        )
    assert "ChatModel, 2 sections" in output
    assert output.endswith("What is it?\nanswer 3\n"), "two notes and the brief; the rate limit was only a delay"
    assert [(asked["path"], asked["model"]) for asked in server.asked] == [("/v1/chat/completions", "m-1")] * 3
    assert server.keys == {"Bearer k-1"}
    assert "answer 1\n\nanswer 2" in str(server.asked[-1]["messages"][-1]["content"])  # type: ignore[index]


def test_the_agent_answers_the_same_question_from_its_store(tmp_path: Path) -> None:
    first, second = (run("agent", "--store", "briefs", cwd=tmp_path) for _ in range(2))
    assert "\n0 model calls" not in first
    assert "\n0 model calls" in second
    assert first.splitlines()[-1] == second.splitlines()[-1]
