"""The crash matrix: djops and each server killed, and each line cut, at every request of a plan."""
