"""Online activity detection: which activities are being done now, by which region, knowing only the past."""
