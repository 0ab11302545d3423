"""What a user reads: tables and JSON."""
