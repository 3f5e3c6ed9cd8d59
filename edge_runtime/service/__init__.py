"""Several cameras on one set of engines: threads, schedule, watchdog, events, status."""
