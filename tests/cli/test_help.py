"""The help of `ristn upscale`: every option in one group, and readable on a narrow terminal."""

import re

import pytest
from commands import in_process
from typer.main import get_command

from ristn_cli.cli import app
from ristn_cli.cli.help_groups import GROUPS

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def test_every_option_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    options = {param.name for param in COMMANDS["upscale"].params if param.param_type_name == "option"}
    assert sorted(grouped) == sorted(options - {"help"})


def test_the_help_shows_every_option_once_below_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, stdout, _ = in_process("upscale", "--help")
    assert code == 0
    assert [line for line in stdout.splitlines() if len(line) > 80] == []
    titles = re.findall(r"^([A-Z][\w ]+):$", stdout, re.MULTILINE)
    assert titles == ["Arguments", *GROUPS, "Other options"]
    for title, names in GROUPS.items():
        section = stdout.split(f"\n{title}:\n")[1].split("\n\n")[0]
        shown = re.findall(r"^  (?:-\w, )?(--[\w-]+)", section, re.MULTILINE)
        assert len(shown) == len(names), title
        assert stdout.count(f"\n  {shown[0]} ") == 1


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_says_what_it_does(name: str) -> None:
    for param in COMMANDS[name].params:
        if param.param_type_name == "option":
            assert re.match(r"[A-Z]|h264, ", param.help or ""), param.name
            assert (param.help or "").endswith((".", "]")), param.name
