"""The command line: a command parses, calls the library and prints; nothing else lives here.

No module of this package imports torch or numpy at its top: `chargen --help` is instant.
"""
