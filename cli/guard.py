"""The one place where errors become exit statuses (see DESIGN: 0, 1, 2, 3, 130) and are told.

Faults go to stderr; with --json the same, as one document, to stdout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from compress_ops.errors import OnnxpressError

BUDGET, FAULT, BUG, INTERRUPTED = 1, 2, 3, 130


class Guarded(TyperGroup):
    """The command group whose every ending is a documented exit status."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> NoReturn:
        import sys

        words = list(sys.argv[1:] if args is None else args)
        run = super().main
        extra |= {"prog_name": "onnxpress", "standalone_mode": False}
        sys.exit(guarded(lambda: run(words, *more, **extra), as_json="--json" in words))


def guarded(action: Callable[[], object], *, as_json: bool) -> int:
    """Run the action and return its exit status; whatever it raises is told first."""
    try:
        _silence_logs()
        _terminate_like_interrupt()
        status = action()
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        return _failed(error, as_json)
    if status == INTERRUPTED:
        return _interrupted(as_json)
    return status if isinstance(status, int) else 0


def _silence_logs() -> None:
    """What libraries log (onnx-ir tells of shapes that it cannot infer, with a traceback) is not for users."""
    import logging

    logging.getLogger().addHandler(logging.NullHandler())


def _terminate_like_interrupt() -> None:
    """SIGTERM, which CI systems send, cleans up as Ctrl-C does."""
    import signal
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _failed(error: Exception, as_json: bool) -> int:
    from compress_ops.errors import Faults, OnnxpressError, UsageError

    from . import faults

    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(str(error), err=True)  # the help of a command group without a command
        return FAULT
    if hasattr(error, "format_message"):  # Click's own usage errors; its module has moved between versions of Typer
        error = UsageError(error.format_message(), hint=_help_hint(getattr(error, "ctx", None)))
    if not isinstance(error, OnnxpressError):
        return _bug(error, as_json)
    found: list[OnnxpressError] = error.faults if isinstance(error, Faults) else [error]
    faults.tell(found)
    if as_json:
        faults.tell_as_json(type(error).__name__, found, FAULT)
    return FAULT


def _help_hint(context: Any) -> str:
    return f"see: {context.command_path} --help" if context is not None else ""


def _interrupted(as_json: bool) -> int:
    from compress_ops.errors import OnnxpressError

    from . import faults

    found = [OnnxpressError("interrupted")]
    faults.tell(found)
    if as_json:
        faults.tell_as_json("Interrupted", found, INTERRUPTED)
    return INTERRUPTED


def _bug(error: Exception, as_json: bool) -> int:
    import traceback

    from compress_ops.errors import OnnxpressError

    from . import faults

    told = OnnxpressError(f"{type(error).__name__}: {error}", hint=faults.how_to_report())
    typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    faults.tell([OnnxpressError(f"this is a bug in onnxpress: {told.message}", hint=told.hint)])
    if as_json:
        faults.tell_as_json(type(error).__name__, [told], BUG)
    return BUG
