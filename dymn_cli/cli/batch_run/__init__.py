"""What the commands share that analyse many sources."""
