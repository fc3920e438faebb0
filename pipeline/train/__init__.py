"""Stage two: from a cache to the weights of a run.

May import predict, batches, runs, answers, metrics, config, model, system.
"""
