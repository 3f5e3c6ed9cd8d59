"""Online activity detection: which activities are going on now, in which region, knowing only the past."""
