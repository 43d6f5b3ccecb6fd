"""What the interop tests stand on, besides the harness of the end-to-end tests: seven SSH clients behind one face."""
