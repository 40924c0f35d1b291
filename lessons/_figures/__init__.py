"""Pictures of the lessons."""
