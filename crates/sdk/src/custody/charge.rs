//! Carry what a custodian needs of a bucket as one word.
//!
//! `hodeicare1…`, bech32m of: version, the bucket's id, its care key. Whoever has the word can take the pads off the
//! bucket's shards and read nothing; to act at providers it takes an account that the bucket's owner appointed as well.

use alloy_primitives::B256;
use hodei_storage::seal::Secret;
use hodei_types::word::Form;
use zeroize::Zeroizing;

const FORM: Form = Form { prefix: "hodeicare", chars_max: 128 };
const VERSION: u8 = 1;

/// A bucket in somebody's care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub bucket: B256,
    pub(crate) care: Secret,
}

impl Charge {
    pub fn text(&self) -> Zeroizing<String> {
        let data = Zeroizing::new([&[VERSION], self.bucket.as_slice(), self.care.expose()].concat());
        FORM.write(&data)
    }

    /// `None` for what is no such word, whole and in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let data = FORM.read(text).ok()?;
        let (version, data) = data.split_first()?;
        let (bucket, care) = data.split_first_chunk::<32>()?;
        let care = Secret::new(care.try_into().ok()?);
        (*version == VERSION).then_some(Self { bucket: B256::from(bucket), care })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_one_word_and_any_other_is_none() {
        let charge = Charge { bucket: B256::repeat_byte(7), care: Secret::new([9; 32]) };
        let text = charge.text();
        assert!(text.starts_with("hodeicare1"));
        assert_eq!(Charge::parse(&text), Some(charge));
        for at in 0..text.len() {
            let mut bent = text.to_string().into_bytes();
            bent[at] = if bent[at] == b'q' { b'p' } else { b'q' };
            assert_eq!(Charge::parse(std::str::from_utf8(&bent).unwrap()), None, "byte {at}");
        }
        assert_eq!(Charge::parse(&text.to_uppercase()), None);
        assert_eq!(Charge::parse(&text[..text.len() - 1]), None);
        for data in [[&[2][..], &[7; 64]].concat(), vec![1; 64], vec![1; 66], vec![]] {
            assert_eq!(Charge::parse(&FORM.write(&data)), None, "{} bytes", data.len());
        }
    }
}
