"""What relays cost beside each other."""
