"""What is wrong with config, data and files, said before it costs anything."""
