"""``manage.py taquba_worker``: runs the steps of the project's flows, and its tasks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from taquba_workflow_sync.contrib.django.commands import HandingOver, alias_of
from taquba_workflow_sync.contrib.django.worker import KEEPS_OPEN, TARGET, TARGET_VARIABLE, USING_VARIABLE, check_target

#: With these it ends by itself, or begins anew by itself.
_ENDING = ("--until-idle", "--max-runs", "--max-runtime", "--processes", "--reload", "--help", "-h")


class Command(HandingOver):
    """Runs steps until SIGTERM or Ctrl-C; begins anew when the code changes, while DEBUG is on."""

    help = "Run the steps of every flow found and the tasks, or of TARGET, MODULE:NAME of a Flow or a list of them."
    command = "worker"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what is not the command line's."""
        super().add_arguments(parser)
        parser.add_argument("--noreload", action="store_true")

    def run(self, arguments: Sequence[str], options: dict[str, Any]) -> int:
        """Run the worker."""
        from taquba_workflow_sync.cli.main import cli

        rest = list(arguments)
        target = _target_of(rest)
        if target is not None:
            rest.remove(target)
            try:
                check_target(target)
            except ImproperlyConfigured as error:
                raise CommandError(str(error), returncode=1) from error
        # A process that is begun anew finds its settings by the variable alone.
        has_settings = bool(os.environ.get("DJANGO_SETTINGS_MODULE"))
        reloads = settings.DEBUG and has_settings and not options.get("noreload") and not _has(rest, _ENDING)
        changes = {TARGET_VARIABLE: target, USING_VARIABLE: alias_of(options) if options.get("using") else None}
        if reloads or _has(rest, ("--processes",)):
            # What sys.path has here, the processes that it starts have, too.
            changes["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))
        token = KEEPS_OPEN.set(not getattr(self, "_called_from_command_line", False))
        try:
            with _environment(changes):
                if reloads:
                    return self._reloading(rest)
                return int(cli.main(["worker", TARGET, *rest], prog_name="taquba-workflow", standalone_mode=False) or 0)
        finally:
            KEEPS_OPEN.reset(token)

    def _reloading(self, arguments: list[str]) -> int:
        from taquba_workflow_sync.cli.processes import supervise
        from taquba_workflow_sync.cli.reload import Watch
        from taquba_workflow_sync.cli.stopping import Stop

        watches = [Watch(root) for root in source_roots()]
        self.stderr.write("DEBUG is on: the worker begins anew when a Python file of the project changes")
        ended = supervise(
            [TARGET, *arguments],
            1,
            Stop(),
            grace=None,
            deadline=None,
            # Each looks, also behind one that has changed, lest it tell of the same change afterwards.
            changed=lambda: True in [each() for each in watches],
        )
        return ended.code


def _target_of(arguments: Sequence[str]) -> str | None:
    """Return the target among the arguments, which is what click finds behind all options; None: there is none."""
    import click

    from taquba_workflow_sync.cli.main import cli

    command = cli.get_command(click.Context(cli), "worker")
    assert command is not None
    # What is wrong with the rest is told when it is called.
    target: str | None = command.make_context("worker", list(arguments), resilient_parsing=True).params["target"]
    return target


def _has(arguments: Sequence[str], names: Sequence[str]) -> bool:
    return any(each.split("=")[0] in names for each in arguments)


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Have the environment changed inside the block; None takes a variable away."""
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def source_roots() -> list[Path]:
    """Return the directories of the project's own code: where it is started, and its apps that are not installed."""
    found = {Path.cwd().resolve()}
    for config in apps.get_app_configs():
        path = Path(config.path).resolve()
        if not {"site-packages", "dist-packages"} & set(path.parts) and config.label != "taquba":
            found.add(path)
    return sorted(root for root in found if not any(other in root.parents for other in found))
