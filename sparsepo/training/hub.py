"""Uploads to the Hugging Face hub, with errors of one sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from huggingface_hub import CommitInfo, HfApi
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy
from transformers.utils.hub import PushInProgress

from sparsepo.errors import UserError, first_line

if TYPE_CHECKING:
    from sparsepo.training.sharing import SharingTrainer

STAGE = ".pushing"
"""Subfolder of the output folder with the files of the checkpoint that is being uploaded."""

_NOT_UPLOADED = ["_*", f"{PREFIX_CHECKPOINT_DIR}-*", ".*"]
_NOT_THE_MODEL = (
    "optimizer*",
    "scheduler*",
    "scaler*",
    "rng_state*",
    "trainer_state.json",
    "training_args.bin",
    "log_window.json",
    "data.json",
    "global_step*",
    "pytorch_model_fsdp*",
    "latest",
    "zero_to_fp32.py",
)
"""Files of a checkpoint that are only needed for resuming."""

Result = TypeVar("Result")


def create_repository(trainer: SharingTrainer, token: str | None, private: bool | None) -> str:
    """Create the repository `hub_model_id`, or one named after the output folder; return its id.

    Raises:
        UserError: the hub cannot be reached or rejects the request; nothing was trained yet.
    """
    args = trainer.args
    name = args.hub_model_id or Path(str(args.output_dir)).absolute().name

    def create() -> str:
        url = _api().create_repo(
            name,
            token=token if token is not None else args.hub_token,
            private=private if private is not None else args.hub_private_repo,
            exist_ok=True,
        )
        return str(url.repo_id)

    return _call_hub(create, f"The repository '{name}' cannot be created on the hub")


def push_folder(
    trainer: SharingTrainer,
    folder: Path,
    message: str,
    *,
    blocking: bool = True,
    token: str | None = None,
    revision: str | None = None,
) -> CommitInfo | Any:
    """Upload a saved model, without checkpoints and hidden files, after earlier uploads finish.

    Args:
        trainer: the trainer that owns the repository; only its first process uploads.
        folder: where the model was saved.
        message: the message of the commit.
        blocking: wait for the upload.
        token: overrides `hub_token`.
        revision: overrides `hub_revision`.

    Returns:
        The commit, or a future of it if not blocking; None in the other processes.

    Raises:
        UserError: the upload failed; the saved model is untouched.
    """
    trainer.callback_handler.on_push_begin(trainer.args, trainer.state, trainer.control)
    if not trainer.is_world_process_zero():
        return None
    if trainer.hub_model_id is None:
        trainer.init_hf_repo(token=token)
    trainer.finish_push()
    shutil.rmtree(Path(str(trainer.args.output_dir)) / STAGE, ignore_errors=True)

    def upload() -> Any:
        return _api().upload_folder(
            repo_id=str(trainer.hub_model_id),
            folder_path=folder,
            commit_message=message,
            token=token if token is not None else trainer.args.hub_token,
            run_as_future=not blocking,  # type: ignore[call-overload]
            ignore_patterns=_NOT_UPLOADED,
            revision=revision if revision is not None else trainer.args.hub_revision,
        )

    return _call_hub(
        upload,
        f"The model is saved in {folder}, but it cannot be pushed to the hub",
        f"hf upload {trainer.hub_model_id} {folder}",
    )


def push_checkpoint(trainer: SharingTrainer, checkpoint: Path) -> None:
    """Start uploading a checkpoint's model, or the whole checkpoint if `hub_strategy` says so.

    transformers would copy the model's files, without masks and description, to the output folder,
    where an interrupted run would look like a finished one. The files are hard-linked to a separate
    folder instead, because the checkpoint may be removed before the upload finishes.
    """
    args = trainer.args
    busy = trainer.push_in_progress is not None and not trainer.push_in_progress.is_done()
    if not trainer.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
        return
    if busy and not args.hub_always_push:
        return
    trainer.finish_push()
    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    stage = Path(str(args.output_dir)) / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    ignored = shutil.ignore_patterns(*_NOT_THE_MODEL)
    shutil.copytree(checkpoint, stage / "model", copy_function=_link, ignore=ignored)
    uploads = {"": stage / "model"}
    if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        shutil.copytree(checkpoint, stage / "checkpoint", copy_function=_link)
        latest = args.hub_strategy == HubStrategy.CHECKPOINT
        uploads["last-checkpoint" if latest else checkpoint.name] = stage / "checkpoint"
    jobs = [
        _api().upload_folder(
            repo_id=str(trainer.hub_model_id),
            folder_path=folder,
            path_in_repo=place or None,
            commit_message=f"Training in progress, step {trainer.state.global_step}",
            token=args.hub_token,
            run_as_future=True,
            revision=args.hub_revision,
        )
        for place, folder in uploads.items()
    ]
    trainer.push_in_progress = PushInProgress(jobs)  # type: ignore[arg-type]


def _api() -> HfApi:
    from sparsepo import __version__

    return HfApi(library_name="sparsepo", library_version=__version__)


def _call_hub(call: Callable[[], Result], failure: str, command: str | None = None) -> Result:
    # The client raises its own errors, errors of its HTTP library, OSError and ValueError.
    try:
        return call()
    except Exception as error:
        then = f"then run `{command}`" if command else "or leave out push_to_hub"
        raise UserError(
            f"{failure} ({first_line(error).rstrip('.:')}); check the network and log in with "
            f"`hf auth login`, {then}."
        ) from error


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
