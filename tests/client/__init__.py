"""Tests of the Gateway client: every case against both interfaces, with only the gateway behind the channel faked."""
