"""The status page: an optional web server on the desktop's loopback that shows one instance and can change nothing."""
