"""What a release is made of and checked by: lock, provenance, signatures, bills of materials, folders."""
