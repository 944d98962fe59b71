"""Names of runs after the moment: ``nightly-{date}``."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import click

_PARTS: Final = {
    "date": "%Y-%m-%d", "year": "%Y", "month": "%m", "day": "%d", "week": "%G-W%V", "hour": "%H", "minute": "%M",
}  # fmt: skip


def run_id_at(pattern: str, moment: datetime) -> str:
    """Return a run id: a pattern with its ``{date}``, ``{hour}`` and so on filled in, for a moment in local time.

    Raises:
        click.UsageError: it names a part that there is not.
    """

    def part(found: re.Match[str]) -> str:
        form = _PARTS.get(found.group(1))
        if form is None:
            raise click.UsageError(
                f"--run-id has {found.group()}; it may have {', '.join(f'{{{name}}}' for name in _PARTS)}"
            )
        return moment.strftime(form)

    return re.sub(r"\{([^{}]*)\}", part, pattern)
