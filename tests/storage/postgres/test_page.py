"""The program on the page about transactions runs, and prints what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, blocks


def test_the_program_of_the_page_prints_what_it_says(url: str, tmp_path: Path) -> None:
    (program,) = [block.text for block in blocks("docs/features/transactions.md") if block.file == "shop.py"]
    # The page's store has a database of its own; here many share one.
    program = program.replace("psycopg.connect(URL)", "psycopg.connect(URL.partition('&schema')[0])")
    for name in ("orders", "payments"):
        program = program.replace(f"TABLE {name}", f"TABLE page_{name}").replace(f"INTO {name}", f"INTO page_{name}")
    program = program.replace("FROM payments", "FROM page_payments")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SHOP_DATABASE": url}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == re.findall(r"# -> (.+)$", program, re.MULTILINE), done.stderr
