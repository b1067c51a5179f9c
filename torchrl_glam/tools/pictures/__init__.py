"""Pictures and videos of what a world model imagines."""
