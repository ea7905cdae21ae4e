"""Many emulated devices in one process: the code of a board, on a virtual clock, trained by a few worker processes."""
