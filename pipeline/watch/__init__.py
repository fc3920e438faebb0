"""What an operator sees of a long run from outside: figures in a file for Prometheus.

May import runs, system.
"""
