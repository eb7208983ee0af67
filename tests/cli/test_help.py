"""The help of `ristn upscale`: every option in one group, and readable on a narrow terminal."""

import re
from pathlib import Path

import pytest
from commands import in_process
from typer.main import get_command

from ristn_cli.cli import app
from ristn_cli.cli.help_groups import GROUPS, SELDOM

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
MOST_OPTIONS = 37
VIDEO_DOCUMENT = Path(__file__).parents[2] / "docs" / "video.md"


def test_every_option_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    params = [param for param in COMMANDS["upscale"].params if param.param_type_name == "option"]
    assert sorted(grouped) == sorted(param.name for param in params if not param.hidden and param.name != "help")
    assert sorted(SELDOM) == sorted(param.name for param in params if param.hidden)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_command_shows_more_options_than_one_can_read(name: str) -> None:
    params = [param for param in COMMANDS[name].params if param.param_type_name == "option"]
    assert len([param for param in params if not param.hidden and param.name != "help"]) <= MOST_OPTIONS


def test_options_that_the_help_only_names_are_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    flags = [max(param.opts, key=len) for param in COMMANDS["upscale"].params if param.name in SELDOM]
    _, stdout, _ = in_process("upscale", "--help")
    assert set(flags) <= set(re.findall(r"--[a-z-]+", stdout.rpartition("\n\n")[2]))
    table = VIDEO_DOCUMENT.read_text(encoding="utf-8").partition("| seldom needed |")[2].partition("\n\n")[0]
    assert set(flags) == set(re.findall(r"^\| `(--[a-z-]+)", table, re.MULTILINE))


@pytest.mark.parametrize(
    "terminal", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"FORCE_COLOR": "1"}], ids=lambda env: next(iter(env))
)
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_is_plain_text_in_every_terminal(
    name: str, terminal: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for variable, value in terminal.items():
        monkeypatch.setenv(variable, value)
    code, stdout, _ = in_process(name, "--help")
    assert code == 0
    assert "\x1b" not in stdout
    assert [line for line in stdout.splitlines() if len(line) > 80] == []


def test_the_help_shows_every_option_once_below_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, stdout, _ = in_process("upscale", "--help")
    assert code == 0
    assert [line for line in stdout.splitlines() if len(line) > 80] == []
    titles = re.findall(r"^([A-Z][\w ,:]+):$", stdout, re.MULTILINE)
    assert titles == ["Arguments", *GROUPS, "Other options"]
    for title, names in GROUPS.items():
        section = stdout.split(f"\n{title}:\n")[1].split("\n\n")[0]
        shown = re.findall(r"^  (?:-\w, )?(--[\w-]+)", section, re.MULTILINE)
        assert len(shown) == len(names), title
        assert len(re.findall(rf"^  (?:-\w, )?{shown[0]} ", stdout, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_says_what_it_does(name: str) -> None:
    for param in COMMANDS[name].params:
        if param.param_type_name == "option":
            assert re.match(r"[A-Z]|h264, ", param.help or ""), param.name
            assert (param.help or "").endswith((".", "]")), param.name
