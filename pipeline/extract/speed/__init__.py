"""How fast an extraction is: how many pictures at once, how long it will take, how long it took.

May import what extract may.
"""
