"""What one part of the laboratory did and saw; the soak adds them up and prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Figures:
    """Counts of one part. ``lost`` and ``doubled`` are violations, too: each has its sentence there."""

    part: str
    faults: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def expect(self, invariant: str, holds: bool, otherwise: str) -> None:
        """Count one look at an invariant; where it does not hold, keep the sentence that says so."""
        self.checked[invariant] += 1
        if not holds:
            self.violations.append(f"{invariant}: {otherwise}")

    def add(self, other: Figures) -> None:
        """Take over what another one counted."""
        self.faults += other.faults
        self.acknowledged += other.acknowledged
        self.lost += other.lost
        self.doubled += other.doubled
        self.checked += other.checked
        self.violations += other.violations
        self.notes += other.notes

    def assert_clean(self) -> None:
        """Fail with every violation, and fail too where nothing was looked at."""
        assert self.checked, f"{self.part}: no invariant was checked"
        assert not self.violations, f"{self.part}: {len(self.violations)} violations\n" + "\n".join(self.violations)


#: A long form: runs for about so many minutes in an empty directory of its own, and never raises for a violation.
LongForm = Callable[[float, Path], Figures]
