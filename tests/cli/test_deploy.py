"""The units, the crontab and the manifests of examples/deploy, by those who read them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from taquba_workflow_sync import Queue, RunState, WorkflowClient
from taquba_workflow_sync.cli.main import cli
from taquba_workflow_sync.workflow.cron import Crontab
from tests.cli.processes import ROOT
from tests.support import wait_until

DEPLOY = ROOT / "examples" / "deploy"
_JOB = re.compile(r"((?:\S+ +){5})(\S+) +(.*)")


def lines_of_crontab() -> Iterator[tuple[str, str]]:
    for line in (DEPLOY / "crontab").read_text().splitlines():
        if line and line[0] in "0123456789*":
            found = _JOB.fullmatch(line)
            assert found is not None, line
            yield found.group(1).strip(), found.group(3)


def commands() -> Iterator[list[str]]:
    """Every call of the command in the examples, as its arguments."""
    for _, command in lines_of_crontab():
        words = shlex.split(command.partition(">")[0])
        yield words[words.index(".venv/bin/taquba-workflow") + 1 :]
    for path in DEPLOY.glob("*.service"):
        for line in path.read_text().splitlines():
            if line.startswith("ExecStart="):
                words = shlex.split(line)
                yield words[words.index("taquba-workflow") + 1 :]
    for found in re.findall(r"command: \[taquba-workflow, (.*?)\]", (DEPLOY / "kubernetes.yaml").read_text()):
        yield [word.strip().strip('"') for word in found.split(",")]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@pytest.mark.parametrize("unit", sorted(path.name for path in DEPLOY.glob("taquba-*")))
def test_systemd_finds_nothing_wrong_with_the_units(unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(DEPLOY / unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_crontab_has_times_that_cron_knows_and_no_percent_sign() -> None:
    pytest.importorskip("cronsim")
    found = list(lines_of_crontab())
    assert len(found) == 3
    for expression, command in found:
        Crontab(expression)
        assert "%" not in command


def test_the_examples_call_what_is_there() -> None:
    found = list(commands())
    assert {words[0] for words in found} == {"run", "worker", "health"}
    for words in found:
        help_text = CliRunner().invoke(cli, [words[0], "--help"]).stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in help_text, option


def test_the_manifests_are_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    kinds = [each["kind"] for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())]
    assert kinds == ["PersistentVolumeClaim", "Deployment", "CronJob"]


@pytest.mark.soak
@pytest.mark.embedded
@pytest.mark.timeout(240)
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("cron") is None or shutil.which("unshare") is None,
    reason="needs root and Debian's cron",
)
def test_debians_cron_runs_the_nightly_line_and_is_quiet_about_it(tmp_path: Path) -> None:
    store, said = tmp_path / "store", tmp_path / "said"
    Queue.open(store).close()
    crontab = tmp_path / "crontab"
    crontab.write_text(
        f"TAQUBA_STORE={store}\nPYTHONPATH={ROOT}\n"
        f"* * * * * root cd {ROOT} && {sys.executable} -m taquba_workflow_sync run 'tests.cli.apps:runtime()'"
        f" --run-id 'nightly-{{date}}' --max-runtime 50m --quiet >>{said} 2>&1; echo ended $? >>{said}\n"
    )
    crontab.chmod(0o644)
    # In mounts of its own, so that no crontab of this machine is read, and this one by nobody else's cron.
    script = textwrap.dedent(
        f"""
        set -e
        for each in /etc/cron.d /var/spool/cron /run; do mount -t tmpfs none $each; done
        mkdir -p /var/spool/cron/crontabs
        : > {tmp_path}/none && mount --bind {tmp_path}/none /etc/crontab
        cp {crontab} /etc/cron.d/taquba
        exec cron -f
        """
    )
    cron = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: cron.poll() is not None or said.exists(), "cron's minute", limit=150)
        assert cron.poll() is None, cron.communicate()[1]
        wait_until(lambda: "ended" in said.read_text(), "the end of the call")
    finally:
        cron.terminate()
        cron.wait(30)
    assert said.read_text() == "ended 0\n"
    with Queue.open(store) as queue:
        (run,) = WorkflowClient(queue).list_runs(prefix="nightly-").runs
        assert run.state is RunState.SUCCEEDED
