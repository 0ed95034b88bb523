"""How the pages word the settings: each table's columns and each form's parts. No logic in here."""
