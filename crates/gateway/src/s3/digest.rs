//! Name the checksums clients choose, and join those of parts to that of the whole.
//!
//! *Composite* is the checksum of the parts' checksums. *Full* is that of the bytes: a CRC's can be had from the
//! parts' CRCs and lengths, since a CRC is linear; a SHA's cannot.

use hodei_sdk::index::{self, Digest};
use s3s::{
    S3Result,
    crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256},
    dto::{
        Checksum, ChecksumAlgorithm, ChecksumType, CompleteMultipartUploadOutput, CopyObjectResult, CopyPartResult,
        GetObjectOutput, ObjectPart, Part, PutObjectOutput, UploadPartOutput,
    },
    s3_error,
};

/// Reversed polynomials, and how many bits each has.
const CRC32: (u64, usize) = (0xedb8_8320, 32);
const CRC32C: (u64, usize) = (0x82f6_3b78, 32);
const CRC64NVME: (u64, usize) = (0x9a6c_9329_ac4b_c9b5, 64);

pub(super) fn parse(asked: Option<&ChecksumAlgorithm>) -> S3Result<Option<Digest>> {
    Ok(match asked.map(ChecksumAlgorithm::as_str) {
        None => None,
        Some(ChecksumAlgorithm::CRC32) => Some(Digest::Crc32),
        Some(ChecksumAlgorithm::CRC32C) => Some(Digest::Crc32c),
        Some(ChecksumAlgorithm::CRC64NVME) => Some(Digest::Crc64Nvme),
        Some(ChecksumAlgorithm::SHA1) => Some(Digest::Sha1),
        Some(ChecksumAlgorithm::SHA256) => Some(Digest::Sha256),
        Some(other) => return Err(s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported: {other}")),
    })
}

pub(super) fn name(digest: Digest) -> ChecksumAlgorithm {
    ChecksumAlgorithm::from_static(match digest {
        Digest::Crc32 => ChecksumAlgorithm::CRC32,
        Digest::Crc32c => ChecksumAlgorithm::CRC32C,
        Digest::Crc64Nvme => ChecksumAlgorithm::CRC64NVME,
        Digest::Sha1 => ChecksumAlgorithm::SHA1,
        Digest::Sha256 => ChecksumAlgorithm::SHA256,
    })
}

pub(super) fn kind(composite: bool) -> ChecksumType {
    ChecksumType::from_static(if composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT })
}

/// Whether an upload's checksum is composite: what was asked for, if the algorithm can.
pub(super) fn composite(digest: Digest, asked: Option<&ChecksumType>) -> S3Result<bool> {
    let refused = |what: &'static str| s3_error!(InvalidRequest, "{what}");
    match (asked.map(ChecksumType::as_str), digest) {
        (None, digest) => Ok(digest != Digest::Crc64Nvme),
        (Some(ChecksumType::COMPOSITE), Digest::Crc64Nvme) => {
            Err(refused("CRC64NVME is a checksum of the full object."))
        }
        (Some(ChecksumType::FULL_OBJECT), Digest::Sha1 | Digest::Sha256) => {
            Err(refused("SHA1 and SHA256 of parts cannot be joined to that of the full object."))
        }
        (Some(ChecksumType::COMPOSITE), _) => Ok(true),
        (Some(ChecksumType::FULL_OBJECT), _) => Ok(false),
        _ => Err(refused("A checksum's type is COMPOSITE or FULL_OBJECT.")),
    }
}

/// One algorithm's value among an answer's.
pub(super) fn slot(checksum: &mut Checksum, digest: Digest) -> &mut Option<String> {
    match digest {
        Digest::Crc32 => &mut checksum.checksum_crc32,
        Digest::Crc32c => &mut checksum.checksum_crc32c,
        Digest::Crc64Nvme => &mut checksum.checksum_crc64nvme,
        Digest::Sha1 => &mut checksum.checksum_sha1,
        Digest::Sha256 => &mut checksum.checksum_sha256,
    }
}

