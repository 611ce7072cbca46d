"""Command lines of the tools, and how they speak to the user."""
