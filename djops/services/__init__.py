"""Use cases: each function is one thing a user wants done. They return data and never print."""
