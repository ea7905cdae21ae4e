"""The commands of `gradsieve`, one file each."""
