"""The rows of the table, in modules by what they are about."""
