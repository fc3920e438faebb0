"""How the bytes of a cache get to the disk and back, whole.

    files.py     atomic writes, careful reads    lock.py          one writer at a time
    staging.py   finished shards that wait for   integrity.py     files checked before use
                 the writer                      row_names.py     what each row is
    pages.py     records of many shards          copy_threads.py  rows copied side by side

May import `cache.format`, which does not import this package.
"""
