"""GPT-2's files, from the hub or a folder."""

from pathlib import Path

from trainloop import LabError, check

TOKENIZER_FILES = ("vocab.json", "merges.txt")
WEIGHT_FILES = ("config.json", "model.safetensors")


def gpt2_folder(name: str, weights: bool = True) -> Path:
    """The folder with a GPT-2's files: `name` itself, or where the hub's copy was put.

    Raises:
        LabError: a folder that lacks some, or a hub that cannot be reached or knows no such name.
    """
    wanted = [*TOKENIZER_FILES, *(WEIGHT_FILES if weights else ())]
    if Path(name).is_dir():
        missing = [file for file in wanted if not (Path(name) / file).is_file()]
        check(not missing, f"{name} lacks {', '.join(missing)}")
        return Path(name)
    check("/" not in name.strip("./") or name.count("/") == 1, f"there is no folder {name}")
    repository = name if "/" in name else f"openai-community/{name}"
    if name.startswith("distil"):
        repository = f"distilbert/{name}"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except Exception as error:  # no network, no such name, a hub that is down: all the same to us
        raise LabError(
            f"{repository} cannot be had from the hub ({type(error).__name__}): put "
            f"{', '.join(wanted)} into a folder and give its path instead of {name}"
        ) from None
