"""A GPT by hand on Shakespeare's plays."""
