"""Text from elsewhere, made safe to show: names of files, tags, messages of libraries. Knows no terminal.

A terminal obeys escape sequences, and a line end in a file name forges a line of a log. Whatever is shown to people
goes through `printable`; JSON escapes by itself, and stays exact.
"""

import logging
import sys
import threading
import traceback
import unicodedata
from types import TracebackType

INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that are shown as escapes: controls, directions, halves of pairs, ends of lines."""

JOINERS = "\u200c\u200d"
"""Invisible and harmless: Persian and emoji need them."""

SHORT_FORMS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object) -> str:
    """The text in one line without anything that a terminal obeys: `\\x1b[2J` for the sequence that clears it.

    Bytes of a name that is not UTF-8 are shown as `\\xff`. The result can always be encoded as UTF-8.
    """
    return "".join(map(_shown, str(text)))


def _shown(letter: str) -> str:
    if " " <= letter <= "~":
        return letter
    if unicodedata.category(letter) not in INVISIBLE or letter in JOINERS:
        return letter
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no text, as Python decodes names of files
        code -= 0xDC00
    long_form = f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return SHORT_FORMS.get(letter, f"\\x{code:02x}" if code <= 0xFF else long_form)


def printable_lines(text: str) -> str:
    """The same for a traceback: line ends stay. All lines but the first are indented, so that none can be forged."""
    return "\n    ".join(map(printable, text.rstrip("\n").split("\n")))


class OneLineFormatter(logging.Formatter):
    """Formats each record of a log as one line. The lines of a traceback follow, indented: none looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        shown = logging.makeLogRecord(record.__dict__)
        shown.msg, shown.args, shown.exc_info, shown.exc_text = printable(record.getMessage()), None, None, None
        line = super().format(shown)
        if not record.exc_info:
            return line
        return printable_lines(f"{line}\n{self.formatException(record.exc_info)}")


def print_traceback(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Python's own report of an unexpected error, made safe to show."""
    if sys.stderr is not None:
        sys.stderr.write(printable_lines("".join(traceback.format_exception(kind, error, trace))) + "\n")


def install_hooks() -> None:
    """Make tracebacks that end the program or a thread safe to show. To be called before typer is imported."""
    sys.excepthook = print_traceback

    def of_thread(found: threading.ExceptHookArgs) -> None:
        if found.exc_type is not SystemExit:
            print_traceback(found.exc_type, found.exc_value, found.exc_traceback)

    threading.excepthook = of_thread
