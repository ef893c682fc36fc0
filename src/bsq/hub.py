"""Models to folders and the hub. What enters: a model. What leaves: weights, configuration, card, and the prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, PyTorchModelHubMixin

from bsq.card import ModelFacts, write_card
from bsq.folders import WEIGHTS_FILE, card_of, copy_companions, rewriting, write_tensors


class HubModel(PyTorchModelHubMixin):
    """The doors of Hugging Face's mixin, with folders that are whole or not there, and cards that say something.

    `origin` is the folder a model was loaded from. What lay there beside the weights goes along: the prior and further
    decoders while the codes are the same, the card while all weights are.
    """

    origin: Path | None = None

    @property
    def code_hash(self) -> str:
        """Names what the model's codes mean."""
        raise NotImplementedError

    def facts(self, name: str) -> ModelFacts:
        """What a card says of this model under that name."""
        raise NotImplementedError

    def state_dict(self, *given: Any, **options: Any) -> dict[str, Any]:
        """That of `nn.Module`, which a model is besides."""
        return super().state_dict(*given, **options)  # type: ignore[misc]

    def save_pretrained(
        self, save_directory: str | Path, *, push_to_hub: bool = False, repo_id: str | None = None, **options: Any
    ) -> str | None:
        """The hub's door, and its `options`. A model already in the folder stays as it is until this one is whole."""
        folder = Path(save_directory)
        with rewriting(folder) as draft:
            copy_companions(self.origin, draft, self.code_hash)
            card = {"name": folder.name} | (options.get("model_card_kwargs") or {})
            super().save_pretrained(draft, model_card_kwargs=card)
        return str(self.push_to_hub(repo_id or folder.name, **options)) if push_to_hub else None

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """The hub's door, and its `options`: the files of `save_pretrained`, whose card calls the model `repo_id`."""
        card = {"name": repo_id} | (options.pop("model_card_kwargs", None) or {})
        return str(super().push_to_hub(repo_id, model_card_kwargs=card, **options))

    def generate_model_card(self, name: str) -> ModelCard:
        """The card that came with these weights; else one that says what `bsq.load(name)` gives."""
        own = card_of(self.origin, self.state_dict())
        return ModelCard(write_card(self.facts(name)) if own is None else own)

    def _save_pretrained(self, save_directory: Path) -> None:
        write_tensors(save_directory / WEIGHTS_FILE, self.state_dict())
