"""The three servers of the local lab: how each is had, initialised, started and stopped."""
