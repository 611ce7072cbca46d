"""Fast paths of a CPU: oneDNN products, tiles."""
