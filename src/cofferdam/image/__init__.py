"""Whole images: kernel, root file system and manifest."""
