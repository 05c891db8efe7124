"""Upload files to a model repository of the Hugging Face Hub, as one commit."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from stages.core.errors import HostError, ParamsError, printable

TOKEN = "HF_TOKEN"  # noqa: S105  # a variable's name


def require_token() -> str:
    """Return the environment's access token.

    Raises:
        HostError: if there is none.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise HostError(
            f"{TOKEN} is not set: the Hub takes uploads with an access token alone",
            "make one with write access on the Hub, under Settings, Access Tokens, "
            f"and run: export {TOKEN}=...",
        )
    return token


def upload(name: str, files: dict[str, Path], private: bool) -> str:
    """Make the repository if there is none, commit the files to it, and return the commit's URL.

    Call `hub.set_up` before anything imports the Hub's library.

    Args:
        name: owner/name.
        files: file on disk by its name in the repository.
        private: whether nobody else may see it. A repository that others can see is not used then.

    Raises:
        HostError: if there is no token, or the Hub cannot be reached.
        ParamsError: if the repository is public though a private one is wanted, or the Hub refuses.
    """
    token = require_token()
    from huggingface_hub import CommitOperationAdd, HfApi

    from stages.sources.hub_errors import UNREACHABLE, causes_of

    failures: tuple[type[BaseException], ...] = (OSError, ValueError, *UNREACHABLE)
    api = HfApi(token=token)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a card without a licence
            api.create_repo(name, private=private, exist_ok=True)
            if private and not api.repo_info(name).private:  # guard: private by default
                raise ParamsError(
                    f"bert-lora push: {name} is public on the Hub, so everyone would see the files",
                    "add --public if that is meant, or name another repository",
                )
            done = api.create_commit(
                name,
                [CommitOperationAdd(target, source) for target, source in sorted(files.items())],
                commit_message="Upload the classifier by bert-lora push",
            )
    except failures as error:
        if any(isinstance(cause, UNREACHABLE) for cause in causes_of(error)):
            what = f"the Hub could not be reached: {printable(_reason(error), 200)}"
            raise HostError(what, "check the network and run again") from None
        raise ParamsError(
            f"the Hub refuses the upload to {name}: {printable(_reason(error), 300)}",
            f"check the name, and that {TOKEN} may write to it",
        ) from None
    return str(done.commit_url)


def _reason(error: BaseException) -> str:
    """Return what the Hub says of an error, without the advice that its library adds."""
    said = getattr(error, "server_message", None)
    return str(said or error).strip().replace("\n", " ").rstrip(".")
