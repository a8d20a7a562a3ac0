"""Takes back what a run loaded, or all there is of a session or a meeting: the records and their lines in the state.

`base` says what a rollback is, `shares` what is a run's, and a module for each kind of store how it is deleted there.
"""
