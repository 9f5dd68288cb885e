"""Programs for those who work on djops."""
