"""Reads recipes from TOML, and compares them with those of checkpoints."""

from dataclasses import MISSING, fields
from importlib import resources
from pathlib import Path
from typing import Any

from ristn_cli.model import CONFIGS
from ristn_cli.training.degradation_recipe import DegradationRecipe
from ristn_cli.training.loss_recipe import LossRecipe
from ristn_cli.training.recipe import MAX_RECIPE_BYTES, NOT_COMPARED, DataRecipe, Recipe, RecipeError, StageRecipe
from ristn_cli.typed import MalformedError, brief, build, parse_toml, read_text


def changed_field(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Return the name of the first field in which two results of `Recipe.to_dict` differ, or an empty string.

    Fields missing in `stored` count as their defaults, because later versions add fields.
    """
    stored = with_defaults(Recipe, stored)
    stored["data"] = with_defaults(DataRecipe, stored.get("data", {}))
    stored["degradations"] = with_defaults(DegradationRecipe, stored.get("degradations", {}))
    stored["stages"] = [with_defaults(StageRecipe, stage) for stage in stored.get("stages", [])]
    for stage in stored["stages"]:
        stage["terms"] = with_defaults(LossRecipe, stage.get("terms", {}))
    names = sorted({*wanted, *stored} - NOT_COMPARED)
    return next((name for name in names if stored.get(name) != wanted.get(name)), "")


def with_defaults(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe's table, completed with defaults."""
    return {item.name: item.default for item in fields(kind) if item.default is not MISSING} | values


def loss_table(value: Any, where: str) -> dict[str, Any]:
    """Return a `loss` value of a recipe or stage as a table. A string is the name of the pixel error."""
    if isinstance(value, str):
        return {"pixel": value}
    if not isinstance(value, dict):
        raise MalformedError(f"{where} is {brief(value)}, expected a table or the name of a pixel error")
    return value


def spread_loss(tables: dict[str, Any]) -> dict[str, Any]:
    """Copy the recipe's `[loss]` table into each stage. Values of a stage's own `loss` take precedence."""
    common = loss_table(tables.get("loss", {}), "[loss]")
    tables = {name: value for name, value in tables.items() if name != "loss"}
    stages = tables.get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        return tables  # building the recipe reports the error
    spread = []
    for stage in stages:
        if "terms" in stage:
            raise MalformedError("[[stages]]: unknown key 'terms'")
        loss = common | loss_table(stage.get("loss", {}), "[[stages]]: loss")
        terms = {name: value for name, value in loss.items() if name != "pixel"}
        pixel = {"loss": loss["pixel"]} if "pixel" in loss else {}
        spread.append({name: value for name, value in stage.items() if name != "loss"} | pixel | {"terms": terms})
    return tables | {"stages": spread}


def parse_recipe(text: str, where: str = "recipe") -> Recipe:
    """Read a recipe from TOML text.

    Raises:
        RecipeError: the text is not TOML, or has an unknown key or an invalid value. The message begins with `where`.
    """
    try:
        tables = {"stages": []} | spread_loss(parse_toml(text))
        model = build(dict[str, Any], tables.get("model", {}), f"{where}: [model]")
        preset = build(str, model.pop("preset", "paper"), f"{where}: [model]")
        if preset not in CONFIGS:
            raise RecipeError(f"{where}: unknown preset {preset[:50]!r}: expected one of {', '.join(CONFIGS)}")
        recipe: Recipe = build(Recipe, tables | {"model": CONFIGS[preset].to_dict() | model}, where)
        return recipe
    except MalformedError as error:
        message = str(error).replace("].terms", "].loss")  # the name in the file
        raise RecipeError(message if message.startswith(where) else f"{where}: {message}") from error
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error


def load_recipe(name: str) -> Recipe:
    """Read a recipe from a path, or one that is part of ristn by its name (`lite`, `paper`).

    Raises:
        RecipeError: the recipe does not exist or cannot be read.
    """
    path = Path(name)
    if path.suffix == ".toml":
        try:
            return parse_recipe(read_text(path, most_bytes=MAX_RECIPE_BYTES), name)
        except OSError as error:
            raise RecipeError(f"{name}: {error.strerror}") from error
        except MalformedError as error:
            raise RecipeError(f"{error}; expected a recipe in TOML") from error
    shipped = resources.files("ristn_cli.training") / "recipes"
    names = sorted(item.name.removesuffix(".toml") for item in shipped.iterdir() if item.name.endswith(".toml"))
    if name not in names:
        raise RecipeError(f"{name}: no such recipe; expected a .toml file or one of {', '.join(names)}")
    return parse_recipe((shipped / f"{name}.toml").read_text(encoding="utf-8"), name)
