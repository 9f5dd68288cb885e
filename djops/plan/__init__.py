"""Differences as data: what would change, why, how risky it is, and how to take it back."""
