"""What flows need is said where it is missing, and brought along by nothing else."""

from __future__ import annotations

import subprocess
import sys


def test_without_msgspec_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['msgspec'] = None\nimport taquba_workflow_sync\nimport taquba_workflow_sync.flow"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.splitlines()[-1] == "ImportError: flows need msgspec: pip install 'taquba-workflow-sync[typed]'"


def test_flows_import_no_pydantic() -> None:
    code = "import sys, taquba_workflow_sync.flow; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
