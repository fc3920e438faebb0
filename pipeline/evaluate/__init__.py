"""Scores of trained heads, their comparison, and the statistics behind both.

May import predict, batches, runs, answers, metrics, config, model, plugins, system.
"""
