"""Which kind of store an address is of. Its libraries are imported only then."""

from frozen_vqa.cache.stores.address import parse_address
from frozen_vqa.cache.stores.store import Store


def open_store(text: str) -> Store:
    """Return the store of a URL, which is not asked yet; raise `StoreError` if none can be used."""
    address = parse_address(text)
    if address.protocol == "file":
        from frozen_vqa.cache.stores.folder import FolderStore

        return FolderStore(address)
    if address.protocol == "hf":
        from frozen_vqa.cache.stores.hub import HubStore

        return HubStore(address)
    from frozen_vqa.cache.stores.bucket import BucketStore

    return BucketStore(address)
