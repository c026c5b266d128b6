//! End connections whose sender still waits to be asked for a body (RFC 9110, 10.1.1).
//!
//! Refused before that, a client may keep the body and send its next request at once, whose first bytes the server
//! would read as the body: another request than the one that was sent.

use hyper::{
    HeaderMap, Version,
    header::{CONNECTION, EXPECT, HeaderValue},
};

/// Whether a sender waits; streams of newer versions end by themselves.
pub(crate) fn waits(version: Version, headers: &HeaderMap) -> bool {
    version <= Version::HTTP_11 && headers.contains_key(EXPECT)
}

/// Says in an answer that nothing follows it.
pub(crate) fn close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}
