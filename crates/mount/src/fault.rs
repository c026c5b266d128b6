//! Say why the kernel's question has no good answer, in its own numbers.

use hodei_sdk::{Fault, storage::PutError};
use libc::c_int;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("there is no such name")]
    NotFound,
    #[error("there is something of that name")]
    Exists,
    #[error("that is no folder")]
    NotFolder,
    #[error("that is a folder")]
    IsFolder,
    #[error("the folder is not empty")]
    NotEmpty,
    #[error("no key can have that name")]
    Name,
    #[error("the name is longer than a key may be")]
    LongName,
    #[error("it was mounted to be read only")]
    ReadOnly,
    #[error("a folder is not renamed in one step")]
    CrossFolder,
    #[error("a bucket keeps nothing of the kind")]
    Unsupported,
    #[error("that file is not open so")]
    Handle,
    /// Somebody else replaced or removed the object.
    #[error("the object is not what it was when it was opened")]
    Changed,
    #[error("not allowed: {0}")]
    Denied(String),
    #[error("no room: {0}")]
    Full(String),
    /// The same may succeed later.
    #[error("{0}")]
    Away(String),
    #[error("{0}")]
    Failed(String),
}

impl Wrong {
    /// As the kernel wants to be told.
    pub fn errno(&self) -> c_int {
        match self {
            Self::NotFound => libc::ENOENT,
            Self::Exists => libc::EEXIST,
            Self::NotFolder => libc::ENOTDIR,
            Self::IsFolder => libc::EISDIR,
            Self::NotEmpty => libc::ENOTEMPTY,
            Self::Name => libc::EINVAL,
            Self::LongName => libc::ENAMETOOLONG,
            Self::ReadOnly => libc::EROFS,
            Self::CrossFolder => libc::EXDEV,
            Self::Unsupported => libc::ENOTSUP,
            Self::Handle => libc::EBADF,
            Self::Changed => libc::ESTALE,
            Self::Denied(_) => libc::EACCES,
            Self::Full(_) => libc::ENOSPC,
            Self::Away(_) | Self::Failed(_) => libc::EIO,
        }
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        match &fault {
            Fault::NoObject { .. } | Fault::Marker { .. } | Fault::NoVersion { .. } => Self::NotFound,
            Fault::Condition { .. } | Fault::ObjectExists { .. } => Self::Changed,
            Fault::Customer(_) | Fault::Locked { .. } | Fault::NeedsOwner | Fault::Key(_) => {
                Self::Denied(fault.to_string())
            }
            Fault::Funds { .. } | Fault::NoRoom { .. } | Fault::Put(PutError::Full { .. }) => {
                Self::Full(fault.to_string())
            }
            Fault::Name(..) => Self::Name,
            _ if fault.is_temporary() => Self::Away(fault.to_string()),
            _ => Self::Failed(fault.to_string()),
        }
    }
}
