"""The families of frozen models that are read: what each needs beside the classes of transformers.

May import nothing of pipeline but errors.
"""
