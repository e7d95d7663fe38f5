"""Protocols: gRPC, REST and the ports they share. Everything here is made from the proto's descriptors."""
