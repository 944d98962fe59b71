"""Management commands that hand their arguments to the command line ``taquba-workflow``."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from django.core.management.base import CommandError, CommandParser

from taquba_workflow_sync.contrib.django.checks import TAG
from taquba_workflow_sync.contrib.django.conf import DEFAULT_ALIAS, aliases, settings_of
from taquba_workflow_sync.contrib.django.queues_of import queue_names, queue_of
from taquba_workflow_sync.contrib.django.stores import stores
from taquba_workflow_sync.contrib.django.untyped import Untyped
from taquba_workflow_sync.queue import opening
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.new_run import holds_runs

if TYPE_CHECKING:
    _BaseCommand = Untyped
    _CommandParser = Untyped
else:
    from django.core.management.base import BaseCommand as _BaseCommand
    from django.core.management.base import CommandParser as _CommandParser


class _Parser(_CommandParser):
    """Keeps what are options of Django, and leaves everything else as it is."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return Django's options, with the others in ``arguments``, in their order."""
        given = list(sys.argv[1:] if args is None else args)
        known, rest = self.parse_known_args(given, namespace)
        known.arguments = rest
        return known


class HandingOver(_BaseCommand):
    """Runs ``taquba-workflow COMMAND`` with the arguments given, on the store of an alias (``--using``)."""

    #: What is called.
    command: str
    requires_system_checks: list[str] = [TAG]  # noqa: RUF012  # as Django has it

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return a parser of Django's options alone; ``--help`` is click's."""
        self._prog_name = f"manage.py {subcommand}"
        parser = _Parser(
            prog=self._prog_name,
            called_from_command_line=getattr(self, "_called_from_command_line", None),
            add_help=False,
            allow_abbrev=False,
        )
        parser.add_argument("-v", "--verbosity", default=1, type=int, choices=[0, 1, 2, 3])
        parser.add_argument("--settings")
        parser.add_argument("--pythonpath")
        parser.add_argument("--traceback", action="store_true")
        parser.add_argument("--no-color", action="store_true")
        parser.add_argument("--force-color", action="store_true")
        parser.add_argument("--skip-checks", action="store_true")
        self.add_arguments(parser)
        return parser

    @property
    def stealth_options(self) -> tuple[str, ...]:
        """The options of the command line, by the names that ``call_command(until_idle=True)`` may give them."""
        return tuple(self._options())

    def _options(self) -> dict[str, click.Option]:
        from taquba_workflow_sync.cli.main import cli

        command = cli.get_command(click.Context(cli), self.command)
        commands: list[Any] = [command]
        if isinstance(command, click.Group):
            commands += [command.get_command(click.Context(command), name) for name in command.list_commands(None)]  # type: ignore[arg-type]  # not used
        own = {"store", "help"}
        return {
            str(each.name): each
            for found in commands
            for each in found.params
            if isinstance(each, click.Option) and each.name not in own
        }

    def _given_by_name(self, options: dict[str, Any]) -> Iterator[str]:
        for name, option in self._options().items():
            value = options.get(name)
            if value is None or value is False:
                continue
            for each in value if isinstance(value, (list, tuple)) else [value]:
                yield option.opts[0]
                if not option.is_flag:
                    yield str(each)

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the alias of the store."""
        parser.add_argument("--using", metavar="ALIAS")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command; exits with its code, or raises a ``CommandError`` that has it if called from a program."""
        arguments = [*map(str, args), *map(str, options.get("arguments", ())), *self._given_by_name(options)]
        with self._streams(options):
            code = self.run(arguments, options)
        if code == 0:
            return
        if getattr(self, "_called_from_command_line", False):
            sys.exit(code)
        raise CommandError(f"taquba-workflow {self.command} ended with {code}", returncode=code)

    def run(self, arguments: Sequence[str], options: dict[str, Any]) -> int:
        """Return what the command exits with."""
        return self.call(arguments, alias_of(options))

    def call(self, arguments: Sequence[str], alias: str) -> int:
        """Run the command on the store of an alias, and return what it exits with."""
        from taquba_workflow_sync.cli.main import cli

        # Before the command, where nothing that is given can be in its way; a --store that is given goes before it.
        given = ["--store", path_of(alias), self.command, *arguments]
        return int(cli.main(given, prog_name="taquba-workflow", standalone_mode=False) or 0)

    @contextlib.contextmanager
    def _streams(self, options: dict[str, Any]) -> Iterator[None]:
        """Write where ``call_command(stdout=, stderr=)`` says."""
        with contextlib.ExitStack() as stack:
            if options.get("stdout") is not None:
                stack.enter_context(contextlib.redirect_stdout(options["stdout"]))
            if options.get("stderr") is not None:
                stack.enter_context(contextlib.redirect_stderr(options["stderr"]))
            yield


class OfQueues(HandingOver):
    """One that speaks of a queue: without ``--queue`` that which has what it names; for ``list`` all of them.

    What names nothing but filters acts on one queue, as on the command line: of several it wants one to be said.
    """

    def run(self, arguments: Sequence[str], options: dict[str, Any]) -> int:
        """Find the queue, and run the command."""
        alias = alias_of(options)
        given = self._parsed(arguments)
        if given is None or given.is_settled or not Queue.is_store(path_of(alias)):
            return self.call(arguments, alias)
        queue = stores().plain(alias)
        names = queue_names(alias, queue)
        if given.names is None:
            used = [name for name in names if name in queue.list_queues() and not self._is_aside(name)]
            return self._list(arguments, alias, used or names[:1], is_json=given.is_json)
        if given.names:
            found = self._queue_with(alias, given.names)
            # What is nowhere is looked for in any, which says so.
            return self._call_on(found or next(iter(names), None), arguments, alias)
        acted_on = [name for name in names if not self._is_aside(name)]
        if len(acted_on) > 1:
            raise CommandError(f"the store has several queues: say --queue, one of {', '.join(acted_on)}", returncode=2)
        return self._call_on(next(iter(acted_on), None), arguments, alias)

    def _parsed(self, arguments: Sequence[str]) -> _Given | None:
        """Return what click makes of the arguments; None: it is asked for help, or finds them wrong, and says so."""
        from taquba_workflow_sync.cli.main import cli

        above = click.Context(cli)
        group = cli.get_command(above, self.command)
        assert isinstance(group, click.Group)
        command = group.get_command(above, arguments[0]) if arguments else None
        if command is None:
            return None
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the help, which the call tells
                params = command.make_context(arguments[0], list(arguments[1:])).params
        except (click.exceptions.Exit, click.ClickException):
            return None
        is_settled = params["queue_name"] is not None or params["store"] is not None
        named = next((each for each in command.params if isinstance(each, click.Argument)), None)
        if named is None:
            return _Given(None, is_settled, params["as_json"])
        value = params[str(named.name)]
        return _Given((value,) if isinstance(value, str) else tuple(value), is_settled, params["as_json"])

    def _queue_with(self, alias: str, names: Sequence[str]) -> str | None:
        """Return the queue that has what is named; None: there is nothing called so.

        Raises:
            CommandError: several have some of it; a command works on one.
        """
        found = {queue_of(alias, name): name for name in names}
        found.pop(None, None)
        if len(found) > 1:
            where = ", ".join(f"{name} is of queue {queue}" for queue, name in found.items())
            raise CommandError(f"{where}: name what is of one queue at a time", returncode=2)
        return next(iter(found), None)

    def _is_aside(self, name: str) -> bool:
        """Whether a queue is left out: the notifications of hooks are no runs, but may be dead letters."""
        return self.command == "runs" and not holds_runs(name)

    def _list(self, arguments: Sequence[str], alias: str, names: list[str], *, is_json: bool) -> int:
        if not names:
            return self.call(arguments, alias)
        code = 0
        for name in names:
            if len(names) > 1 and not is_json:
                print(f"queue {name}")
            code = max(code, self._call_on(name, arguments, alias))
        return code

    def _call_on(self, name: str | None, arguments: Sequence[str], alias: str) -> int:
        # Before all that is given: what comes after "--" is no option any more.
        queue = [] if name is None else ["--queue", name]
        return self.call([arguments[0], *queue, *arguments[1:]], alias)


@dataclass(frozen=True, slots=True)
class _Given:
    """What the arguments say. ``names``: None where the command takes none; ``is_settled``: they say where, too."""

    names: tuple[str, ...] | None
    is_settled: bool
    is_json: bool


def alias_of(options: dict[str, Any]) -> str:
    """Return the alias that the options name.

    Raises:
        CommandError: TAQUBA has it not.
    """
    alias = options.get("using") or DEFAULT_ALIAS
    if alias not in aliases():
        known = ", ".join(aliases()) or "none"
        raise CommandError(f"TAQUBA has no alias {alias!r}; it has {known}", returncode=2)
    return str(alias)


def path_of(alias: str) -> str:
    """Return the directory or the URL of an alias's store, without opening it.

    Raises:
        CommandError: what it says is wrong.
    """
    found = settings_of(alias)
    if found.errors or found.path is None:
        raise CommandError(f"{found.errors[0].text} {found.errors[0].hint}")
    path = os.fspath(found.path)
    return path if opening.is_url(path) else os.path.abspath(path)
