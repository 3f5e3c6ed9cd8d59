"""What people and programs talk to: command line, HTTP, web page, MQTT, Python."""
