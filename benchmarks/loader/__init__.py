"""How fast features are read from the cache, from memory, and from formats that people use."""
