"""The page on which people ask a head: what may reach it, what it answers, how it looks.

May import ask, encoders, pictures, runs, system.
"""
