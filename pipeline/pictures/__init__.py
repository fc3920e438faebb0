"""Pictures for people, drawn from pictures and results. May import system."""
