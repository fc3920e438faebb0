"""What the manifest says of each file, and the list of shards, whose older records lie in pages.

files.py       the record of one file      pages.py    a page: the records of 500 shards
shard_list.py  all shards of one kind, read page by page
"""
