"""What the commands share that train a network."""
