"""Mutants of SQL: each statement with one conjunct of a WHERE taken away."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.mutants.mutant import ROOT, Mutant

_SQL = ROOT / "taquba_workflow_sync" / "storage" / "relational" / "sql"
#: The statements whose guards the promises stand on, and where they are.
FILES = ("fence.py", "claims.py", "jobs.py", "memo.py", "kv.py", "effects.py")
_BEGIN = re.compile(r"WHERE | AND ")
_NEXT = re.compile(r"\s+(AND|ORDER|LIMIT|RETURNING|UNION)\b")
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
        # The predicates of the door stand alone, without a WHERE.
        starts = [match.end() for match in _BEGIN.finditer(text)] + [
            match.end() for match in re.finditer(r'^_(?:HOLDS|HOLD|WAITS): Final = f?"', text, re.MULTILINE)
        ]
        for start in sorted(starts):
            conjunct = _conjunct(text, start)
            line = text[text.rfind("\n", 0, start) + 1 : start]
            # A predicate with a name of its own is broken where it stands.
            if not conjunct or conjunct in HARMLESS or "{_" in conjunct or line.lstrip().startswith("#"):
                continue
            # A value that is bound must stay bound.
            broken = " AND ".join(["? IS NOT NULL"] * conjunct.count("?")) or "1"
            changed = text[:start] + broken + text[start + len(conjunct) :]
            number = text.count("\n", 0, start) + 1
            yield Mutant(f"{name}:{number} without «{' '.join(conjunct.split())}»", path, changed)


def _conjunct(text: str, start: int) -> str:
    depth = 0
    for at in range(start, len(text)):
        character = text[at]
        if character == '"' or (character == ")" and depth == 0):
            return text[start:at]
        depth += (character == "(") - (character == ")")
        if depth == 0 and _NEXT.match(text, at):
            return text[start:at]
    return ""
