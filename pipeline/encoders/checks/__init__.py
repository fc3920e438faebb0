"""What is looked at of a model before its numbers are used.

May import nothing of pipeline but encoders, errors.
"""
