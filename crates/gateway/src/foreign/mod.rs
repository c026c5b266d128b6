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
    #[error("{0:?} opens only with the key of whoever put it there")]
    Sealed(String),
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

    /// Whether keys, rights or the region are what is wrong.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403, .. })
            || matches!(self, Self::Refused { code, .. } if code == "AuthorizationHeaderMalformed")
    }

    /// Whether who answered may not be the one that was meant, or wants to be asked under another name.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Refused { status: 300..=399 | 405 | 501, .. } | Self::Answer { .. })
    }

    /// Whether an object was asked for that opens only with its customer's key (SSE-C): a read without it is a bad
    /// request, which the servers tell from others by their words alone.
    pub(super) fn is_sealed(&self) -> bool {
        let Self::Refused { status: 400, code, message, .. } = self else { return false };
        let message = message.to_ascii_lowercase();
        let told = ["server side encryption", "server-side encryption", "customer provided key", "sse-c"];
        matches!(code.as_str(), "InvalidRequest" | "InvalidArgument")
            && told.iter().any(|words| message.contains(words))
    }

    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_by_a_customer_is_told_from_other_bad_requests() {
        let refused = |status, code: &str, message: &str| ForeignError::Refused {
            what: "getting s3://a/b".into(),
            status,
            code: code.into(),
            message: message.into(),
        };
        for (status, code, message, is_sealed) in [
            // Amazon, MinIO and this cloud's own door; Ceph.
            (
                400,
                "InvalidRequest",
                "The object was stored using a form of Server Side Encryption. The correct …",
                true,
            ),
            (400, "InvalidArgument", "Requests specifying Server Side Encryption with Customer provided keys …", true),
            (400, "InvalidRequest", "Value for x-amz-checksum-crc32 header is invalid.", false),
            (400, "KMS.DisabledException", "server side encryption", false),
            (403, "AccessDenied", "server side encryption", false),
        ] {
            assert_eq!(refused(status, code, message).is_sealed(), is_sealed, "{code}: {message}");
        }
        assert!(refused(301, "PermanentRedirect", "").is_elsewhere());
        assert!(!refused(400, "InvalidRequest", "").is_elsewhere());
        assert!(refused(400, "AuthorizationHeaderMalformed", "the region is wrong").is_denied());
    }
}
