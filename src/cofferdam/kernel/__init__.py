"""The kernel: source, configuration from fragments, audit of the result, build."""
