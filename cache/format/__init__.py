"""The content of a cache's files, as bytes in memory; nothing here touches a disk.

spec.py      settings of the numbers     manifest.py  cache.json
shards.py    features of one shard       splits.py    the table of a split
hdf5.py      HDF5 files and where their  quantise.py  int8 rows and their scales
             numbers lie                 digests.py   of files and of rows
parts.py     of a row: encoders, layers
"""
