"""What tools/ is made of: start-up checks, process groups, the runner, and how errors reach the user."""
