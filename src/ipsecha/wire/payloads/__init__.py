"""One file per payload type: functions on the payload's body, which begins after the generic header."""
