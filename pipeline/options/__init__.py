"""What may stand after a command: options, what help says of them, and what their words become.

May import encoders, extract, model, plugins, sources, system.
"""
