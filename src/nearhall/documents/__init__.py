"""What people write and read: YAML and JSON files, their schemas, and errors that name the path in the file.

Belongs here: pydantic models of documents, reading, writing whole files, JSON Schemas, hints for mistakes.
Never: what to do with a document (the programs), or messages between programs (wire).
"""
