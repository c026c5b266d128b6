//! Show what the modules promise.
