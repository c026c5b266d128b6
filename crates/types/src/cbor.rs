//! Write and read the one CBOR encoding a value has.
//!
//! RFC 8949's core deterministic encoding, restricted to unsigned integers, byte and text strings, arrays
//! and maps of definite length. [`Reader`] refuses every other spelling of the same value (longer integers,
//! indefinite lengths, trailing bytes), so that whatever decodes has exactly one encoding and a hash over
//! the bytes is a hash over the value. Every length is compared with a limit before anything is allocated.

/// Why bytes are not the canonical CBOR that was asked for; `at` is the offset into the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    #[error("byte {at}: input ends inside a value")]
    Truncated { at: usize },
    #[error("byte {at}: expected {expected}, found {found}")]
    Type { at: usize, expected: &'static str, found: &'static str },
    #[error("byte {at}: integer or length is not in its shortest form")]
    NotShortest { at: usize },
    #[error("byte {at}: length {found}, at most {max} allowed")]
    TooLong { at: usize, found: u64, max: u64 },
    #[error("byte {at}: expected {what} {expected}, found {found}")]
    Value { at: usize, what: &'static str, expected: u64, found: u64 },
    #[error("byte {at}: map keys are not in canonical order")]
    Order { at: usize },
    #[error("byte {at}: text is not UTF-8")]
    Utf8 { at: usize },
    #[error("byte {at}: {count} bytes follow the value")]
    Trailing { at: usize, count: usize },
}

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

const NAMES: [&str; 8] =
    ["unsigned integer", "negative integer", "bytes", "text", "array", "map", "tag", "simple value"];

/// Appends canonical CBOR to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }

    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head(BYTES, value.len() as u64);
        self.out.extend_from_slice(value);
        self
    }

    pub fn text(&mut self, value: &str) -> &mut Self {
        self.head(TEXT, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
        self
    }

    /// Opens an array; the caller writes `len` values.
    pub fn array(&mut self, len: usize) -> &mut Self {
        self.head(ARRAY, len as u64)
    }

    /// Opens a map; the caller writes `len` keys with their values, keys in the order of their encodings.
    pub fn map(&mut self, len: usize) -> &mut Self {
        self.head(MAP, len as u64)
    }

    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        let major = major << 5;
        match value {
            0..=23 => self.out.push(major | value as u8),
            24..=0xff => self.out.extend_from_slice(&[major | 24, value as u8]),
            0x100..=0xffff => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&(value as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&(value as u32).to_be_bytes());
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&value.to_be_bytes());
            }
        }
        self
    }
}

/// Reads canonical CBOR from a slice, bounding each length.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

/// The shape of the next value, for those who branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Uint,
    Bytes,
    Text,
    Array,
    Map,
    /// Nothing this encoding uses.
    Other,
}

