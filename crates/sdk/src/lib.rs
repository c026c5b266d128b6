//! Use the cloud from any program.
