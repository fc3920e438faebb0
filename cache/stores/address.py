"""The one door for URLs: text becomes an `Address`, or one sentence says why not.

An address never holds a credential, so whatever prints one shows none.
"""

import re
from dataclasses import dataclass

from frozen_vqa.cache.errors import StoreError

PROTOCOLS = ("s3", "gs", "hf", "file", "memory")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_PART = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff\\*?\[\]#:@]+")
_REPOSITORY = re.compile(r"datasets/[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Address:
    """Where a store is: `path` has the bucket and what is below it, without a slash at its end."""

    protocol: str
    path: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}"


def is_url(text: object) -> bool:
    """Return whether a text names a store, and no folder of this machine."""
    return isinstance(text, str) and _URL.fullmatch(text) is not None


def parse_address(text: str) -> Address:
    """Return the address of a URL; raise `StoreError` for one that is not taken."""
    address = _parse(text)
    if address.protocol == "hf" and not _REPOSITORY.fullmatch(address.path):
        raise StoreError(
            f"{text!r:.80}: a cache on the Hub is a data set; give hf://datasets/USER/NAME"
        )
    return address


def parse_object(text: str) -> tuple[Address, str]:
    """Return the bucket or data set of one object, and the object's name in it.

    Raises:
        StoreError: if it is no URL that is taken, or that of a whole bucket.
    """
    address = _parse(text)
    parts = address.path.removeprefix("/").split("/")
    depth = 3 if address.protocol == "hf" else 1
    root, name = "/".join(parts[:depth]), "/".join(parts[depth:])
    if not name or (address.protocol == "hf" and not _REPOSITORY.fullmatch(root)):
        form = "datasets/USER/NAME" if address.protocol == "hf" else "BUCKET"
        raise StoreError(f"{text!r:.80}: no file is named; give {address.protocol}://{form}/FILE")
    return Address(address.protocol, root), name


def _parse(text: str) -> Address:
    found = _URL.fullmatch(text)
    if not found:
        raise StoreError(f"{text!r:.80} is no URL; it must look like s3://BUCKET/FOLDER")
    protocol, rest = found[1].lower(), found[2].rstrip("/")
    if re.search("[\ud800-\udfff]", rest):
        raise StoreError(
            f"{text!r:.80}: it has bytes that are no letters in this locale; set LC_ALL=C.UTF-8, "
            f"or give a name of ASCII letters"
        )
    if protocol not in PROTOCOLS:
        raise StoreError(
            f"{protocol}://…: no store is known by this name; these are "
            f"{', '.join(f'{one}://' for one in PROTOCOLS)}"
        )
    if "@" in rest or "?" in rest or "#" in rest:
        raise StoreError(
            f"{protocol}://…: a URL with '@', '?' or '#' may hold a password or a token, so it is "
            f"neither used nor shown. Give BUCKET/FOLDER alone, and the credentials as the store's "
            f"own tools take them, such as AWS_PROFILE, `gcloud auth` or `hf auth login`."
        )
    parts = rest.removeprefix("/").split("/") if protocol in ("file", "memory") else rest.split("/")
    if not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
        raise StoreError(f"{text!r:.80}: not an address that is taken; give {protocol}://NAME/NAME")
    if protocol == "file" and not rest.startswith("/"):
        raise StoreError(f"{text!r:.80}: a file:// URL needs a whole path, as file:///data/vqa")
    return Address(protocol, rest)
