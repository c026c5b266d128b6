//! Keep a file on devices that fail and lie.
