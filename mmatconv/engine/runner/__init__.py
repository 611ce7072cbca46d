"""Runner and loops that resume exactly."""
