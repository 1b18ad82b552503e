"""The official Node programs that bear witness: a Gateway client and a chaincode shim that know nothing of ours."""
