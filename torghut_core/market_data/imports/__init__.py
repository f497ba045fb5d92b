"""Files of market data as people have them, made into tapes.

`importer` is the way through: `files` opens a file and gives its columns as text, `layouts` says what the columns are,
`cells` makes numbers and times of them, `staging` puts the rows in order and writes the tape.
"""
