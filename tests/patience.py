"""How long a test waits for another process, a browser or a kernel."""

PATIENCE = 900  # seconds. It tells a hang from a machine that is slow or busy; what is right is never late before that.
