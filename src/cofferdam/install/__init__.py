"""Images that come from outside: verified, unpacked with care, and kept where instances find them."""
