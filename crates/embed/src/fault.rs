//! Name what an app is told when a device does not do it.

use hodei_node::{
    NodeError,
    config::ConfigError,
    home::HomeError,
    keys::KeyError,
    pool::{AskError, WordError},
};

/// Why it was not done; the words say what to do.
#[derive(Debug, thiserror::Error, uniffi::Error)]
#[uniffi(flat_error)]
pub enum DeviceFault {
    /// Nothing was made, stored or sent.
    #[error("the user has not agreed: ask first, and give the words that were agreed to")]
    NoConsent,
    #[error(transparent)]
    Word(#[from] WordError),
    #[error("a cap cannot be kept: {0}")]
    Caps(String),
    #[error("{0} holds a device already: open it instead")]
    Exists(String),
    /// Its join broke off, and its keys may be registered there.
    #[error("{0} holds a device that began to join another pool: join with a word of that pool, or in another folder")]
    OtherPool(String),
    #[error("{0} holds no device that joined a pool: join one first")]
    NotJoined(String),
    #[error("the device has left its pool: what it holds may be deleted")]
    Left,
    /// By the pool; asked again unchanged it is refused again.
    #[error("the pool refused: {0}")]
    Refused(String),
    /// Nothing is lost: ask again.
    #[error("{0}")]
    Away(String),
    #[error("the device's folder cannot be used: {0}")]
    Folder(String),
    #[error("the device did not start: {0}")]
    Start(String),
}

impl From<HomeError> for DeviceFault {
    fn from(error: HomeError) -> Self {
        Self::Folder(error.to_string())
    }
}

impl From<KeyError> for DeviceFault {
    fn from(error: KeyError) -> Self {
        Self::Folder(error.to_string())
    }
}

impl From<ConfigError> for DeviceFault {
    fn from(error: ConfigError) -> Self {
        Self::Start(error.to_string())
    }
}

impl From<NodeError> for DeviceFault {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Home(error) => error.into(),
            NodeError::Keys(error) => error.into(),
            error => Self::Start(error.to_string()),
        }
    }
}

impl From<AskError> for DeviceFault {
    fn from(error: AskError) -> Self {
        Self::Away(format!("{error}: ask again when the network is there"))
    }
}
