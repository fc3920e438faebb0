"""Workers on many machines that come and go, and encode the chunks of one extraction.

May import what extract may.
"""
