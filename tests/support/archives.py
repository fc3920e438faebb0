"""Archives of made-up files."""

import io
import tarfile
import zipfile
from collections.abc import Callable

Content = dict[str, bytes]


def zipped(files: Content, change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            archive.writestr(info, data)
    return buffer.getvalue()


def tarred(files: Content, change: Callable[[tarfile.TarInfo], None] = lambda _: None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            archive.addfile(info, io.BytesIO(data) if info.size else None)
    return buffer.getvalue()
