"""The report: one page with scores, plots, and a gallery that shows where a head looked.

May import predict, batches, evaluate, runs, answers, metrics, config, model, encoders, extract,
sources, system.
"""
