"""Enter the example sessions and compute everything that follows from them.

Run it as ``python -m my_pipeline.populate``; it adds only what is missing, so it may run again at any
time. Workers that share the work call ``populate(reserve_jobs=True)`` on a table instead.
"""

from datetime import date

from . import analysis, ephys, imaging, session, subject

SUBJECTS = (
    {"subject_id": "mouse01", "species": "mus musculus", "sex": "F", "date_of_birth": date(2026, 1, 12)},
    {"subject_id": "mouse02", "species": "mus musculus", "sex": "M", "date_of_birth": date(2026, 1, 14)},
    {"subject_id": "rat01", "species": "rattus norvegicus", "sex": "F", "date_of_birth": date(2025, 11, 3)},
)

SESSIONS = (
    {"subject_id": "mouse01", "session_date": date(2026, 4, 1), "experimenter": "alice"},
    {"subject_id": "mouse01", "session_date": date(2026, 4, 3), "experimenter": "carol"},
    {"subject_id": "mouse02", "session_date": date(2026, 4, 2), "experimenter": "alice"},
    {"subject_id": "rat01", "session_date": date(2026, 4, 8), "experimenter": "carol"},
)

NOTES = (
    {"subject_id": "mouse01", "session_date": date(2026, 4, 1), "note_number": 1, "note": "first day on the rig"},
    {"subject_id": "rat01", "session_date": date(2026, 4, 8), "note_number": 1, "note": "sleepy"},
)

COMPUTED = (
    ephys.Recording,
    imaging.Scan,
    ephys.Spikes,
    imaging.Fluorescence,
    analysis.MultiModalAnalysis,
)


def enter():
    """Enter subjects and sessions that are not there yet."""
    for table, rows in ((subject.Subject, SUBJECTS), (session.Session, SESSIONS), (session.Session.Note, NOTES)):
        keys = [{name: row[name] for name in table().primary_key} for row in rows]
        table.insert(row for row, key in zip(rows, keys, strict=True) if not table & key)


def populate():
    """Compute whatever is missing, parents first; fail when a computation fails."""
    for table in COMPUTED:
        table.populate()


if __name__ == "__main__":
    enter()
    populate()
