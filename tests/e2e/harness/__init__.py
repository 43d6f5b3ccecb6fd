"""What the end-to-end tests stand on: the daemon under test, a policy scripted by the test, and clients."""
