"""Small helpers of the workbench: torch imports, error messages."""