/// What the fields of a request claim.
macro_rules! claimed {
    ($input:expr) => {
        s3s::dto::Checksum {
            checksum_crc32: $input.checksum_crc32.clone(),
            checksum_crc32c: $input.checksum_crc32c.clone(),
            checksum_crc64nvme: $input.checksum_crc64nvme.clone(),
            checksum_sha1: $input.checksum_sha1.clone(),
            checksum_sha256: $input.checksum_sha256.clone(),
            checksum_type: None,
        }
    };
}
pub(super) use claimed;

/// One value under its algorithm's name.
pub(super) fn only(digest: Digest, value: Option<String>) -> Checksum {
    let mut checksum = Checksum::default();
    *slot(&mut checksum, digest) = value;
    checksum
}

/// The value there is, if any; the strongest if there are several.
pub(super) fn chosen(mut checksum: Checksum) -> Option<(Digest, String)> {
    [Digest::Sha256, Digest::Sha1, Digest::Crc64Nvme, Digest::Crc32c, Digest::Crc32]
        .into_iter()
        .find_map(|digest| Some((digest, slot(&mut checksum, digest).take()?)))
}

/// An answer that tells checksums.
pub(super) trait Tells {
    fn tell(&mut self, checksum: Checksum);
}

macro_rules! tells {
    ($($output:ty),+) => {
        $(impl Tells for $output {
            fn tell(&mut self, checksum: Checksum) {
                self.checksum_crc32 = checksum.checksum_crc32;
                self.checksum_crc32c = checksum.checksum_crc32c;
                self.checksum_crc64nvme = checksum.checksum_crc64nvme;
                self.checksum_sha1 = checksum.checksum_sha1;
                self.checksum_sha256 = checksum.checksum_sha256;
            }
        })+
    };
}
tells!(
    CompleteMultipartUploadOutput,
    CopyObjectResult,
    CopyPartResult,
    GetObjectOutput,
    ObjectPart,
    Part,
    PutObjectOutput,
    UploadPartOutput
);

/// As it is answered: a composite one with the number of its parts.
pub(super) fn told(checksum: &index::Checksum, parts: usize) -> Checksum {
    let value = match checksum.composite {
        true => format!("{}-{parts}", checksum.value),
        false => checksum.value.clone(),
    };
    Checksum { checksum_type: Some(kind(checksum.composite)), ..only(checksum.algorithm, Some(value)) }
}

/// The checksum of an object made of parts, each with its own checksum and its length.
pub(super) fn join(digest: Digest, composite: bool, parts: &[(String, u64)]) -> S3Result<index::Checksum> {
    let damaged = || s3_error!(InternalError, "a part's checksum is not base64 of its length");
    let mut raw = Vec::with_capacity(parts.len());
    for (value, bytes) in parts {
        raw.push((base64_simd::STANDARD.decode_to_vec(value).map_err(|_| damaged())?, *bytes));
    }
    let value = if composite {
        let all = raw.iter().flat_map(|(value, _)| value.iter().copied()).collect::<Vec<u8>>();
        hash(digest, &all)
    } else {
        let (polynomial, bits) = match digest {
            Digest::Crc32 => CRC32,
            Digest::Crc32c => CRC32C,
            Digest::Crc64Nvme => CRC64NVME,
            Digest::Sha1 | Digest::Sha256 => return Err(damaged()),
        };
        let mut whole = 0;
        for (value, bytes) in &raw {
            if value.len() * 8 != bits {
                return Err(damaged());
            }
            let crc = value.iter().fold(0, |crc, byte| crc << 8 | u64::from(*byte));
            whole = shift(whole, *bytes, polynomial, bits) ^ crc;
        }
        whole.to_be_bytes()[8 - bits / 8..].to_vec()
    };
    Ok(index::Checksum {
        algorithm: digest,
        value: base64_simd::STANDARD.encode_to_string(value),
        composite,
        parts: parts.iter().map(|(value, _)| value.clone()).collect(),
    })
}

