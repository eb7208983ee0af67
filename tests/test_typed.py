"""JSON and TOML of strangers: read into typed values, or refused in one line."""

import json
import os
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from ristn_cli.job.batch import RECORD_NAME, Record
from ristn_cli.job.border import Border
from ristn_cli.job.manifest import JobError, Manifest, Part, read_identity
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.model import CONFIGS, RISTN
from ristn_cli.training.journal import read_log
from ristn_cli.training.recipe import RecipeError
from ristn_cli.training.recipe_file import parse_recipe
from ristn_cli.training.state import TrainingError, read_checkpoint
from ristn_cli.typed import MOST_NESTED, MalformedError, build, parse_json, parse_toml, read_json
from ristn_cli.weights import WeightsError, load_weights, save_weights

DEEP = "[" * 100_000


@dataclass(frozen=True, kw_only=True)
class Inner:
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError(f"share {self.share} is more than 1")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    kind: Literal["a", "b"] = "a"
    time: Fraction | None = None
    counts: tuple[int, ...] = ()
    pair: tuple[int, str] = (0, "")
    inner: list[Inner] = field(default_factory=list)
    named: dict[str, bool] = field(default_factory=dict)
    any: Any = None


def test_valid_values_are_built() -> None:
    values = {
        "name": "x",
        "kind": "b",
        "time": "-1001/30000",
        "counts": [1, 2],
        "pair": [3, "y"],
        "inner": [{"share": 1}, {}],
        "named": {"k": True},
        "any": [{}],
    }
    assert build(Outer, values) == Outer(
        name="x",
        kind="b",
        time=Fraction(-1001, 30000),
        counts=(1, 2),
        pair=(3, "y"),
        inner=[Inner(share=1.0), Inner()],
        named={"k": True},
        any=[{}],
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "the whole is a list, expected a table"),
        ({}, "name is missing"),
        ({"name": 5}, "name is 5, expected text"),
        ({"name": "x", "other": 1}, "unknown key 'other'"),
        ({"name": "x", "kind": "c"}, "kind is 'c', expected one of a, b"),
        ({"name": "x", "time": 5}, "time is 5, expected a fraction"),
        ({"name": "x", "time": "1e99999999"}, "time is '1e99999999', expected a fraction"),
        ({"name": "x", "time": "1/0"}, "expected a fraction"),
        ({"name": "x", "counts": 5}, "counts is 5, expected a list"),
        ({"name": "x", "counts": [True]}, r"counts\[0\] is True, expected a whole number"),
        ({"name": "x", "counts": [1.5]}, r"counts\[0\] is 1.5, expected a whole number"),
        ({"name": "x", "counts": [2**64]}, r"counts\[0\] is a number out of range"),
        ({"name": "x", "counts": [10**5000]}, r"counts\[0\] is a number out of range"),
        ({"name": "x", "pair": [1]}, "expected a list of 2"),
        ({"name": "x", "inner": [{"share": float("nan")}]}, r"inner\[0\].share is nan, expected a finite number"),
        ({"name": "x", "inner": [{"share": 2}]}, r"inner\[0\]: share 2.0 is more than 1"),
        ({"name": "x", "named": {"k": 1}}, "named.k is 1, expected true or false"),
        ({"name": "x", "y" * 1000: 1}, "unknown key 'y+[.][.][.]"),
    ],
)
def test_refuses_in_one_line(values: object, message: str) -> None:
    with pytest.raises(MalformedError, match=message) as caught:
        build(Outer, values, "file.json")
    assert str(caught.value).startswith("file.json: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text", ["", "{", DEEP, "[" * 50 + "]" * 50, '{"a":' * 50, "1e400", "-1e400", "NaN", "Infinity"]
)
def test_json_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_json(text)
    with pytest.raises(MalformedError, match="out of range"):
        parse_json("9" * 5000)
    assert parse_json("[" * MOST_NESTED + "]" * MOST_NESTED)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + DEEP,
        "a = " + "[" * 50 + "]" * 50,
        "a",
        "a = 1" + "0" * 5000,
        "a" + ".b" * 200_000 + " = 1",
        "[a" + ' . "b"' * 100_000 + "]",
        "a = {b" + ".b" * 200_000 + " = 1}",
    ],
)
def test_toml_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        build(dict[str, int], parse_toml(text))


def test_dots_in_comments_and_text_are_no_nesting() -> None:
    assert parse_toml(f"a.b = '{'.' * 90}'  # {'.' * 90}")["a"] == {"b": "." * 90}


