//! The one binary, hodei.

fn main() {}
