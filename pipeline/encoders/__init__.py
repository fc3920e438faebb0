"""The frozen models: loading them, what they take, what they give. May import sources, system."""
