"""Saves a model card with each model, and pushes both to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor
from transformers.utils.hub import PushInProgress

from sparsepo.batches.tokenize import TokenizeReport
from sparsepo.training.card import CARD_FILE, model_card
from sparsepo.training.checkpoints import CheckpointedTrainer
from sparsepo.training.hub import create_repository, push_checkpoint, push_folder

if TYPE_CHECKING:
    from sparsepo.data.pairs import ReadReport


class SharingTrainer(CheckpointedTrainer):
    """A CheckpointedTrainer that saves a model card with the model and pushes both to the hub."""

    draws_samples: ClassVar[bool] = False
    """Whether training pairs are samples of the policy rather than given."""
    hub_model_id: str | None  # type: ignore[assignment]
    push_in_progress: PushInProgress | None  # type: ignore[assignment]
    read_reports: Mapping[str, ReadReport] = {}
    """Reports on reading the data, if sparsepo read it, by a title such as "Training"."""
    tokenizer_report: TokenizeReport | None = None
    """The report on tokenizing the training pairs."""

    def hook_save(self, directory: Path, gathered: dict[str, Tensor] | None) -> None:
        """Write the trained model and, last because PEFT writes a card of its own, its card."""
        super().hook_save(directory, gathered)
        model_card(self).save(directory / CARD_FILE)

    def create_model_card(self, **facts: Any) -> None:  # type: ignore[override]
        """Write the model card to the output folder; saving the model writes it too.

        Args:
            facts: arguments of `sparsepo.training.card.model_card` that override the trainer's own
                values: model_name, dataset_name, tags, language, license, finetuned_from.
        """
        if self.is_world_process_zero():
            model_card(self, **facts).save(Path(str(self.args.output_dir)) / CARD_FILE)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository to push to.

        Raises:
            UserError: the hub cannot be reached, or rejects the request.
        """
        if self.is_world_process_zero():
            self.hub_model_id = create_repository(self, token, private)
            self.push_in_progress = None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **facts: Any,
    ) -> Any:
        """Save the model to the output folder and upload it with its masks and its card.

        Args:
            commit_message: the message of the commit.
            blocking: wait for the upload.
            token: overrides `hub_token`.
            revision: overrides `hub_revision`.
            private: overrides `hub_private_repo`, if the repository does not exist yet.
            facts: arguments for the model card, see `create_model_card`.

        Returns:
            The commit, or a future of it if not blocking.

        Raises:
            UserError: the hub cannot be reached, or rejects the request; the saved model is kept.
        """
        self.save_model(_internal_call=True)
        folder = Path(str(self.args.output_dir))
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        # Trackers add tags to the model that link to their pages.
        tags = facts.pop("tags", None) or []
        tags = [tags] if isinstance(tags, str) else list(tags)
        self.create_model_card(
            tags=[*tags, *(getattr(self.model, "model_tags", None) or [])], **facts
        )
        message = commit_message or "End of training"
        return push_folder(self, folder, message, blocking=blocking, token=token, revision=revision)

    def hook_push(self, checkpoint: Path) -> None:
        """Upload a checkpoint's model."""
        push_checkpoint(self, checkpoint)
