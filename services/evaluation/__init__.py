"""Policies side by side on questions with known answers: `atts eval`.

specs        what is asked for: `name:key=value`, and the whole of it, as one configuration
datasets     questions with their answers: the embedded generator, a file, a name (`hub`)
hosts        who answers: this process, or a server
account      one question's events folded into its row
asking       every policy over every question, one policy after the other
results      the folder: rows that survive a kill, and the configuration that they belong to
statistics   intervals and paired differences
summary      rows → figures; `compare`, `table`, `plots`, `paste` show them
recorded     figures of a recorded run, without models
"""
