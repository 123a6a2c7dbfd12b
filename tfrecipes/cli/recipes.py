"""Verbs that answer at once: the saved recipes, shown, copied and checked."""

from pathlib import Path
from typing import Annotated

import typer

from tfrecipes.cli.program import BAD_INPUT, Debug, Overrides, app, resolve


@app.command()
def recipes(debug: Debug = False) -> None:
    """List the saved recipes."""
    from tfrecipes.recipe import gallery

    cards = gallery.cards()
    width = max((len(card.name) for card in cards), default=0)
    for card in cards:
        typer.echo(f"{card.name:<{width}}  {card.summary}".rstrip())


@app.command()
def show(
    recipe: Annotated[str, typer.Argument(help="A saved recipe's name, or a path.")],
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Print a recipe in full, with the reason of each choice.

    Every default is filled in, and each automatic choice says what it goes by.
    """
    from tfrecipes.recipe import gallery

    typer.echo(gallery.show(resolve(recipe, overrides)), nl=False)


@app.command()
def copy(
    recipe: Annotated[str, typer.Argument(help="A saved recipe's name, or a path.")],
    path: Annotated[
        Path | None, typer.Argument(help="The new file, or its folder; RECIPE.toml if left out.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Copy a recipe, comments and all, to a file to own and edit."""
    from tfrecipes.recipe import gallery

    typer.echo(gallery.copy(recipe, path))


@app.command()
def validate(
    files: Annotated[list[str], typer.Argument(help="Recipe files, or names.")],
    debug: Debug = False,
) -> None:
    """Check recipe files; every error of every file is printed."""
    from tfrecipes.recipe.errors import RecipeError
    from tfrecipes.recipe.recipe import Recipe

    failed = False
    for file in files:
        try:
            Recipe.load(file)
        except RecipeError as error:
            if debug:
                raise
            failed = True
            typer.echo(error, err=True)
        else:
            typer.echo(f"{file}: valid")
    if failed:
        raise typer.Exit(BAD_INPUT)
