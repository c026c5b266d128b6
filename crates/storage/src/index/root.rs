//! Seal the root: the one shard that finds the layers of a bucket's index.

use super::{IndexError, LAYERS_MAX, Part, VERSION, regions};
use crate::seal::{Algorithm, PartKey, Place, Secret, TAG_BYTES};
use hodei_types::{
    cbor::{Reader, Writer},
    slice::ShardId,
};

/// Bytes of a root shard.
pub const ROOT_BYTES: usize = 8192;
/// Part number of the root, which no object's part has.
const ROOT_PART: u32 = u32::MAX - 1;

/// Where the layers are, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub layers: Vec<Part>,
}

impl Root {
    /// The root as a shard, and its id. `salt` is fresh randomness: it makes the key used once. `limits` are the bucket's
    /// care key and the regions its providers must be in, where they may not be anywhere.
    pub fn seal(
        &self,
        network: &[u8; 32],
        bucket: &[u8; 32],
        secret: &Secret,
        salt: [u8; 16],
        limits: Option<(&Secret, &[String])>,
    ) -> Result<(Vec<u8>, ShardId), IndexError> {
        let mut out = Writer::new();
        out.array(2).uint(VERSION);
        out.array(self.layers.len());
        self.layers.iter().for_each(|layer| layer.write_own(&mut out));
        let body = out.finish();
        let mut shard = vec![0; ROOT_BYTES];
        let (head, mut frame) = shard.split_at_mut(16);
        if let Some(limits) = limits {
            let (before, end) = frame.split_last_chunk_mut().expect("a root is longer");
            regions::seal(end, (network, bucket), salt, limits);
            frame = before;
        }
        let room = frame.len() - TAG_BYTES - 4;
        if body.len() > room {
            return Err(IndexError::Shape("the root does not fit 8 KiB"));
        }
        head.copy_from_slice(&salt);
        frame[..4].copy_from_slice(&(body.len() as u32).to_be_bytes());
        frame[4..4 + body.len()].copy_from_slice(&body);
        key(network, bucket, secret, salt).seal(0, true, frame);
        let id = ShardId::of(&shard);
        Ok((shard, id))
    }

    /// Opens a shard that hashes to the ledger's root.
    pub fn open(shard: &[u8], network: &[u8; 32], bucket: &[u8; 32], secret: &Secret) -> Result<Self, IndexError> {
        if shard.len() != ROOT_BYTES {
            return Err(IndexError::Shape("a root is 8 KiB"));
        }
        let (salt, frame) = shard.split_first_chunk::<16>().ok_or(IndexError::Shape("a root is 8 KiB"))?;
        let key = key(network, bucket, secret, *salt);
        let (mut whole, mut limited) = (frame.to_vec(), frame[..frame.len() - regions::BYTES].to_vec());
        // One that says where providers must be is shorter by that.
        let plain = key.open(0, true, &mut whole).or_else(|_| key.open(0, true, &mut limited))?;
        let (len, rest) = plain.split_first_chunk::<4>().ok_or(IndexError::Shape("root"))?;
        let len = u32::from_be_bytes(*len) as usize;
        let body = rest.get(..len).ok_or(IndexError::Shape("root length"))?;
        let mut input = Reader::new(body);
        input.tuple(2)?;
        input.exactly("version", VERSION)?;
        let count = input.array(LAYERS_MAX)?;
        if count == 0 {
            return Err(IndexError::Shape("a root without a layer"));
        }
        let layers = (0..count).map(|_| Part::read_own(&mut input)).collect::<Result<_, _>>()?;
        input.end()?;
        Ok(Self { layers })
    }
}

fn key(network: &[u8; 32], bucket: &[u8; 32], secret: &Secret, salt: [u8; 16]) -> PartKey {
    let place = Place {
        network: *network,
        bucket: *bucket,
        object: salt,
        part: ROOT_PART,
        attempt: 0,
        algorithm: Algorithm::Aes256Gcm,
    };
    PartKey::new(&secret.derive("hodei 2026 index root v1", &salt), &place)
}
