//! Keep a file on devices that fail and lie.
//!
//! Nobody who holds a shard can read it, change it unnoticed, or be paid for one it threw away; and whoever
//! holds the bucket's key gets the file back from any k of n shards. That fails if more than n - k holders of
//! a stripe are lost faster than repair, or if the keys are.
//!
//! ```text
//! put   plaintext ─ seal ─ code ─ pad ─ place ─► wire ─► shard::Store ─ sync ─ ack ─► manifest ─► index ─► root
//! get   root ─► index ─► manifest ─► wire ─► any k shards ─ check ids ─ unpad ─ restore ─ open ─► plaintext
//! pay   the ledger draws leaves ─► shard::Store::prove ─► types::holding::verify, on the ledger
//! ```
//!
//! What must hold: an ack leaves only after the shard and what it changes in the deal's tree are synced. No
//! (key, nonce) is used twice. A shard's id is checked before its bytes are used. Any q acks survive the loss
//! of any t operators or networks. All of it is generic over clock, storage, transport and randomness, so that
//! a simulation can stop the clock, cut the power and lie.
//!
//! ```
//! use hodei_storage::code::Codec;
//!
//! let codec = Codec::new(3, 6);
//! let data = b"three shards".repeat(3);
//! let mut parity = vec![0; 36];
//! codec.encode(&data, &mut parity);
//! let have = [(1, &data[12..24]), (4, &parity[12..24]), (5, &parity[24..])];
//! let mut lost = vec![0; 24];
//! codec.restore(&have, &[0, 2], &mut lost).unwrap();
//! assert_eq!(lost, [&data[..12], &data[24..]].concat());
//! ```

pub mod code;
pub mod crowd;
pub mod engine;
pub mod index;
pub mod manifest;
pub mod overlay;
pub mod pack;
pub mod pads;
pub mod place;
pub mod prove;
pub mod repair;
pub mod seal;
pub mod shard;
pub mod share;
pub mod wire;
