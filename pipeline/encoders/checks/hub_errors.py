"""What a library's error about a model means: one sentence with the remedy."""

import errno
import os
from collections.abc import Iterator
from typing import Any
from urllib.request import getproxies

from frozen_vqa.pipeline.encoders.model_name import is_path

AGAIN = "then run the same command again, which goes on where it was"
HALF = ("consistency check failed", "incomplete", "peer closed", "content-length")
"""What the libraries say of a file of which only a part came."""


def explain(name: str, error: BaseException) -> str:
    """Return the sentence about an error while the model `name` was looked for or loaded."""
    from huggingface_hub import constants

    if os.path.isdir(name):  # unlike Path.is_dir, False for a name that is too long for a file
        return _of_folder(name, error)
    if is_path(name):
        return f"{name}: there is no such folder, and it is not the name of a model on the Hub"
    causes = list(causes_of(error))
    if known := next((text for one in causes if (text := _of_answer(name, one))), ""):
        return known
    if constants.HF_HUB_OFFLINE:  # true for "1" and "yes", not for "0"
        return (
            f"{name} is not in the local Hub cache, and offline mode is on; run `hf download "
            f"{name}` with a network, or unset HF_HUB_OFFLINE"
        )
    for of_kind in (_of_network, _of_words):  # the words of an outer error may be vague
        if known := next((text for one in causes if (text := of_kind(name, one))), ""):
            return known
    kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
    return f"{name} cannot be loaded: {kind}{' '.join(str(error).split())}"[: len(name) + 320]


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def hub_host() -> str:
    """Return the host that is asked, which may be a mirror, without a login for it."""
    from huggingface_hub import constants

    address = str(constants.ENDPOINT)
    return (address.partition("//")[2] or address).rpartition("@")[2]


def _of_folder(name: str, error: BaseException) -> str:
    kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
    return f"{name} is not a complete model folder: {(kind + ' '.join(str(error).split()))[:300]}"


def _of_answer(name: str, error: BaseException) -> str:
    """Return what an answer of the Hub means; "" if this is none."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return (
                f"{name} is gated: request access at https://huggingface.co/{name}, then run "
                f"`hf auth login` (or set HF_TOKEN) and try again"
            )
        case errors.RepositoryNotFoundError():
            return (
                f"{name} is neither a local folder nor a model on the Hub; check the spelling, "
                f"or run `hf auth login` if it is private"
            )
        case errors.RevisionNotFoundError():
            revision = str(error.response.url).partition("/resolve/")[2].partition("/")[0]
            return (
                f"{name} has no revision {revision:.80} on the Hub, or no longer; give a branch, a "
                f"tag or a commit that https://huggingface.co/{name}/commits shows"
            )
        case errors.RemoteEntryNotFoundError():
            file = str(error.response.url).rpartition("/")[2].partition("?")[0]
            return (
                f"{name} has no file {file:.80} on the Hub, so transformers cannot load it; give "
                f"another model"
            )
        case errors.HfHubHTTPError():
            return _of_status(name, error.response.status_code)
    return ""


def _of_status(name: str, status: int) -> str:
    host = hub_host()
    if status == 401:
        return (
            f"{host} does not know the login that {name} was asked for with (401); run `hf auth "
            f"login` anew, or unset HF_TOKEN if it is old"
        )
    if status == 403:
        return (
            f"{host} does not let this login read {name} (403); ask its owner for access, or give "
            f"a token that may read it: `hf auth login`"
        )
    if status == 407:
        return (
            f"the proxy wants a login before {name} can be fetched (407); put it into HTTPS_PROXY"
        )
    if status == 429:
        return (
            f"{host} has been asked too often (429), so {name} cannot be fetched now; wait some "
            f"minutes, or log in with `hf auth login` for a higher limit, {AGAIN}"
        )
    if status >= 500:
        return f"{host} fails ({status}), so {name} cannot be fetched now; wait, {AGAIN}"
    return f"{host} answers {status} for {name}; check the spelling and HF_ENDPOINT"


def _of_network(name: str, error: BaseException) -> str:
    """Return what a failure of the network or of this disk means; "" if this is none."""
    from huggingface_hub import errors

    host = hub_host()
    # By name, because the library has changed its HTTP client, whose errors are these.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ProxyError" in kinds:
        return (
            f"the proxy cannot be used to fetch {name} ({_short(error)}); correct HTTPS_PROXY, "
            f"or unset it"
        )
    if "TimeoutException" in kinds:
        return (
            f"{host} did not answer in time for {name}; check the network, or allow more "
            f"seconds with HF_HUB_DOWNLOAD_TIMEOUT and HF_HUB_ETAG_TIMEOUT, {AGAIN}"
        )
    if "ConnectError" in kinds:
        return _unreachable(name)
    match error:
        case errors.LocalEntryNotFoundError() if "disabled" in str(error):  # `local_only`
            return (
                f"{name} is not whole in the local Hub cache, and the Hub is not asked for a model "
                f"that only a run names. If you trust it: `hf download {name}`, then try again"
            )
        case errors.FileMetadataError():
            return (
                f"{host} does not answer for {name} as the Hub does ({_short(error)}); check "
                f"HF_ENDPOINT, or unset it"
            )
        case OSError() if error.errno == errno.ENOSPC:
            return (
                f"the disk of the local Hub cache is full, so {name} cannot be fetched; free some "
                f"space, or set HF_HOME to a folder on another disk"
            )
    return ""


def _of_words(name: str, error: BaseException) -> str:
    """Return what the words of an error mean whose class says nothing; "" if these neither."""
    text = str(error).lower()
    if any(words in text for words in HALF):
        return f"only a part of {name} came from {hub_host()}; check the network, {AGAIN}"
    return _unreachable(name) if "connect" in text or "resolve" in text else ""


def _unreachable(name: str) -> str:
    proxies = {kind: url for kind, url in getproxies().items() if kind in ("http", "https", "all")}
    via = f" through the proxy that {min(proxies).upper()}_PROXY names" if proxies else ""
    host = hub_host()
    mirror = "" if host == "huggingface.co" else " (HF_ENDPOINT)"
    return (
        f"{name} is not in the local Hub cache, and {host}{mirror} cannot be reached{via}; "
        f"run `hf download {name}` with a network, or give a local folder"
    )


def _short(error: Any) -> str:
    return " ".join(str(error).split())[:100]
