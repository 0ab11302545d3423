"""Protobuf's wire format: the fields of a message, without its schema."""
