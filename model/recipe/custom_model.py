"""The part of a recipe that puts a user's own network in the place of the project's encoder and decoder."""

from __future__ import annotations

from pydantic import Field, JsonValue, model_validator

from model.strict import Strict


class CustomModelConfig(Strict):
    """A function of the user's that makes the network (model/network/protocol.py); without `factory` it is ours.

    The function is called as `factory(recipe, **settings)`. It may read sizes from the recipe, too: `encoder` and
    `decoder` then mean what it makes of them. `decoder.layers` is how many layers `loss.auxiliary.placement` chooses
    from.
    """

    factory: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="package.module:name of the function that makes the network; null is the project's own network",
    )
    path: str | None = Field(
        None, description="folder that the module is imported from; null = it is installed where trials run"
    )
    settings: dict[str, JsonValue] | None = Field(
        None, description="keyword arguments of the function; a study searches them as custom_model.settings.NAME"
    )
    fingerprint: str | None = Field(None, description="content hash of the module's file; other content is refused")

    @model_validator(mode="after")
    def _check_consistency(self) -> CustomModelConfig:
        if self.factory is None:
            for name in ("path", "settings", "fingerprint"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is given, but factory is null; name the function, or leave out {name}")
        for name in self.settings or {}:
            if not name.isidentifier():
                raise ValueError(f"settings has '{name}', but a setting is a keyword argument; give it a Python name")
        return self

    @property
    def module(self) -> str:
        """The module that `factory` names."""
        return (self.factory or "").partition(":")[0]

    @property
    def name(self) -> str:
        """The function that `factory` names."""
        return (self.factory or "").partition(":")[2]
