"""A cache at a URL: whole objects in a bucket, on the Hub, or in another folder.

    URL/cache.json            the manifest, the same bytes as of a cache on a disk; written last
    URL/images/DIGEST.h5      a shard, under the digest of its bytes; so are questions/ and splits/
    URL/README.md             the card, for people

    address.py   the one door for URLs         copies.py   what the four below share
    store.py     what every store does         push.py     a cache to a URL
    bucket.py    S3, Google, memory (fsspec)   pull.py     a cache, or a part of it, from a URL
    folder.py    another folder                stage.py    reading: shards come when needed
    hub.py       a data set of the Hub         lease.py    one writer at a time
    open_store.py  which of these kinds a URL is of

An object never changes, because its name is the digest of its bytes: one that is there is never
sent again, and two versions of a cache share what they have in common. Whoever reads compares the
bytes with the digest that the manifest pins, because a store may be a stranger's.

May import the rest of `cache`. fsspec is imported in `bucket.py` alone, and only for a URL.
"""
