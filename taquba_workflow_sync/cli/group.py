"""A group of commands that imports a command when it is called, and turns every ending into its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

from taquba_workflow_sync.cli.exit_codes import (
    DONE,
    ERROR,
    INTERRUPTED,
    TERMINATED,
    USAGE,
    Failure,
    Terminated,
    code_of,
)
from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.queue.readable import spelled_out

#: Of a message; no sentence of this library is longer, but what it quotes may be.
_LONGEST: Final = 2000


class Lazy(NamedTuple):
    """Where a command stands, and what it does, in a line."""

    module: str
    name: str
    help: str


class LazyGroup(click.Group):
    """Knows its commands by name; imports the module of one when it is asked for."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which they are told."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        found = self._lazy.get(cmd_name)
        if found is None:
            return None
        command = getattr(import_module(f"taquba_workflow_sync.cli.{found.module}"), found.name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a reader of its answer that has gone, as ``head`` does, is no error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _without_reader()

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; exits with its code, or returns that if ``standalone_mode`` is False."""
        code = self._code(args, prog_name, complete_var, extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _code(
        self, args: Sequence[str] | None, prog_name: str | None, complete_var: str | None, extra: dict[str, Any]
    ) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            vars(error)["message"] = _told(error.message)  # which is no attribute to assign to, by click's types
            error.show()
            return error.code if isinstance(error, Failure) else error.exit_code
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except Terminated:
            return TERMINATED
        except SystemExit as error:
            # Of code of the user's, whose code says nothing of what was to be done here.
            click.echo(f"Error: it was ended by SystemExit: {error.code}", err=True)
            return ERROR
        except BrokenPipeError:
            return _without_reader()
        except TaqubaError as error:
            click.echo(f"Error: {_told(error)}", err=True)
            return code_of(error)
        except ValueError as error:
            # Of the library's own checks of arguments: what the types of the options let through.
            click.echo(f"Error: {_told(error)}", err=True)
            return USAGE
        except ModuleNotFoundError as error:
            if "taquba-workflow-sync[" not in str(error):
                raise
            click.echo(f"Error: {_told(error)}", err=True)  # it says which extra is missing
            return ERROR
        except OSError as error:
            click.echo(f"Error: {_told(error)}", err=True)
            return ERROR
        return code if isinstance(code, int) else DONE


def _told(error: object) -> str:
    """Return what is wrong as a terminal may be given it: an argument that it quotes may be long, and have escapes."""
    text = spelled_out(str(error))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _without_reader() -> int:
    # Nobody is left to be told, and Python's own flush must not try.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE
