"""`gradsieve-edge doctor`: whether this board can do its work, found out without doing any."""
