"""What a picture's file holds: upright RGB pixels, within bounds of memory and time.

May import nothing of pipeline but errors.
"""
