"""What djops adds to what the servers themselves take: ratios with their medians."""