def test_files_are_regular_and_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(" " * 100 + "1")
    with pytest.raises(MalformedError, match="is larger"):
        read_json(path, most_bytes=100)
    path.write_bytes(b'"\xff"')
    with pytest.raises(MalformedError, match=r"a\.json: is not text in UTF-8"):
        read_json(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(MalformedError, match="pipe: is not a regular file"):
            read_json(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


# Manifests


PART = Part(
    file="part-00001.mp4",
    frames=6,
    sha256="0" * 64,
    border=Border(
        time=Fraction(1, 25),
        context=2,
        repeats=0,
        frames=6,
        end_time=Fraction(6, 25),
        is_damaged=False,
        is_last=False,
    ),
)
ROW = json.loads(json.dumps(asdict(PART), default=str))


@pytest.mark.parametrize(
    "state",
    [
        "[]",
        "no json",
        DEEP,
        '{"parts": []}',
        '{"identity": {}, "parts": 5}',
        '{"identity": [], "parts": []}',
        '{"identity": {}, "parts": [5]}',
        '{"identity": {}, "parts": [], "more": 1}',
        '{"identity": {}, "parts": [], "ahead": {"x": 1}}',
        json.dumps({"identity": {}, "parts": [], "ahead": {"9" * 50: ROW}}),
        *(
            json.dumps({"identity": {}, "parts": [ROW | change]})
            for change in ({"frames": -1}, {"frames": 1e300}, {"frames": "6"}, {"unknown": 0}, {"sha256": None})
        ),
        *(
            json.dumps({"identity": {}, "parts": [ROW | {"border": ROW["border"] | change}]})
            for change in (
                {"time": "1e99999999"},
                {"time": 1},
                {"end_time": "9" * 30},
                {"context": -5},
                {"repeats": 2**60},
                {"unknown": 0},
                {"is_damaged": "no"},
            )
        ),
    ],
)
def test_a_manifest_of_another_form_is_refused_in_one_line(tmp_path: Path, state: str) -> None:
    (tmp_path / "manifest.json").write_text(state)
    with pytest.raises(JobError, match="use --restart to start again") as caught:
        Manifest(tmp_path, {}).load()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read_identity(tmp_path) == {}


def test_a_changed_manifest_names_the_difference_briefly(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"identity": {"crf": "1" * 10_000}, "parts": []}))
    with pytest.raises(JobError, match="another crf") as caught:
        Manifest(tmp_path, {"crf": "17"}).load()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["[]", "{", '{"a.mp4": 5}', '{"a.mp4": {"job": 1, "size": 1}}', DEEP])
def test_a_record_of_another_form_is_refused_before_the_work(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_NAME).write_text(text)
    with pytest.raises(JobError, match="remove the file"):
        Record(tmp_path, lambda source: "", UpscaleOptions())


# Recipes, logs, evaluations


RECIPE = """name = "small"
[[stages]]
name = "first"
iterations = 5
"""


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "/abs", "", ".", "..", ".hidden", "a\\\\b", "a\\u0000b", "a\\nb", "x" * 300, "c:x", "-o"]
)
def test_a_recipe_cannot_name_files_elsewhere(name: str) -> None:
    with pytest.raises(RecipeError, match=r"here: name is"):
        parse_recipe(RECIPE.replace('"small"', f'"{name}"'), "here")


@pytest.mark.parametrize(
    "line",
    [
        "iterations = 1e30",
        "iterations = 99999999999999999999",
        "iterations = true",
        "patch = 1000000000",
        "learning_rate = nan",
        "learning_rate = -1.0",
        "learning_rate = inf",
        "fastest = inf",
        "warmup = -1",
        "sparsity = -inf",
        "clip_gradient = '1'",
        "ema = nan",
        "frames = 5.0",
    ],
)
def test_numbers_of_recipes_have_their_range(line: str) -> None:
    text = RECIPE.replace("iterations = 5", line) if line.startswith("iterations") else RECIPE + line
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "here")
    assert str(caught.value).startswith("here: stages[0]")
    for data in (
        "clip_share = 2",
        "cache_gib = nan",
        "noise = inf",
        "longest_stride = 0",
        "clips = 5",
        'photos = "\\u0000"',
    ):
        with pytest.raises(RecipeError, match="here: data"):
            parse_recipe(RECIPE.replace("[[stages]]", f"[data]\n{data}\n[[stages]]"), "here")


