//! Read from somebody else's S3 server, so that leaving it is one command.
//!
//! Requests are signed in their address, as presigned links are; nothing is ever written there. What the server
//! says is bounded: a page of a listing, the length of a name, the time between two pieces of a body. A read that
//! breaks off goes on where it stopped, of the same object only (`If-Match`).

mod named;
mod object;
mod server;
mod tally;

pub use object::{Head, Object};
pub use server::{Config, Found, Page, Server};
pub use tally::Tally;

/// Why the other server could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ForeignError {
    #[error("the endpoint {0:?} cannot be used: {1}")]
    Endpoint(String, String),
    #[error("the certificate file cannot be used: {0}")]
    Certificate(String),
    #[error("the server could not be reached: {0}")]
    Unreachable(String),
    #[error("the server's certificate is not believed: {0}")]
    Untrusted(String),
    #[error("{what}: the server answered {status} {code}: {message}")]
    Refused { what: String, status: u16, code: String, message: String },
    #[error("{what}: the server's answer was not understood: {why}")]
    Answer { what: String, why: String },
    #[error("key {0:?} cannot be asked for: it has a segment `.` or `..`, which addresses resolve")]
    Key(String),
    #[error("{0:?} changed while it was read")]
    Changed(String),
}

impl ForeignError {
    /// Why nothing came: asked again, the same certificate is shown.
    pub(super) fn of_request(error: &reqwest::Error) -> Self {
        let why = server::chain(error);
        // As rustls begins what it says of a certificate.
        if why.contains("invalid peer certificate") { Self::Untrusted(why) } else { Self::Unreachable(why) }
    }

    /// Whether the same may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Changed(_) => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// Whether keys or rights are what is wrong.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403, .. })
    }

    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}
