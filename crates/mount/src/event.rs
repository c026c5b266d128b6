//! Tell what a mount did that no program was told.

use std::path::PathBuf;

/// Told as it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A file became an object.
    Stored { object: String, bytes: u64 },
    /// It did not: its content is in this file.
    Kept { object: String, file: PathBuf, why: String },
    /// Left by a mount that was killed; what it was to become.
    Found { object: String, file: PathBuf },
    /// It is tried again.
    Retried { object: String, why: String },
    /// A program was refused more room for what it writes; what it wrote is dropped, and the object is as it was.
    Full { object: String, why: String },
    /// What no program waits for failed.
    Failed { object: String, why: String },
    /// A key that can be no name in a folder; told of the first.
    Hidden { object: String },
    /// A program asked for what a bucket does not keep; told once.
    Ignored { what: &'static str },
}
