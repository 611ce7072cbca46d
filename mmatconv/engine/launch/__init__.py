"""Process groups and launchers."""
