"""The dimensions of a search together, held against the recipe's schema before anything trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfrecipes.recipe.errors import RecipeError
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.recipe.schema import DEFAULT_MEMBER, FAMILIES
from tfrecipes.recipe.validation import keys_of, model_of
from tfrecipes.searching.dimensions import Dimension, combinations

# Within this share of a range's end the best is said to lie on it.
EDGE = 0.05


@dataclass(frozen=True)
class Space:
    """Dimensions and the recipe that they vary.

    Args:
        dimensions: One a field.
        start: The recipe that the search starts from; its fields outside the space stay.
    """

    dimensions: tuple[Dimension, ...]
    start: Recipe

    @classmethod
    def parse(cls, given: Mapping[str, Any], start: Recipe) -> "Space":
        """Reads dimensions, and checks both ends of each against the recipe's schema.

        Args:
            given: Fields to what `Dimension.parse` takes.
            start: The recipe.

        Raises:
            ValueError: With every error; each names its field.
        """
        if not isinstance(given, Mapping):
            raise ValueError(
                "space: must be a dict from a recipe's dotted name to a dimension. Received: "
                f'{given!r}. Write {{"schedule.peak_learning_rate": ("log", 1e-4, 1e-1)}}.'
            )
        dimensions, errors = [], []
        for field, spec in given.items():
            try:
                dimensions.append(Dimension.parse(str(field), spec))
            except ValueError as error:
                errors.append(str(error).removeprefix("space: "))
        if "train.seed" in given:
            errors.append("train.seed: a seed is noise. Leave it out, and raise `repeats`.")
        space = cls(tuple(dimensions), start)
        errors += space._invalid_ends()
        if errors:
            raise RecipeError("space", list(dict.fromkeys(errors)))
        return space

    def changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What Keras Tuner chose, as changes of the recipe.

        A field that the chosen optimizer or schedule does not have is left out.
        """
        found = {d.field: d.decode(values[d.field]) for d in self.dimensions if d.field in values}
        return {field: value for field, value in found.items() if self._has(field, found)}

    def recipe(self, changes: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial."""
        return self.start.replace(**changes)

    def at_the_edge(self, changes: Mapping[str, Any], recipe: Recipe) -> list[str]:
        """A sentence for each dimension whose end the best lies on, with the wider range to try.

        An end that the schema ends at too, such as a weight decay of 0, is none.
        """
        found = []
        for one in self.dimensions:
            place = one.place(changes.get(one.field))
            if place is None or EDGE < place < 1 - EDGE:
                continue
            upwards = place > 0.5
            wider = self._wider(one, upwards, recipe)
            if wider is not None:
                end = "high" if upwards else "low"
                found.append(
                    f"{one.field}: the best, {changes[one.field]}, lies on the {end} end of {one}; "
                    f"a better one may lie beyond it. Try {wider}."
                )
        return found

    def _wider(self, one: Dimension, upwards: bool, recipe: Recipe) -> Dimension | None:
        for share in (0.5, 0.25, 0.1):
            wider = one.widened(upwards, share)
            beyond = wider.decode(wider.high if upwards else wider.low)
            try:
                recipe.replace(**{one.field: beyond})
            except ValueError:
                continue
            if (wider.low, wider.high) != (one.low, one.high):
                return wider
        return None

    def _has(self, field: str, chosen: Mapping[str, Any]) -> bool:
        """Whether the chosen optimizer or schedule has a field; other tables always do."""
        table, dot, key = field.partition(".")
        if not dot or table not in FAMILIES or key == "name":
            return True
        own = self.start.as_dict().get(table, {}).get("name", DEFAULT_MEMBER[table])
        model = model_of(table, chosen.get(f"{table}.name", own))
        return model is not None and key in keys_of(model)

    def _invalid_ends(self) -> list[str]:
        errors: list[str] = []
        combined: Sequence[dict[str, Any]] = combinations(self.dimensions)
        named = combined[0] if combined else {}
        for one in self.dimensions:
            if one.field in named:
                continue
            homes = [chosen for chosen in combined if self._has(one.field, chosen)]
            for chosen in homes or [{}]:
                for end in one.ends():
                    found = self._errors({**chosen, one.field: end})
                    whole = one.kind == "linear" and any("whole number" in e for e in found)
                    errors += [f'{e} Write ("int", low, high).' for e in found] if whole else found
        if not errors and named:
            for chosen in combined:
                errors += self._errors(chosen)
        return errors

    def _errors(self, changes: Mapping[str, Any]) -> list[str]:
        try:
            self.start.replace(**changes)
        except RecipeError as error:
            return list(error.errors)
        return []
