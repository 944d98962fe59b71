"""Values that no option should have: every option of every command. Never a traceback, nothing new by who looks."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from taquba_workflow_sync import WorkflowClient
from taquba_workflow_sync.cli.main import cli
from taquba_workflow_sync.cli.options import DurationType, MomentType, PairType
from tests.cli.conftest import TARGET, Shell

LONG = "a" * 20_000
NINES = "9" * 400
#: What is no text of UTF-8, or nothing that C takes for a string, or a name that moves a cursor.
ODD = ["", "é", "a\0b", "\udcff", LONG, "\x1b[31m", "-1", "--", "{", "{x}", "[" * 5000]
NUMBERS = ["-1", "0", "1.5", "nan", "inf", "1e400", "9" * 30, NINES, "9" * 5000, "٣"]
DURATIONS = [*NUMBERS, "-1s", "nans", f"{NINES}w", "99999999w", f"{NINES}ms", f"0.{'0' * 400}1s", "٣s", "1s ", "1S"]
MOMENTS = [*DURATIONS, "0001-01-01", "9999-12-31T23:59:59", "2026-11-26T03:15+99:00", "2026-02-30", "٣"]
PAIRS = ["=", "=a", "a=", "é=é", "a=\0", "a=\udcff", "workflow.x=1", f"{LONG}=1", f"a={LONG * 4}"]
RATES = [
    "0/0s",
    "1/0s",
    "0/1s",
    f"{NINES}/1s",
    "1/99999999w",
    f"1/{NINES}s",
    "-1/1s",
    "nan/s",
    "1/",
    "/1s",
    "1",
    "٣/1s",
]
PATHS = ["@", "@dir", "@nowhere", "@a\0b", f"@{LONG}"]
PLACES = [
    "file",
    "file/below",
    "dir/nowhere/below",
    "a\0b",
    LONG,
    "/dev/null",
    "/proc/1/below",
    "/dev/null/x",
    "é\udcff",
]
JSON = ["null", "NaN", "1e999", '"\\ud800"', "{}", '{"id": 1}', '{"id": 1e99, "email": ""}', "[" * 20_000]
TARGETS = ["app", "os:sep", "os:abort.x", "builtins:object()", "tests.cli.flows:nothing", "é:é", ".:x", "a\0:b"]
CRON = ["61 * * * *", "* * * *", "@never", "* * * * * * *", "0 0 30 2 *", "L" * 5000]

CODES = {0, 1, 2, 3, 4, 75}
BASE = {
    "worker": [TARGET, "--until-idle"], "run": [TARGET, "--max-runtime", "0"], "submit": [TARGET],
    "runs list": [], "runs show": ["good"], "runs wait": ["good"], "runs tail": ["good"], "runs cancel": ["good"],
    "runs retry": ["bad"], "runs signal": ["later", "go"], "runs wake": ["good"],
    "dead list": [], "dead show": ["bad"], "dead requeue": ["good"], "dead drop": ["good"],
    "queues": [], "stats": ["--json"], "health": [], "doctor": [], "check": [], "migrate": [], "backup": ["dir"],
    "restore": ["file", "new"], "purge": ["--older-than", "1w"],
    "schedules list": [], "schedules add": ["x", "--every", "1h"], "schedules remove": ["x"],
    "schedules pause": ["x"], "schedules resume": ["x"], "schedules trigger": ["x"],
    "limits list": [], "limits set": ["--concurrency", "3"], "limits clear": [], "pause": [], "resume": [],
    "move": ["../store", "postgresql://127.0.0.1:1/nothing?connect_timeout=1"], "console": [],
}  # fmt: skip
MAKE_A_STORE = ("worker", "run", "submit", "schedules add", "limits set", "restore", "migrate", "move")


def commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


COMMANDS = dict(commands(cli))


def values(parameter: click.Parameter) -> list[str]:
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return [ODD[0], ODD[2], LONG]
    if isinstance(kind, click.types.IntParamType):
        return [*ODD, *NUMBERS]
    if isinstance(kind, DurationType):
        return [*ODD, *DURATIONS]
    if isinstance(kind, MomentType):
        return [*ODD, *MOMENTS]
    if isinstance(kind, PairType):
        return [*ODD, *PAIRS]
    match parameter.name:
        case "rate":
            return [*ODD, *RATES]
        case "given" | "payload":
            return [*ODD, *PATHS, *JSON]
        case "store" | "file" | "directory":
            return [*ODD[:4], *PLACES]
        case "target":
            return [*ODD, *TARGETS]
        case "cron":
            return [*ODD, *CRON]
        case _:
            return ODD


def calls(name: str, store: Path) -> Iterator[list[str]]:
    """Every call of a command with one bad value in it."""
    words, base = name.split(), BASE[name]
    in_it = ["--store", str(store)] if any(each.name == "store" for each in COMMANDS[name].params) else []
    positions = [each for each in COMMANDS[name].params if isinstance(each, click.Argument)]
    for parameter in COMMANDS[name].params:
        for value in values(parameter) if not getattr(parameter, "is_flag", False) else ():
            if isinstance(parameter, click.Argument):
                place = positions.index(parameter)
                rest = base[place + 1 : len(positions)]
                yield [*words, *in_it, *base[len(positions) :], "--", *base[:place], value, *rest]
                continue
            given = [] if parameter.name == "store" else in_it
            yield [*words, *base, *given, f"{parameter.opts[0]}={value}"]
            if parameter.name in ("given", "payload") and name in ("runs signal", "schedules add"):
                yield [*words, *base, *given, "--target", "tests.cli.flows:orders", f"{parameter.opts[0]}={value}"]
            elif parameter.name == "given":
                yield [*words, "tests.cli.flows:orders", *base[1:], *given, f"{parameter.opts[0]}={value}"]


def wrong(arguments: list[str]) -> str:
    """Return what is wrong with how a command took it; nothing: nothing is."""
    result = CliRunner(env={"TAQUBA_STORE": ""}).invoke(cli, arguments, input=b"\xff\0")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "".join(traceback.format_exception(result.exception)[-3:])
    if result.exit_code not in CODES:
        return f"it exits with {result.exit_code}: {result.stderr[-300:]}"
    if result.exit_code not in (0, 3) and not result.stderr.strip() and not result.stdout.strip():
        return f"it exits with {result.exit_code} and says nothing"
    if "Traceback" in result.stderr or len(result.stderr) > 4000 or "\x1b" in result.stderr:
        return result.stderr[:500]
    return ""


@pytest.fixture
def place(shell: Shell, work: Callable[[], None], client: WorkflowClient, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a store in it."""
    pytest.importorskip("msgspec")
    for run_id, word in (("good", b"x"), ("bad", b"dead"), ("later", b"later")):
        client.submit(run_id=run_id, input=word)
    work()
    here = shell.store.parent / "here"
    here.mkdir()
    (here / "file").write_text("x")
    (here / "dir").mkdir()
    monkeypatch.chdir(here)
    return here


