//! Keep accounts on disk, as a journal of their records.
//!
//! A record is length u32 ‖ 8 bytes of its hash ‖ body; of an account the last record counts. A torn end is cut off. When
//! most of a file is outdated a new one is begun with what is known, and the old one goes once that is on disk.

use commonware_runtime::{Blob as _, Buf as _, Error, IoBuf, ReadOptions, Storage, WriteOptions};

/// The folder of the provider's store that the journal is in.
const PARTITION: &str = "tabs";
const HEAD_BYTES: usize = 12;
/// A body is no longer: 64 leaves.
const BODY_BYTES_MAX: usize = 64 << 10;
/// A file is not begun anew below this.
const ANEW_BYTES: u64 = 1 << 20;

/// The file that is written to.
pub(super) struct Kept<E: Storage> {
    storage: E,
    blob: E::Blob,
    number: u64,
    bytes: u64,
    /// What it was begun with; zero where that is not known any more.
    base_bytes: u64,
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD_BYTES + body.len());
    record.extend_from_slice(&(body.len() as u32).to_be_bytes());
    record.extend_from_slice(&blake3::hash(body).as_bytes()[..8]);
    record.extend_from_slice(body);
    record
}

/// Whole records from the start on.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(body) = rest.get(..len).filter(|body| len <= BODY_BYTES_MAX && framed(body)[..HEAD_BYTES] == *head)
        else {
            break;
        };
        found.push(body.to_vec());
        bytes = &rest[len..];
    }
    found
}

impl<E: Storage> Kept<E> {
    /// Opens the journal; gives all records there are, the oldest first.
    pub(super) async fn open(storage: E) -> Result<(Self, Vec<Vec<u8>>), Error> {
        let names = match storage.scan(PARTITION).await {
            Ok(names) => names,
            Err(Error::PartitionMissing(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut numbers: Vec<u64> =
            names.into_iter().filter_map(|name| Some(u64::from_be_bytes(name.try_into().ok()?))).collect();
        numbers.sort_unstable();
        let (mut found, mut last) = (Vec::new(), None);
        for number in numbers {
            let (blob, len) = storage.open(PARTITION, &number.to_be_bytes()).await?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let mut bytes = blob.read_at(0, len, ReadOptions::default()).await?.freeze();
            let read = records(&bytes.copy_to_bytes(len));
            let whole: usize = read.iter().map(|body| HEAD_BYTES + body.len()).sum();
            last = Some((number, blob, whole as u64));
            found.extend(read);
        }
        let (number, blob, bytes) = match last {
            Some((number, blob, bytes)) => {
                blob.resize(bytes).await?;
                (number, blob, bytes)
            }
            None => (1, storage.open(PARTITION, &1u64.to_be_bytes()).await?.0, 0),
        };
        Ok((Self { storage, blob, number, bytes, base_bytes: 0 }, found))
    }

    /// Whether most of the file is outdated.
    pub(super) fn is_due(&self) -> bool {
        self.bytes > 2 * self.base_bytes + ANEW_BYTES
    }

    /// Appends records, which are on disk when this returns.
    pub(super) async fn write(&mut self, bodies: &[Vec<u8>]) -> Result<(), Error> {
        let records: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        let len = records.len() as u64;
        self.blob.write_at(self.bytes, IoBuf::from(records), WriteOptions::default()).await?;
        self.blob.sync().await?;
        self.bytes += len;
        Ok(())
    }

    /// Goes on in a new file that begins with these; the files before it go.
    pub(super) async fn renew(&mut self, bodies: &[Vec<u8>]) -> Result<(), Error> {
        let (number, old) = (self.number + 1, self.number);
        let (blob, _) = self.storage.open(PARTITION, &number.to_be_bytes()).await?;
        blob.resize(0).await?;
        // Together: what is written goes behind what this very file has.
        (self.blob, self.number, self.bytes) = (blob, number, 0);
        self.write(bodies).await?;
        self.base_bytes = self.bytes;
        for number in (1..=old).rev() {
            if self.storage.remove(PARTITION, Some(&number.to_be_bytes())).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_runtime::{Runner as _, Supervisor as _, deterministic};

    #[test]
    fn what_was_written_returns_through_new_files_and_torn_ends() {
        deterministic::Runner::default().start(|context| async move {
            let open = async || Kept::open(context.child("kept")).await.unwrap();
            let (mut kept, found) = open().await;
            assert!(found.is_empty());
            kept.write(&[b"one".to_vec(), b"two".to_vec()]).await.unwrap();
            kept.blob
                .write_at(kept.bytes, IoBuf::from(framed(b"torn")[..9].to_vec()), WriteOptions::default())
                .await
                .unwrap();
            kept.blob.sync().await.unwrap();
            drop(kept);
            let (mut kept, found) = open().await;
            assert_eq!(found, [b"one", b"two"]);
            kept.write(&[vec![7; BODY_BYTES_MAX]]).await.unwrap();
            assert!(!kept.is_due());
            while !kept.is_due() {
                kept.write(&[vec![8; BODY_BYTES_MAX]]).await.unwrap();
            }
            drop(kept);
            let (mut kept, _) = open().await;
            assert!(kept.is_due(), "how much of it was there at first is not known");
            kept.renew(&[b"three".to_vec()]).await.unwrap();
            kept.write(&[b"four".to_vec()]).await.unwrap();
            drop(kept);
            let (kept, found) = open().await;
            assert_eq!((found, kept.number), (vec![b"three".to_vec(), b"four".to_vec()], 2));
        });
    }
}
