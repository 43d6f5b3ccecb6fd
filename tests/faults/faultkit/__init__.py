"""What the fault tests stand on, beside the end-to-end harness: misbehaving clients, and books that must balance after them."""
