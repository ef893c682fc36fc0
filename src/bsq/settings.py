"""The base of all settings. What enters: keywords, a mapping or YAML. What leaves: a frozen, checked object.

Settings stand directly above the class they configure. An unknown key is an error; a choice between kinds is a union
told apart by its `kind` field, and taken apart with `match`.
"""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, keyword-only, strict about unknown keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
