"""tools/count_code.py on a package made here."""

from pathlib import Path

from count_code import count_package


def test_large_functions_and_modules_and_repeated_names_are_counted(tmp_path: Path) -> None:
    package = tmp_path / "ristn_cli"
    for folder in ("", "a", "b", "cli"):
        (package / folder).mkdir(exist_ok=True)
        (package / folder / "__init__.py").write_text("")
    seven = "def f(self, a, b, c, /, d, *rest, e, **more): ...\n"
    (package / "a" / "same.py").write_text("class C:\n    " + seven + "    async " + seven.replace("e, **", "e, g, **"))
    (package / "b" / "same.py").write_text("\n" * 301)
    (package / "b" / "other.py").write_text("\n" * 300 + "")
    (package / "cli" / "command.py").write_text(seven.replace("self", "h, i"))
    counted = count_package(package)
    functions, modules, names, all_modules, lines = counted.values()
    assert [entry.split(":")[1] for entry in functions] == ["2 f (7)", "3 f (8)"]
    assert modules == [f"{package / 'b' / 'same.py'} (301)"]
    assert names == ["same.py (2)"]
    assert (len(all_modules), len(lines)) == (8, 3 + 301 + 300 + 1)
