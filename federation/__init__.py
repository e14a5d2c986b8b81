"""What the server of a real federation sees, recorded; and defenses of what a client sends."""
