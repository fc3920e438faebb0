"""VQA accuracy by the official rules, and the official files that it reads and writes.

May import sources.
"""
