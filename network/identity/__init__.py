"""Certificate authorities, node and user identities, revocation and expiry: everything that makes or reads keys.

It knows the topology and nothing of channels, ledgers or servers."""
