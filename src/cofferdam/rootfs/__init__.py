"""The root file system: packages, overlays, guest programs, packed as EROFS."""
