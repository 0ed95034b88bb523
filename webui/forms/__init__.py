"""Forms made from the configuration's schema.

*shape*: what the schema says of a field (kind, choices, bounds, default). *field*, *part*: how a page
words it and where it stands. *shown*: a field with its value and its errors, as a template draws it. A
form is read back into the same plain values; what is no number, address or time stays as it was typed,
for the schema to refuse.
"""
