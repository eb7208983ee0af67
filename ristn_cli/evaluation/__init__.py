"""What a restoration is worth: metrics, tables and reports. Knows nothing of how frames were made."""
