"""The only code that talks to the outside: files, processes and one module per server."""
