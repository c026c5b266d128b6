//! Prove what happened, and that nobody rewrote it.
