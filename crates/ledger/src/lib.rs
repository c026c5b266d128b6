//! Agree on accounts, markets and what was done.
