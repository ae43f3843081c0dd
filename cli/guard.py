"""The one place where errors become exit statuses (see DESIGN: 0, 1, 2, 3, 130) and are told.

Faults go to stderr; with --json the same, as one document, to stdout. Signals that end a program (Ctrl-C, SIGTERM,
SIGHUP) all clean up alike; a second one changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from compress_ops.errors import OnnxpressError
from contextlib import contextmanager

UNFULFILLED, FAULT, BUG, INTERRUPTED = 1, 2, 3, 130
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
_HELPS = {"--help", "-h", "--version"}


class Guarded(TyperGroup):
    """The command group whose every ending is a documented exit status."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> NoReturn:
        import sys

        from .streams import patient_streams

        words = list(sys.argv[1:] if args is None else args)
        run = super().main
        extra |= {"prog_name": "onnxpress", "standalone_mode": False}
        with patient_streams(), _signals(is_program=args is None):
            status = guarded(lambda: run(words, *more, **extra) if _is_ready(words) else 0, "--json" in words)
        sys.exit(status)


def guarded(action: Callable[[], object], as_json: bool) -> int:
    """Run the action and return its exit status; whatever it raises is told first."""
    from .streams import output_failure

    status = _ended(action, as_json)
    if (why := output_failure()) and status in (0, UNFULFILLED):
        tell_undelivered(f"cannot write to the standard output: {why}")
        return UNFULFILLED
    return status


def _ended(action: Callable[[], object], as_json: bool) -> int:
    try:
        try:
            with _no_warnings():
                status = action()
        except (KeyboardInterrupt, typer.Abort):
            finish()
            status = INTERRUPTED
        except Exception as error:
            return _failed(error, as_json)
    except KeyboardInterrupt:  # a second one, before the first was heard
        finish()
        status = INTERRUPTED
    return _interrupted(as_json) if status == INTERRUPTED else status if isinstance(status, int) else 0


def _silence_logs() -> None:
    """What libraries log (onnx-ir tells of shapes that it cannot infer, with a traceback) is not for users."""
    import logging

    logging.getLogger().addHandler(logging.NullHandler())


@contextmanager
def _no_warnings() -> Iterator[None]:
    """What NumPy warns of (a square root of something negative) is told by passes, in words that help, or not at all.

    Whoever asks Python for warnings (-W, PYTHONWARNINGS) gets them.
    """
    import sys
    import warnings

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


def finish() -> None:
    """From here on nothing interrupts: what is begun takes a moment, and half of it would be worse than all."""
    import signal

    for number in _ending_signals():
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _signals(*, is_program: bool) -> Iterator[None]:
    """Those that CI systems and closing terminals send are heard as Ctrl-C is, unless they were ignored (nohup).

    A program is over then, and its status is not to be changed any more; whoever calls from Python gets its own back.
    """
    import signal

    before = {number: signal.getsignal(number) for number in _ending_signals()}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        if is_program:
            finish()
        for number, handler in before.items() if not is_program else ():
            signal.signal(number, handler)


def _ending_signals() -> list[Any]:
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        return []
    return [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]


def _is_ready(words: Sequence[str]) -> bool:
    """Raises UsageError where the working folder is gone, and with it the meaning of every path; help needs none."""
    import os

    if _HELPS.isdisjoint(words):
        _silence_logs()
        try:
            os.getcwd()
        except OSError as error:
            from compress_ops.errors import UsageError

            message = f"the working folder cannot be found: {error.strerror}"
            raise UsageError(message, hint="change to a folder that exists") from error
    return True


def tell_undelivered(message: str) -> None:
    """What is done is done, but not all that was asked for could be written."""
    from compress_ops.errors import OutputError

    from . import faults

    faults.tell([OutputError(message)])


def _failed(error: Exception, as_json: bool) -> int:
    from compress_ops.errors import Faults, OnnxpressError, UsageError

    from . import elsewhere, faults

    if type(error).__name__ == "NoArgsIsHelpError":
        faults.say(str(error))  # the help of a command group without a command
        return FAULT
    if hasattr(error, "format_message"):  # Click's own usage errors; its module has moved between versions of Typer
        error = UsageError(elsewhere.told(error), hint=elsewhere.hint(error))
    if isinstance(error, OSError) and error.errno in faults.MACHINE:
        error = faults.of_the_machine(error)
    if not isinstance(error, OnnxpressError):
        return _bug(error, as_json)
    found: list[OnnxpressError] = error.faults if isinstance(error, Faults) else [error]
    faults.tell(found)
    if as_json:
        faults.tell_as_json(error.kind, found, FAULT)
    return FAULT


def _interrupted(as_json: bool) -> int:
    from compress_ops.errors import OnnxpressError
    from compress_ops.files.temporary import remove_leftovers

    from . import faults

    remove_leftovers()
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
    faults.say("".join(traceback.format_exception(error)).rstrip("\n"))
    faults.tell([OnnxpressError(f"this is a bug in onnxpress: {told.message}", hint=told.hint)])
    if as_json:
        faults.tell_as_json(type(error).__name__, [told], BUG)
    return BUG
