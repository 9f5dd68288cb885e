"""Experimental sessions."""

import datajoint as dj

from . import subject

schema = dj.Schema("session")


@schema
class Experimenter(dj.Lookup):
    definition = """
    experimenter : varchar(32)
    """
    contents = (("alice",), ("carol",))


@schema
class Session(dj.Manual):
    definition = """
    -> subject.Subject
    session_date : date
    ---
    -> Experimenter
    """

    class Note(dj.Part):
        definition = """
        -> master
        note_number : int32
        ---
        note : varchar(1024)
        """
