"""The command line: each command parses its options, calls the library and prints the result.

No module of this package imports torch or numpy at its top, so that `chargen --help` is instant.
"""
