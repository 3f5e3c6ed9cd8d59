"""Read and write other tools' annotations, one module a format.

Every parser makes the same form (`forms`), and only `export.data.importing` makes records of it.
"""
