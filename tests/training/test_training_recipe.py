"""Recipes as text: what those that come with ristn say, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from ristn_cli.model import CONFIGS
from ristn_cli.training.degradation_recipe import DegradationRecipe
from ristn_cli.training.recipe import RecipeError, StageRecipe
from ristn_cli.training.recipe_file import changed_field, load_recipe, parse_recipe
from ristn_cli.weights import find_weights, load_weights

SMALL = """
name = "small"
[model]
preset = "ristn-lite"
growth = 8
[data]
clips = ""
[[stages]]
name = "first"
iterations = 5
[[stages]]
name = "second"
iterations = 7
frames = 3
"""


def test_text_becomes_a_recipe() -> None:
    recipe = parse_recipe(SMALL)
    assert recipe.name == "small"
    assert recipe.model == replace(CONFIGS["ristn-lite"], growth=8)
    assert (recipe.data.photos, recipe.data.clips) == ("photos", "")
    assert recipe.stages == (
        StageRecipe(name="first", iterations=5),
        StageRecipe(name="second", iterations=7, frames=3),
    )


def test_steps_belong_to_stages() -> None:
    recipe = parse_recipe(SMALL)
    assert recipe.iterations == 12
    assert [recipe.stage_at(step) for step in (0, 4, 5, 11)] == [(0, 0), (0, 4), (1, 0), (1, 6)]
    with pytest.raises(IndexError):
        recipe.stage_at(12)


def test_the_paper_is_stated_exactly() -> None:
    recipe = load_recipe("paper")
    assert recipe.model == CONFIGS["paper"]
    assert (recipe.model.deconvolution_kernel, recipe.model.norm, recipe.model.fusion) == (3, "batch", "sparse")
    spatial, whole = recipe.stages
    assert (spatial.part, whole.part) == ("spatial", "all")
    assert whole.frames == 5
    assert whole.sparsity == 5e-7
    assert whole.sparsity_after == 0
    for stage in recipe.stages:
        assert (stage.patch, stage.loss) == (50, "mse")
        assert stage.learning_rate == stage.final_learning_rate == 1e-4  # Adam's, without a schedule
        assert (stage.warmup, stage.clip_gradient, stage.ema, stage.aliasing_until) == (0, 0, 0, 0)
    assert whole.iterations * whole.batch == 400 * 5800  # epochs of sequences
    data = recipe.data
    assert (data.clip_share, data.text_share, data.warp_share, data.longest_stride) == (1, 0, 0, 1)


def test_the_light_recipe_trains_the_light_network() -> None:
    recipe = load_recipe("lite")
    assert recipe.name == "ristn-lite"
    assert recipe.model == CONFIGS["ristn-lite"]
    assert all(stage.part == "all" for stage in recipe.stages)
    assert recipe.data.validation


def test_pixels_trained_on_by_hand() -> None:
    recipe = parse_recipe(SMALL)
    first, second = 16 * 5 * 50**2, 16 * 3 * 50**2
    assert [stage.pixels for stage in recipe.stages] == [first, second]
    assert replace(recipe.stages[0], part="spatial").pixels == first // 5
    assert [recipe.pixels_at(step) for step in (0, 1, 5, 8, 12, 20)] == [
        0,
        first,
        5 * first,
        5 * first + 3 * second,
        *[5 * first + 7 * second] * 2,
    ]


def test_the_light_recipe_is_one_run() -> None:
    recipe = load_recipe("lite")
    assert [stage.continues for stage in recipe.stages] == [False, True, True, True, True]
    assert all(stage.learning_rate == stage.final_learning_rate for stage in recipe.stages[:-1])
    decay, total = recipe.stages[-1], recipe.pixels_at(recipe.iterations)
    assert 0.15 < decay.pixels * decay.iterations / total < 0.25
    assert decay.final_learning_rate < 0.01 * decay.learning_rate


def test_different_recipes_have_different_plain_values() -> None:
    recipe = parse_recipe(SMALL)
    assert recipe.to_dict() == parse_recipe(SMALL).to_dict()
    assert recipe.to_dict() != parse_recipe(SMALL.replace("iterations = 7", "iterations = 8")).to_dict()
    assert recipe.to_dict() != parse_recipe(SMALL.replace("growth = 8", "growth = 9")).to_dict()
    assert recipe.to_dict()["stages"][1]["frames"] == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "small"', "name = small", "not TOML"),
        ('name = "small"', "", "name"),
        ('name = "small"', 'name = "small"\nspeed = 3', "unknown key 'speed'"),
        ("growth = 8", "width = 8", "unknown key 'model.width'"),
        ("growth = 8", "growth = 0", "1 or more"),
        ("growth = 8", 'growth = "wide"', r"model\.growth is 'wide'"),
        ("growth = 8", "deconvolution_kernel = 5", "deconvolution_kernel 5"),
        ('preset = "ristn-lite"', 'preset = "huge"', "unknown preset 'huge': expected one of paper"),
        ('clips = ""', 'films = ""', "unknown key 'data.films'"),
        ("frames = 3", "fps = 3", r"unknown key 'stages\[1\].fps'"),
        ("frames = 3", "frames = 0", "1 or more"),
        ("frames = 3", 'patch = "50"', r"stages\[1\].patch is '50', expected a whole number"),
        ("frames = 3", 'part = "half"', "unknown part 'half'"),
        ("frames = 3", 'loss = "l1"', "unknown loss 'l1'"),
        ("frames = 3", "ema = 1.0", "ema 1.0"),
        ("frames = 3", "beta2 = 1.0", "beta2 1.0"),
        ("frames = 3", "loss_border = 25", "loss_border 25: expected 0 or more, and less than half of patch 50"),
        (
            "frames = 3",
            'part = "spatial"\ncontinues = true',
            "stage 'second' has continues = true, but the stage before",
        ),
        ("iterations = 7", "", "iterations"),
        ('name = "small"', 'name = "small"\nvalidate_every = 0', "1 or more"),
    ],
)
def test_recipes_that_are_invalid_are_refused(old: str, new: str, message: str) -> None:
    assert SMALL.count(old) == 1
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(SMALL.replace(old, new), "here.toml")
    assert str(caught.value).startswith("here.toml: ")
    assert "\n" not in str(caught.value)


def test_a_recipe_without_stages_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"no \[\[stages\]\]"):
        parse_recipe(SMALL[: SMALL.index("[[stages]]")])


def test_recipes_are_found_by_path_or_name(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(SMALL)
    assert load_recipe(str(path)) == parse_recipe(SMALL)
    with pytest.raises(RecipeError, match=r"none\.toml: No such file"):
        load_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(RecipeError, match=r"heavy: no such recipe; .* one of lite, lite-real, lite-sharp, paper"):
        load_recipe("heavy")
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(RecipeError, match="not text in UTF-8; expected a recipe in TOML"):
        load_recipe(str(path))


@pytest.mark.parametrize("name", ["lite-real", "lite-sharp"])
def test_recipes_that_fine_tune_use_the_network_of_their_weights(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.model == load_weights(find_weights(recipe.start_from)).config
    assert all(stage.freeze_norm for stage in recipe.stages)  # each process may have one window


def test_the_recipe_for_real_footage_is_trained_on_it() -> None:
    recipe = load_recipe("lite-real")
    assert (recipe.data.degradation, recipe.data.validation_crf) == ("real", 28)


@pytest.mark.parametrize(
    "values", ["degradation = 'harsh'", "lowest_crf = 40", "highest_scale = 1", "blur = 3.0", "validation_crf = 52"]
)
def test_degradations_that_are_invalid_are_refused(values: str) -> None:
    with pytest.raises(RecipeError, match="data: "):
        parse_recipe(f"name = 'x'\n[data]\n{values}\n[[stages]]\nname = 'a'\niterations = 1\n")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("rain = 0.1", "unknown key 'degradations.rain'"),
        ("grain = 1.5", "grain 1.5: expected a share from 0 to 1"),
        ("strong = 0.5\ntwice = 0.4\ndvd = 0.2", "the sum of strong, twice and dvd is more than 1"),
        ("weakest = 0.6\nstrongest = 0.5", "weakest and strongest: expected 0 to 1, weakest <= strongest"),
    ],
)
def test_tables_of_degradations_that_are_invalid_are_refused(values: str, message: str) -> None:
    text = (
        f"name = 'x'\n[data]\ndegradation = 'real'\n[degradations]\n{values}\n[[stages]]\nname = 'a'\niterations = 1\n"
    )
    with pytest.raises(RecipeError, match=message):
        parse_recipe(text)


def test_a_table_of_degradations_is_for_real_footage() -> None:
    text = "name = 'x'\n[degradations]\ngrain = 0.25\n[[stages]]\nname = 'a'\niterations = 1\n"
    with pytest.raises(RecipeError, match=r"\[degradations\] needs degradation = 'real'"):
        parse_recipe(text)
    table = parse_recipe(text.replace("[degradations]", "[data]\ndegradation = 'real'\n[degradations]")).degradations
    assert {name: share for name, share in table.shares.items() if share} == {"grain": 0.25}


def test_checkpoints_from_before_a_field_have_its_default() -> None:
    recipe = parse_recipe(SMALL)
    stored = recipe.to_dict()
    del stored["degradations"], stored["data"]["drawing_share"]
    assert changed_field(stored, recipe.to_dict()) == ""
    real = replace(recipe, data=replace(recipe.data, degradation="real"))
    grainy = replace(real, degradations=DegradationRecipe(grain=0.1))
    assert changed_field(real.to_dict(), grainy.to_dict()) == "degradations"
    assert changed_field(stored, replace(recipe, data=replace(recipe.data, drawing_share=0.1)).to_dict()) == "data"
