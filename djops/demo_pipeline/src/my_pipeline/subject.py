"""Animals."""

import datajoint as dj

schema = dj.Schema("subject")


@schema
class Species(dj.Lookup):
    definition = """
    species : varchar(32)
    ---
    common_name : varchar(64)
    """
    contents = (("mus musculus", "house mouse"), ("rattus norvegicus", "brown rat"))


@schema
class Subject(dj.Manual):
    definition = """
    subject_id : varchar(16)
    ---
    -> Species
    sex : enum('F', 'M', 'U')
    date_of_birth : date
    """
