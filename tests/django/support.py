"""The shop of the examples, as other processes run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "django_shop"


def environment(data: Path, **more: str) -> dict[str, str]:
    """Return the environment of the shop with its data in a directory of its own."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "SHOP_DATA": str(data),
        "SHOP_DEBUG": "0",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def manage(data: Path, *arguments: str, code: int = 0, cwd: Path = SHOP, **more: str) -> str:
    """Run ``manage.py`` and return its stdout; it must exit with ``code``."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=cwd,
        env=environment(data, **more),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
