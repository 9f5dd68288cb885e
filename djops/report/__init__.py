"""How results look: text, JSON, and the one envelope every ``--json`` answer has."""
