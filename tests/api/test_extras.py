"""Each extra installs alone in an empty environment, and what it is for works there; the core needs none of them."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.api.test_distribution import build, tree
from tests.docs.pages import ROOT

__all__ = ["tree"]

#: What an extra is for, as a line that works where it alone is installed.
USES = {
    "typed": "import taquba_workflow_sync.flow",
    "cli": "from taquba_workflow_sync.cli.main import cli; import taquba_workflow_sync.flow, cronsim",
    "console": "import taquba_workflow_sync.console.standalone, taquba_workflow_sync.cli.console",
    "cron": "from taquba_workflow_sync import *\n"
    "with Queue.temporary() as queue: WorkflowClient(queue).schedule('n', cron='0 3 * * *', spec=RunSpec())",
    "flask": "import taquba_workflow_sync.contrib.flask, taquba_workflow_sync.flow",
    "django": "import taquba_workflow_sync.contrib.django, taquba_workflow_sync.flow, django",
    "postgres": "import taquba_workflow_sync.storage.postgres.store",
    "prometheus": "import taquba_workflow_sync.contrib.prometheus",
    "otel": "from taquba_workflow_sync.contrib import otel; otel.instrument(); otel.uninstrument()",
    "sentry": "import taquba_workflow_sync.contrib.sentry",
}
#: For those who work on the library, or all of the others.
NOT_ALONE = {"test", "dev", "fuzz", "all"}


def extras() -> dict[str, str]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return dict(config["options.extras_require"])


def test_every_extra_has_something_that_it_is_for() -> None:
    assert extras().keys() - NOT_ALONE == USES.keys()


def test_all_brings_each_of_them() -> None:
    assert extras()["all"].strip() == f"taquba-workflow-sync[{','.join(sorted(USES))}]"


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("extra", ["", *USES])
def test_an_extra_installs_alone(tree: Path, tmp_path: Path, extra: str) -> None:
    wheel = build("wheel", tree, tmp_path)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv" / "bin" / "python"
    what = f"{wheel}[{extra}]" if extra else str(wheel)
    subprocess.run([python, "-m", "pip", "install", "--quiet", what], check=True, timeout=400, cwd=tmp_path)
    use = USES.get(extra, "import taquba_workflow_sync")
    subprocess.run([python, "-W", "error", "-c", use], check=True, timeout=120, cwd=tmp_path)
    listed = subprocess.run([python, "-m", "pip", "list"], check=True, timeout=120, capture_output=True, text=True)
    names = {line.split()[0].lower() for line in listed.stdout.splitlines()}
    others = {
        "flask", "django", "msgspec", "click", "prometheus-client", "opentelemetry-api", "sentry-sdk", "cronsim",
        "jinja2",
    }  # fmt: skip
    if not extra:
        assert not names & others
