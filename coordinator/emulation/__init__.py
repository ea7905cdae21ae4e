"""A fleet that is emulated on this machine: the coordinator of every run, on the fleet's virtual clock."""
