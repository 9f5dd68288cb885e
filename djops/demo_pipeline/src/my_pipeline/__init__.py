"""A small neurophysiology pipeline.

Each module is one schema, and importing it connects to the database. Import only what you work with
(``from my_pipeline import ephys``): a module imports what it depends on, and nobody needs rights on more.
"""

__version__ = "1.0.0"

# Parents before children.
MODULES = ("subject", "session", "ephys", "imaging", "analysis")
