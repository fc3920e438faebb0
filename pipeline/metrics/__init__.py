"""What an answer is worth, by the rules of a data set, and the official files.

May import sources.
"""
