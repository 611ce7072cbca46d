"""What the tools show on the console; everything else goes to the log file."""
