"""Jobs on Flower's own engines: sieved rounds where Flower carries the messages."""