@pytest.mark.soak
@pytest.mark.embedded
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"console"}))  # which serves; it has tests of its own
def test_a_bad_value_is_told_in_a_sentence(name: str, place: Path, shell: Shell) -> None:
    before = sorted(os.listdir(place))
    found = {}
    for arguments in calls(name, shell.store):
        said = wrong(arguments)
        if said:
            found[" ".join(each[:60] for each in arguments).encode(errors="backslashreplace")] = said
        made = [each for each in os.listdir(place) if each not in before]
        for each in made:
            shutil.rmtree(each, ignore_errors=True)
        if made and name not in (*MAKE_A_STORE, "backup"):
            found[" ".join(arguments)[:300].encode(errors="backslashreplace")] = f"it has made {made}"
    assert not found, "\n".join(f"{key.decode()}\n    {said}" for key, said in found.items())


@pytest.mark.embedded
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - set(MAKE_A_STORE)))
def test_a_mistyped_store_is_4_and_is_not_made(name: str, place: Path) -> None:
    before = sorted(os.listdir(place))
    for path in ("nowhere", "dir", "file", "nowhere/below"):
        variants = [[]] if name != "runs signal" else [[], ["--target", "tests.cli.flows:orders"], ["--target", TARGET]]
        for more in variants:
            arguments = [*name.split(), *BASE[name], *more, "--store", path]
            result = CliRunner(env={"TAQUBA_STORE": ""}).invoke(cli, arguments)
            assert (result.exit_code, result.stdout) == (4, ""), (arguments, result.stderr)
            assert "there is no store at" in result.stderr
            assert sorted(os.listdir(place)) == before and os.listdir(place / "dir") == []
