"""How the bytes of a cache get to the disk and back, whole.

    files.py     atomic writes, careful reads    lock.py          one writer at a time
    staging.py   finished shards that wait for   integrity.py     files checked before use
                 the writer                      copy_threads.py  rows copied side by side
    ids_by_row.py  ids of pictures, when asked

May import `cache.format`, which does not import this package.
"""
