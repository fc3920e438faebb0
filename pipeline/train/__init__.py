"""Stage two: trains one head, or a sweep of heads, from a cache.

May import predict, batches, runs, answers, metrics, config, model, plugins, system,
watch.
"""
