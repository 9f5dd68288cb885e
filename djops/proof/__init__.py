"""What the servers' own catalogs mean, worked out without knowing djops' roles."""
