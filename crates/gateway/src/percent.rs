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

/// What escapes stand for; `None` where one is broken, or they stand for no text.
pub(crate) fn decode(text: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                ((high << 4) | low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_returns_and_what_is_broken_is_refused() {
        for text in ["a/b", "ü &%", "..", "%2F", "100%"] {
            assert_eq!(decode(&encode(text, true)).as_deref(), Some(text));
            assert_eq!(decode(&encode(text, false)).as_deref(), Some(text));
        }
        assert_eq!(decode("%2e%2E+").as_deref(), Some("..+"));
        for broken in ["%", "%2", "%zz", "a%", "%ff", "%+1"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn what_is_reserved_is_escaped() {
        assert_eq!(encode("a-b_c.d~/ü &", true), "a-b_c.d~/%C3%BC%20%26");
        assert_eq!(encode("a/b", false), "a%2Fb");
    }
}
