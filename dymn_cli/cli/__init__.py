"""The command line: parse, choose a writer, draw, map errors to exit codes. Never touches samples."""
