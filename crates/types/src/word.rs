//! Spell bytes as one lower-case word, and refuse every other spelling of them.
//!
//! A word is bech32m: a prefix that says of what kind it is, the separator `1`, five bits a character, and a checksum by
//! which a letter that was changed, lost or added is noticed. What its bytes mean, a version among them, is its kind's.

use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use zeroize::Zeroizing;

/// A kind of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What they begin with, before the separator: lower-case letters.
    pub prefix: &'static str,
    /// Longer ones are not read; bech32m knows none above 1023.
    pub chars_max: usize,
}

/// Why a text is no word of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("it begins otherwise")]
    Prefix,
    #[error("checksum does not fit: a character was changed, lost or added")]
    Checksum,
    #[error("unused bits at the end are not zero")]
    Padding,
}

impl Form {
    /// The word of some bytes. Panics where they are too many for its kind: whoever writes keeps them below.
    pub fn write(&self, data: &[u8]) -> Zeroizing<String> {
        let prefix = Hrp::parse(self.prefix).expect("the prefix is a valid human-readable part");
        let word = Zeroizing::new(bech32::encode::<Bech32m>(prefix, data).expect("a kind's limit is below bech32m's"));
        assert!(word.len() <= self.chars_max, "{} characters of {} at most", word.len(), self.chars_max);
        word
    }

    /// The bytes of a word.
    pub fn read(&self, text: &str) -> Result<Zeroizing<Vec<u8>>, FormError> {
        if !text.strip_prefix(self.prefix).is_some_and(|rest| rest.starts_with('1')) {
            return Err(FormError::Prefix);
        }
        if text.len() > self.chars_max || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(FormError::Checksum);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| FormError::Checksum)?;
        // Another separator further on makes another prefix.
        if checked.hrp().as_str() != self.prefix {
            return Err(FormError::Prefix);
        }
        let data = Zeroizing::new(checked.byte_iter().collect::<Vec<u8>>());
        if self.write(&data).as_str() == text { Ok(data) } else { Err(FormError::Padding) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form = Form { prefix: "hodeitest", chars_max: 80 };

    #[test]
    fn bytes_return_from_their_word_and_every_changed_letter_is_noticed() {
        for data in [&[][..], &[0], &[7; 33], &[255; 39]] {
            let text = FORM.write(data);
            assert!(text.starts_with("hodeitest1"), "{}", text.as_str());
            assert_eq!(FORM.read(&text).unwrap().as_slice(), data);
            for at in 0..text.len() {
                let mut bent = text.as_bytes().to_vec();
                bent[at] = if bent[at] == b'q' { b'p' } else { b'q' };
                FORM.read(&String::from_utf8(bent).unwrap()).expect_err("a changed letter");
                FORM.read(&text[..at]).expect_err("a lost end");
            }
        }
    }

    #[test]
    fn a_word_has_one_spelling_one_prefix_and_a_limit() {
        let text = FORM.write(&[1; 9]);
        assert_eq!(FORM.read(&text.to_uppercase()), Err(FormError::Prefix));
        assert_eq!(FORM.read(&text.replace('1', "1Q")), Err(FormError::Checksum));
        let other = Form { prefix: "hodeitests", ..FORM };
        assert_eq!(FORM.read(&other.write(&[1; 9])), Err(FormError::Prefix));
        let prefix = |text: &str| Hrp::parse(text).unwrap();
        let longer = bech32::encode::<Bech32m>(prefix("hodeitest1x"), &[1; 9]).unwrap();
        assert_eq!(FORM.read(&longer), Err(FormError::Prefix), "one that begins with ours");
        let long = bech32::encode::<Bech32m>(prefix("hodeitest"), &[1; 60]).unwrap();
        assert_eq!(FORM.read(&long), Err(FormError::Checksum), "{} characters", long.len());
        let older = bech32::encode::<bech32::Bech32>(prefix("hodeitest"), &[1; 9]).unwrap();
        assert_eq!(FORM.read(&older), Err(FormError::Checksum));
    }
}
