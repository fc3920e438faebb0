"""The files that lie in the cache's own folder: the manifest, its copy, and two for people."""

import json
import re

from frozen_vqa.cache.format.manifest import COPY, NAME, Manifest

FAILURES = "failures.jsonl"
LOG = "extractions.jsonl"
SMALL_FILES = frozenset({NAME, COPY, FAILURES, LOG})
SURROGATE = re.compile("[\ud800-\udfff]")


def small_files(manifest: Manifest) -> dict[str, bytes]:
    """Return the files that lie in the cache's own folder, in the order of writing them.

    No file stands for an empty one. The last is for people and their scripts.
    """
    data = manifest.to_json().encode()
    lines = [json.dumps(f.to_json(), ensure_ascii=False) + "\n" for f in manifest.failures]
    # A path need not be UTF-8, and JSON must be; its other bytes are spelled out.
    text = SURROGATE.sub(lambda half: f"\\\\u{ord(half[0]):04x}", "".join(lines))
    return {NAME: data, COPY: data, FAILURES: text.encode()}
