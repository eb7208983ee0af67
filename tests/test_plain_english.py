"""Help, messages, documents, docstrings and comments have no private words, and help describes every option."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from ristn_cli.cli import app

ROOT = Path(__file__).parents[1]

PRIVATE = {
    r"(goes|go|going|went) on\b": "continues, resumes",
    r"(goes|go|carried|carry|carries) out of\b": "leaves",
    r"anew": "again",
    r"whoever": "anyone who, the program that",
    r"(is|are|be|was|were) told": "receives, is reported",
    r"tells? of": "reports",
    r"(is|are|be|was) held": "is kept, is contained",
    r"what (comes|goes|lies|stands|is there|was there)": "name the thing",
    r"as it comes|that comes(?! from| with)": "name the event",
    r"take[sn]? up": "resumes",
    r"(give|gives|given|giving) back": "releases, returns",
    r"left out": "omitted, dropped, skipped",
    r"knows? nothing|nothing of": "does not know",
    r"by (itself|themselves)": "alone, separately",
    r"behind (it|them|this|a part|a window)": "after",
    r"as of `": "see `",
    r"remarks?": "warnings",
    r"is no (file|folder|video|image|picture|number|text|JSON|TOML|UTF|weights|recipe|link|such)": "is not a",
    r"(save|but) for|save (where|what)": "except for",
    r"sounds?": "audio",
    r"upright bands?": "vertical",
    r"likewise": "name the thing again",
    r"it was (said|told)|as said": "name the document",
    r"(better|noisier) hour|(an|the) earlier version|before this|as it was": "documents describe the program of today",
    r"(s|seconds|frames|pixels|bits|levels|bytes|kB|MB|MiB|GB|ms|us|FLOP|steps?) an? "
    r"(frame|second|pixel|channel|side|step|row|worker|machine|tensor)": "per",
}
"""Patterns, as whole words, and what to write instead."""

NOT_YET: tuple[str, ...] = ()
"""Packages and documents that are still to be rewritten. Remove an entry after its rewrite, and never add one."""

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
MODULES = [*ROOT.glob("ristn_cli/**/*.py"), *ROOT.glob("tools/*.py")]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]

DEFAULTS_NOT_YET: dict[str, tuple[str, ...]] = {}
"""Options whose help does not state a default yet. Remove an entry after its rewrite, and never add one."""

NOT_FIRST = re.compile(
    r"(of|in|on|at|by|to|from|for|with|without|as|if|when|where|while|what|which|who|how|whether|that|this|these|those"
    r"|its?|they|is|are|was|be|and|or|but|not|no|so|than|then|times|only|just)\b",
    re.IGNORECASE,
)
"""Words with which neither a verb phrase nor a noun phrase starts."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_checked(path: Path) -> bool:
    return not any(name_of(path) == entry or name_of(path).startswith(f"{entry}/") for entry in NOT_YET)


def find_private_words(text: str) -> list[str]:
    found = []
    for pattern, advice in PRIVATE.items():
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
            context = " ".join(text[max(0, match.start() - 40) : match.end() + 40].split())
            found.append(f"{match[0]!r} ({advice}): ...{context}...")
    return found


def english_of(source: str) -> Iterator[str]:
    """Docstrings, messages and comments of a module. Comments of consecutive lines belong together."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    comments: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield " ".join(comments)
                comments.clear()
            comments.append(token.string.lstrip("# "))
            last = token.start[0]
    yield " ".join(comments)


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if is_checked(path)], ids=name_of)
def test_documents_are_plain(path: Path) -> None:
    assert find_private_words(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [path for path in MODULES if is_checked(path)], ids=name_of)
def test_messages_and_docstrings_are_plain(path: Path) -> None:
    texts = english_of(path.read_text(encoding="utf-8"))
    assert [line for text in texts for line in find_private_words(text)] == []


def test_private_words_are_found_in_every_kind_of_text() -> None:
    source = '"""What comes is kept."""\nraise ValueError(f"{a} is told {b}")  # the rest\n# goes\n# on\n'
    found = [line for text in english_of(source) for line in find_private_words(text)]
    assert [line.split("'")[1] for line in found] == ["What comes", "is told", "goes on"]
    assert find_private_words("It takes 3 s a frame.") != []
    assert find_private_words("The job continues, and resumes after a stop.") == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_plain_and_states_defaults(name: str) -> None:
    texts = [COMMANDS[name].help or "", *(param.help or "" for param in COMMANDS[name].params)]
    assert [line for text in texts for line in find_private_words(text)] == []
    for param in COMMANDS[name].params:
        assert_describes(param)
    silent = {param.name for param in COMMANDS[name].params if is_silent_about_default(param)}
    assert silent <= set(DEFAULTS_NOT_YET.get(name, ()))


def assert_describes(param: Any) -> None:
    """Check that a help text starts with a verb or a noun phrase."""
    text = param.help or ""
    assert len(text.split()) > 1, param.name
    assert NOT_FIRST.match(text) is None, f"{param.name}: {text}"


def is_silent_about_default(param: Any) -> bool:
    """Return whether an optional value has no default in its help. Flags are off by default."""
    if param.param_type_name != "option" or param.is_flag or param.required or "default" in param.help.lower():
        return False
    return param.default is None or not param.show_default