def test_a_log_is_read_up_to_an_unfinished_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"iteration": 1, "more": [1]}\n{"iteration": 2, "lo')
    assert read_log(path) == [{"iteration": 1, "more": [1]}]
    for line in (
        '{"iteration": "1"}',
        "[]",
        "5",
        "{}",
        '{"iteration": 1, "windows": 5}',
        '{"iteration": 1, "loss": 1e999}',
    ):
        path.write_text(f'{line}\n{{"iteration": 2}}\n')
        with pytest.raises(MalformedError, match=r"log\.jsonl: line 1 is not a log entry"):
            read_log(path)


def test_a_checkpoint_is_not_unpickled(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "checkpoint.pt"
    torch.save({"recipe": {}, "iteration": Harmful()}, path)
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        read_checkpoint(path, advice="remove it")
    assert not (tmp_path / "made").exists()
    for counts in ({"iteration": -1}, {"iteration": "5"}, {"elapsed_seconds": float("nan")}, {"losses": 5}):
        torch.save({"recipe": {}, "iteration": 1, "stage_index": 0, "elapsed_seconds": 1.0} | counts, path)
        with pytest.raises(TrainingError, match="not a readable checkpoint"):
            read_checkpoint(path, advice="remove it")


# Weights


def write_header(path: Path, config: str, *, tensors: int = 0) -> None:
    """A weights file that is nothing but its header, with names of tensors without a value."""
    metadata = {"format": "ristn-1", "config": config, "metrics": "{}"}
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({"__metadata__": metadata} | {f"t{k}": empty for k in range(tensors)}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.mark.parametrize(
    "changes",
    [
        {"growth": 2000, "base_channels": 2000, "upsampling_channels": [2000, 2000], "lstm_layers": 1},
        {"growth": 10**9},
        {"lstm_layers": 10**9},
        {"branch_one": [1] * 60, "branch_two": [1] * 60},
        {"growth": 1.5},
        {"growth": "16"},
        {"branch_one": 5},
    ],
)
def test_weights_with_absurd_widths_take_no_memory(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "w.safetensors"
    config = replace(CONFIGS["paper"], branch_one=(0,), branch_two=(0,), lstm_layers=0)
    write_header(path, json.dumps(config.to_dict() | changes), tensors=200)
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from ristn_cli.weights import WeightsError, load_weights, save_weights\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    load_weights(Path(sys.argv[1]))\n"
        "except WeightsError as error:\n    print(error)\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000\n"
    )
    if changes.get("base_channels") and sys.platform == "linux":  # the one that has to be built to be compared
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        assert "tensors do not fit the configuration" in done.stdout
        return
    with pytest.raises(WeightsError, match=r"w\.safetensors: ") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


def test_weights_with_fewer_tensors_than_layers_are_refused_before_a_network_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ristn_cli.weights.files.RISTN", None)
    path = tmp_path / "w.safetensors"
    write_header(path, json.dumps(CONFIGS["paper"].to_dict()), tensors=9)
    with pytest.raises(WeightsError, match="has 9 tensors, too few for the"):
        load_weights(path)


@pytest.mark.parametrize("config", [DEEP, "[]", "5", '{"growth": ' + "9" * 5000 + "}"])
def test_weights_with_an_absurd_header_are_refused(tmp_path: Path, config: str) -> None:
    path = tmp_path / "w.safetensors"
    write_header(path, config)
    with pytest.raises(WeightsError, match="unusable configuration"):
        load_weights(path)
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_weights(path)


def test_loading_imports_no_algebra(tmp_path: Path, tiny_model: RISTN) -> None:
    """PyTorch does for some operations on `meta`, which takes half a second."""
    path = tmp_path / "w.safetensors"
    save_weights(RISTN(replace(tiny_model.config, gate_start="delay_line")), path, metrics={})
    code = (
        "import sys\nfrom pathlib import Path\nfrom ristn_cli.weights import load_weights\n"
        "print(load_weights(Path(sys.argv[1])).config.gate_start, 'sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "delay_line False\n"


def test_shapes_are_compared_before_tensors_are_read(tiny_weights: Path, tiny_model: RISTN) -> None:
    loaded = load_weights(tiny_weights)
    assert asdict(loaded.config) == asdict(tiny_model.config)
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in loaded.parameters())
    data = tiny_weights.read_bytes()
    tiny_weights.write_bytes(data.replace(b'\\"growth\\": 4', b'\\"growth\\": 8'))
    with pytest.raises(WeightsError, match=r"do not fit the configuration: \S+ has the shape \(.*\), expected \("):
        load_weights(tiny_weights)
