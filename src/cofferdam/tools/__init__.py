"""The tools tree, and the one way in which Debian trees are made."""
