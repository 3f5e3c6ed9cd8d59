"""What `lvm-edge doctor` looks at, each thing with what it means and what to do."""
