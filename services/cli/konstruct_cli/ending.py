"""How a command ends: errors become one line and an exit code.

Errors of other layers are known by their classes, which are imported only when there is an error.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from konstruct_cli.errors import CliError, ExitCode
from konstruct_cli.output import say


def _code_of(error: Exception) -> ExitCode | None:
    """Return the code of an error that carries a message for the user; None of any other."""
    from konstruct_cli.stack.process import StackError
    from shared.config import ConfigurationError
    from shared.manifest import ManifestError

    match error:
        case CliError():
            return error.code
        case StackError():
            return ExitCode.FAILED
        case ConfigurationError() | ManifestError():
            return ExitCode.USAGE
        case _:
            return None


class Commands(TyperGroup):
    """Subcommands whose errors are one message and an exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            code = _code_of(error)
            if code is None:
                raise
            say(f"konstruct: {error}", style="red")
        raise typer.Exit(code)
