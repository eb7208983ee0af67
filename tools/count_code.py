"""Count what should stay small in a package: lines, parameters of functions, lines of modules, repeated file names.

    python tools/count_code.py [--path CHECKOUT] [--list]

Parameters of functions below `cli/` are not counted, because each one is an option of a command.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_PARAMETERS = 6
MOST_LINES = 300

Function = ast.FunctionDef | ast.AsyncFunctionDef


def count_parameters(function: Function) -> int:
    """Count all parameters except a leading `self` or `cls`."""
    arguments = function.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    rest = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return len(positional) - (positional[:1] in (["self"], ["cls"])) + len(arguments.kwonlyargs) + len(rest)


def long_functions(path: Path) -> list[str]:
    """Return `path:line name (count)` of each function with too many parameters."""
    nodes = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, Function))
    counted = [(node, count_parameters(node)) for node in nodes]
    return [f"{path}:{node.lineno} {node.name} ({n})" for node, n in counted if n > MOST_PARAMETERS]


def count_package(package: Path) -> dict[str, list[str]]:
    """Return each count with the places that contribute to it; for lines, one entry per line."""
    modules = sorted(package.rglob("*.py"))
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    names = Counter(path.name for path in modules if path.name != "__init__.py")
    return {
        f"functions with more than {MOST_PARAMETERS} parameters": [
            entry
            for path in modules
            if "cli" not in path.relative_to(package).parts[:-1]
            for entry in long_functions(path)
        ],
        f"modules above {MOST_LINES} lines": [f"{path} ({n})" for path, n in lines.items() if n > MOST_LINES],
        "file names that occur twice": [f"{name} ({n})" for name, n in names.items() if n > 1],
        "modules": [str(path) for path in modules],
        "lines": [""] * sum(lines.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--path", type=Path, default=ROOT, help="checkout to count (default: this one)")
    parser.add_argument("--list", action="store_true", help="also list what is too large or repeated")
    options = parser.parse_args()
    package = options.path / "ristn_cli"
    if not package.is_dir():
        parser.error(f"{options.path}: contains no folder ristn_cli; expected a checkout of ristn")
    counted = count_package(package)
    for name, found in counted.items():
        print(f"| {name:<36} | {len(found):>6} |")
    if options.list:
        print(*(line for name in list(counted)[:3] for line in counted[name]), sep="\n")


if __name__ == "__main__":
    main()
