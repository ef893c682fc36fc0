"""The base of all settings. What enters: keywords, a mapping or YAML. What leaves: a frozen, checked object.

Settings stand directly above the class they configure. An unknown key is an error; a choice between kinds is a union
told apart by its `kind` field, and taken apart with `match`.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

SHOWN = 4
"""More faults are left out: they follow from the first, as a rule."""


class Settings(BaseModel):
    """Frozen, keyword-only, strict about unknown keys; numbers are finite.

    `training_only` names the fields that leave a trained model's codes as they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
    training_only: ClassVar[frozenset[str]] = frozenset()

    def meaning(self) -> dict[str, Any]:
        """What these settings say about codes: `kind`, and each field neither training-only nor at its default.

        Hashes of models are made of this, so that a field added later, at a default that changes nothing, leaves every
        hash as it was. A default, once released, never changes.
        """
        told: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name not in self.training_only and (name == "kind" or value != field.get_default()):
                told[name] = value.meaning() if isinstance(value, Settings) else value
        return told


def told_faults(error: ValidationError, within: str = "") -> str:
    """What pydantic found wrong, in our words: "data.crop: Input should be greater than 0; …".

    `within` is where all the settings lie, "loss.rate" say.
    """
    faults = []
    for fault in error.errors()[:SHOWN]:
        place = ".".join(map(str, ([within] if within else []) + list(fault["loc"])))
        said = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{place}: {said}" if place else said)
    return "; ".join(faults)
