"""Makes text from outside safe to display: file names, tags, messages of libraries. Does not know the terminal.

Terminals obey escape sequences, and a line break in a file name can forge a log line. All displayed text goes through
`printable`. JSON has its own escapes and keeps the exact text.
"""

import logging
import sys
import threading
import traceback
import unicodedata
from types import TracebackType

INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories shown as escapes: controls, text directions, surrogates, line separators."""

JOINERS = "\u200c\u200d"
"""Invisible but harmless characters that Persian and emoji need."""

SHORT_FORMS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object) -> str:
    r"""Return the text as one line, with control characters escaped: `\x1b[2J` for the sequence that clears the screen.

    Bytes of a name that are not UTF-8 become `\xff`. The result is always valid UTF-8.
    """
    return "".join(map(_shown, str(text)))


def _shown(letter: str) -> str:
    if " " <= letter <= "~":
        return letter
    if unicodedata.category(letter) not in INVISIBLE or letter in JOINERS:
        return letter
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte in a file name
        code -= 0xDC00
    long_form = f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return SHORT_FORMS.get(letter, f"\\x{code:02x}" if code <= 0xFF else long_form)


def printable_lines(text: str) -> str:
    """Like `printable`, but keep the lines of a traceback. All lines after the first are indented, so that none can be
    forged.
    """
    return "\n    ".join(map(printable, text.rstrip("\n").split("\n")))


class OneLineFormatter(logging.Formatter):
    """Formats each log record as one line, followed by indented lines of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        shown = logging.makeLogRecord(record.__dict__)
        shown.msg, shown.args, shown.exc_info, shown.exc_text = printable(record.getMessage()), None, None, None
        line = super().format(shown)
        if not record.exc_info:
            return line
        return printable_lines(f"{line}\n{self.formatException(record.exc_info)}")


def print_traceback(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Print an unexpected error as Python does, with control characters escaped."""
    if sys.stderr is not None:
        sys.stderr.write(printable_lines("".join(traceback.format_exception(kind, error, trace))) + "\n")


def install_hooks() -> None:
    """Escape tracebacks that end the program or a thread. Call it before importing typer."""
    sys.excepthook = print_traceback

    def of_thread(found: threading.ExceptHookArgs) -> None:
        if found.exc_type is not SystemExit:
            print_traceback(found.exc_type, found.exc_value, found.exc_traceback)

    threading.excepthook = of_thread
