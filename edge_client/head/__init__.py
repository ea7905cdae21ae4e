"""A cluster head: coordinator to the boards of its site, and one device to the coordinator above."""
