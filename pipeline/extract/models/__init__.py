"""The two encoders of an extraction: which they are, whether they fit, how precisely they compute.

May import what extract may.
"""