fn hash(digest: Digest, bytes: &[u8]) -> Vec<u8> {
    match digest {
        Digest::Crc32 => Crc32::checksum(bytes).to_vec(),
        Digest::Crc32c => Crc32c::checksum(bytes).to_vec(),
        Digest::Crc64Nvme => Crc64Nvme::checksum(bytes).to_vec(),
        Digest::Sha1 => Sha1::checksum(bytes).as_ref().to_vec(),
        Digest::Sha256 => Sha256::checksum(bytes).as_ref().to_vec(),
    }
}

/// A CRC with `bytes` zeros behind what it is of. One zero bit is a linear map of the CRC's bits; so many are that
/// map squared as often as the length has binary digits.
fn shift(mut crc: u64, bytes: u64, polynomial: u64, bits: usize) -> u64 {
    // What each single bit becomes.
    let mut map: Vec<u64> = (0..bits).map(|bit| if bit == 0 { polynomial } else { 1 << (bit - 1) }).collect();
    let apply =
        |map: &[u64], vector: u64| (0..bits).filter(|bit| vector >> bit & 1 == 1).fold(0, |sum, bit| sum ^ map[bit]);
    let square = |map: &[u64]| map.iter().map(|column| apply(map, *column)).collect::<Vec<_>>();
    for _ in 0..3 {
        map = square(&map);
    }
    let mut left = bytes;
    while left > 0 {
        if left & 1 == 1 {
            crc = apply(&map, crc);
        }
        map = square(&map);
        left >>= 1;
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crcs_of_parts_join_to_that_of_the_whole() {
        let bytes: Vec<u8> = (0..1000u32).map(|at| (at * 7) as u8).collect();
        for digest in [Digest::Crc32, Digest::Crc32c, Digest::Crc64Nvme] {
            for ends in [&[1000][..], &[1, 1000], &[300, 300, 999, 1000]] {
                let mut start = 0;
                let parts: Vec<_> = ends
                    .iter()
                    .map(|end| {
                        let part = &bytes[std::mem::replace(&mut start, *end)..*end];
                        (base64_simd::STANDARD.encode_to_string(hash(digest, part)), part.len() as u64)
                    })
                    .collect();
                let whole = base64_simd::STANDARD.encode_to_string(hash(digest, &bytes));
                assert_eq!(join(digest, false, &parts).unwrap().value, whole, "{digest:?}");
            }
        }
    }

    #[test]
    fn a_composite_checksum_tells_how_many_parts_it_has() {
        // The vectors of an outside suite: 1 KiB of A in one part.
        let part = ("arcu6553sHVAiX4MjW0j7I7vD4w6R+Gz9Ok0Q9lTa+0=".to_string(), 1024);
        let joined = join(Digest::Sha256, true, &[part]).unwrap();
        assert_eq!(told(&joined, 1).checksum_sha256.as_deref(), Some("Ok6Cs5b96ux6+MWQkJO7UBT5sKPBeXBLwvj/hK89smg=-1"));
        assert!(join(Digest::Sha256, false, &[]).is_err());
        assert!(join(Digest::Crc32, false, &[("YQ==".into(), 1)]).is_err(), "a byte is no CRC");
    }

    #[test]
    fn types_fit_their_algorithms() {
        let asked = |kind| Some(ChecksumType::from_static(kind));
        assert!(!composite(Digest::Crc64Nvme, None).unwrap());
        assert!(composite(Digest::Crc32, None).unwrap());
        assert!(!composite(Digest::Crc32, asked("FULL_OBJECT").as_ref()).unwrap());
        assert!(composite(Digest::Sha256, asked("FULL_OBJECT").as_ref()).is_err());
        assert!(composite(Digest::Crc64Nvme, asked("COMPOSITE").as_ref()).is_err());
        assert!(parse(Some(&ChecksumAlgorithm::from_static("MD4"))).is_err());
    }
}
