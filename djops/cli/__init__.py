"""The command line, one module per noun; the only floor that prints or exits."""