impl<'a> Reader<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Offset of the next unread byte.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn shape(&self) -> Result<Shape, CborError> {
        let first = *self.input.get(self.at).ok_or(CborError::Truncated { at: self.at })?;
        Ok(match first >> 5 {
            UINT => Shape::Uint,
            BYTES => Shape::Bytes,
            TEXT => Shape::Text,
            ARRAY => Shape::Array,
            MAP => Shape::Map,
            _ => Shape::Other,
        })
    }

    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.head(UINT)
    }

    /// An integer that fits `u8`.
    pub fn byte(&mut self) -> Result<u8, CborError> {
        let at = self.at;
        let found = self.uint()?;
        u8::try_from(found).map_err(|_| CborError::TooLong { at, found, max: u8::MAX.into() })
    }

    /// An integer that must be `expected`; `what` names it in the error.
    pub fn exactly(&mut self, what: &'static str, expected: u64) -> Result<(), CborError> {
        let at = self.at;
        let found = self.uint()?;
        if found == expected { Ok(()) } else { Err(CborError::Value { at, what, expected, found }) }
    }

    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], CborError> {
        self.string(BYTES, max)
    }

    /// A byte string of exactly `N` bytes.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let at = self.at;
        let found = self.bytes(N)?;
        found.try_into().map_err(|_| CborError::Value {
            at,
            what: "byte length",
            expected: N as u64,
            found: found.len() as u64,
        })
    }

    pub fn text(&mut self, max: usize) -> Result<&'a str, CborError> {
        let at = self.at;
        std::str::from_utf8(self.string(TEXT, max)?).map_err(|_| CborError::Utf8 { at })
    }

    pub fn array(&mut self, max: usize) -> Result<usize, CborError> {
        self.length(ARRAY, max)
    }

    /// An array that must have `expected` values.
    pub fn tuple(&mut self, expected: usize) -> Result<(), CborError> {
        let at = self.at;
        let found = self.array(usize::MAX)? as u64;
        let expected = expected as u64;
        if found == expected { Ok(()) } else { Err(CborError::Value { at, what: "array length", expected, found }) }
    }

    pub fn map(&mut self, max: usize) -> Result<usize, CborError> {
        self.length(MAP, max)
    }

    /// Refuses bytes after the value.
    pub fn end(&self) -> Result<(), CborError> {
        match self.input.len() - self.at {
            0 => Ok(()),
            count => Err(CborError::Trailing { at: self.at, count }),
        }
    }

    fn string(&mut self, major: u8, max: usize) -> Result<&'a [u8], CborError> {
        let len = self.length(major, max)?;
        let end = self.at.checked_add(len).filter(|end| *end <= self.input.len());
        let end = end.ok_or(CborError::Truncated { at: self.at })?;
        let value = &self.input[self.at..end];
        self.at = end;
        Ok(value)
    }

    fn length(&mut self, major: u8, max: usize) -> Result<usize, CborError> {
        let at = self.at;
        let found = self.head(major)?;
        match usize::try_from(found) {
            Ok(len) if len <= max => Ok(len),
            _ => Err(CborError::TooLong { at, found, max: max as u64 }),
        }
    }

    fn head(&mut self, major: u8) -> Result<u64, CborError> {
        let at = self.at;
        let first = *self.input.get(at).ok_or(CborError::Truncated { at })?;
        if first >> 5 != major {
            let (expected, found) = (NAMES[major as usize], NAMES[(first >> 5) as usize]);
            return Err(CborError::Type { at, expected, found });
        }
        let width = match first & 31 {
            value @ 0..=23 => {
                self.at += 1;
                return Ok(value.into());
            }
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(CborError::NotShortest { at }),
        };
        let raw = self.input.get(at + 1..at + 1 + width).ok_or(CborError::Truncated { at })?;
        let value = raw.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let least = match width {
            1 => 24,
            2 => 0x100,
            4 => 0x1_0000,
            _ => 0x1_0000_0000,
        };
        if value < least {
            return Err(CborError::NotShortest { at });
        }
        self.at += 1 + width;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_match_rfc_8949_appendix_a() {
        let vectors: [(u64, &str); 10] = [
            (0, "00"),
            (23, "17"),
            (24, "1818"),
            (100, "1864"),
            (255, "18ff"),
            (256, "190100"),
            (1000, "1903e8"),
            (1_000_000, "1a000f4240"),
            (1_000_000_000_000, "1b000000e8d4a51000"),
            (u64::MAX, "1bffffffffffffffff"),
        ];
        for (value, hex) in vectors {
            let mut writer = Writer::new();
            writer.uint(value);
            let bytes = writer.finish();
            assert_eq!(hex::encode(&bytes), hex);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.uint(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for hex in ["1817", "1900ff", "1a0000ffff", "1b00000000ffffffff", "1c", "1f"] {
            let bytes = hex::decode(hex).unwrap();
            assert_eq!(Reader::new(&bytes).uint(), Err(CborError::NotShortest { at: 0 }), "{hex}");
        }
        // An indefinite byte string, and one whose length is a lie.
        assert_eq!(Reader::new(&[0x5f, 0x41, 0, 0xff]).bytes(9), Err(CborError::NotShortest { at: 0 }));
        assert_eq!(Reader::new(&[0x45, 0, 0]).bytes(9), Err(CborError::Truncated { at: 1 }));
        assert_eq!(Reader::new(&[0x45, 0, 0]).bytes(4), Err(CborError::TooLong { at: 0, found: 5, max: 4 }));
        assert_eq!(Reader::new(&[0x61, 0xff]).text(4), Err(CborError::Utf8 { at: 0 }));
        let mut reader = Reader::new(&[0, 0, 0]);
        reader.uint().unwrap();
        assert_eq!(reader.end(), Err(CborError::Trailing { at: 1, count: 2 }));
    }
}
