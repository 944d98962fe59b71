"""Mutants of SQL: each statement with one conjunct of a WHERE taken away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.mutants.mutant import ROOT, Mutant

_SQL = ROOT / "taquba_workflow_sync" / "storage" / "embedded" / "sql"
#: The statements whose guards the promises stand on, and where they are.
FILES = ("fence.py", "claims.py", "jobs.py")
_CONJUNCT = re.compile(r"(?:(?<= AND )|(?<=WHERE ))[^\n\"]*?(?= AND |\"|\n| ORDER| LIMIT| RETURNING|\))")
#: Conjuncts that guard nothing, and why.
HARMLESS = {
    "status = 'pending'": "what an index holds, said again so that the statement may use the index",
    "due_ms IS NOT NULL": "what an index holds, said again",
    "lease_until_ms IS NOT NULL": "what an index holds, said again",
    "expires_ms IS NOT NULL": "what an index holds, said again",
}


def mutants() -> Iterator[Mutant]:
    """Each conjunct that can be taken away by itself."""
    for name in FILES:
        path = _SQL / name
        text = path.read_text()
        for match in _CONJUNCT.finditer(text):
            conjunct = match.group().strip()
            line = text.count("\n", 0, match.start()) + 1
            if not conjunct or conjunct in HARMLESS or _is_comment(text, match.start()):
                continue
            values = conjunct.count("?")
            # A value that is bound must stay bound: it is compared with itself.
            broken = " AND ".join(["? IS NOT NULL"] * values) or "1"
            changed = (
                text[: match.start()]
                + text[match.start() : match.end()].replace(conjunct, broken)
                + text[match.end() :]
            )
            yield Mutant(f"{name}:{line} without «{conjunct}»", Path(path), changed)


def _is_comment(text: str, place: int) -> bool:
    return text[text.rfind("\n", 0, place) + 1 : place].lstrip().startswith("#")
