"""The checks of `lvm-edge doctor`: each finding says what it means and what to do."""
