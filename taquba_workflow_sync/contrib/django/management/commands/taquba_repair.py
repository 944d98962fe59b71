"""``manage.py taquba_repair``: submits the runs that ``@flow.missing`` yields and that there is none of."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser

from taquba_workflow_sync.contrib.django.checks import TAG
from taquba_workflow_sync.contrib.django.discovery import flows
from taquba_workflow_sync.contrib.django.repair import repair
from taquba_workflow_sync.contrib.django.untyped import Untyped

if TYPE_CHECKING:
    _BaseCommand = Untyped
else:
    from django.core.management.base import BaseCommand as _BaseCommand


class Command(_BaseCommand):
    """Repairs every flow, or those named; safe to repeat, also beside itself."""

    help = "Submit the runs that should exist, by the functions under @flow.missing, and do not. Safe to repeat."
    requires_system_checks: list[str] = [TAG]  # noqa: RUF012  # as Django has it

    def add_arguments(self, parser: CommandParser) -> None:
        """Take which flows, and how to tell."""
        parser.add_argument("flows", nargs="*", metavar="FLOW", help="names of flows; default: all that have a missing")
        parser.add_argument("--dry-run", action="store_true", help="only tell which runs are missing")
        parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Repair; exits 3 if a run could not be submitted, or a flow not be asked, 4 if there is no such flow."""
        known = {flow.name for flow in flows()}
        unknown = [name for name in options["flows"] if name not in known]
        if unknown:
            text = f"there is no flow {unknown[0]!r}; there are {', '.join(sorted(known)) or 'none'}"
            raise CommandError(text, returncode=4)
        # Of one name there may be a flow in each store.
        chosen = [flow for flow in flows() if not options["flows"] or flow.name in options["flows"]]
        done, failed = 0, 0
        for flow in chosen:
            for each in repair(flow, dry_run=options["dry_run"]):
                failed += each.error is not None
                done += each.error is None
                self._tell(asdict(each), options)
        if not options["as_json"]:
            verb = "missing" if options["dry_run"] else "submitted"
            self.stdout.write(f"{done} {verb}" + (f", {failed} failed" if failed else ""))
        if failed and getattr(self, "_called_from_command_line", False):
            sys.exit(3)
        if failed:
            raise CommandError(f"{failed} could not be submitted; what each says is above", returncode=3)

    def _tell(self, found: dict[str, Any], options: dict[str, Any]) -> None:
        if options["as_json"]:
            self.stdout.write(json.dumps(found))
        elif found["error"] is not None:
            which = found["flow"] if found["run_id"] is None else f"{found['flow']} {found['run_id']}"
            self.stderr.write(f"{which}: {found['error']}")
        else:
            self.stdout.write(f"{found['flow']} {found['run_id']}")
