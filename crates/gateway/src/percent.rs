//! Escape text as addresses have it.

use std::fmt::Write as _;

/// Percent-encoding of all but letters, digits and `-._~` (RFC 3986's unreserved); of slashes too unless they part a
/// path.
pub(crate) fn encode(text: &str, is_path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            b'/' if is_path => out.push('/'),
            byte => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_escaped() {
        assert_eq!(encode("a-b_c.d~/ü &", true), "a-b_c.d~/%C3%BC%20%26");
        assert_eq!(encode("a/b", false), "a%2Fb");
    }
}
