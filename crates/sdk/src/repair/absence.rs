//! Remember in how many windows each provider was asked in vain.
//!
//! A proof tells the ledger that a provider holds what it should, and nobody whether it gives it: behind a relay that is
//! gone it proves on, is paid, and reaches no one. Whom this client asked in each of [`UNREACHED_WINDOWS`] windows, and
//! never reached, is not expected back any more, whatever it proves. A look at which nobody answers says nothing: it may be
//! this machine that is cut off. What is known is one small file a network, so that commands that end remember it for the
//! next; half written upon a power cut it says nothing, and counting begins anew.

use crate::intent::{body, framed};
use alloy_primitives::B256;
use commonware_runtime::{Blob as _, Buf as _, Error, IoBuf, ReadOptions, Storage, WriteOptions};
use futures::lock::Mutex;
use hodei_types::{
    cbor::{CborError, Reader, Writer},
    network::mark,
    transport::NodeKey,
};
use std::collections::{BTreeMap, BTreeSet};

/// Windows in which one is asked, and never reached, until it is not expected back: of daily ones longer than a machine
/// that is on at night alone, or a weekend's trip, keeps anybody waiting.
pub const UNREACHED_WINDOWS: u64 = 3;
/// The folder of a process's store that it is in.
pub const PARTITION: &str = "absences";
/// What nobody asked about for so many windows says nothing any more.
const FORGOTTEN_WINDOWS: u64 = 30;
/// Providers at most; more are as if they were never asked.
const NODES_MAX: usize = 4096;
/// Longer than all of them with their frame.
const FILE_BYTES_MAX: u64 = 64 * NODES_MAX as u64;
const VERSION: u64 = 1;

/// Providers that were asked in vain.
#[derive(Default)]
pub(crate) struct Absences(Mutex<Option<Book>>);

/// By provider: in how many windows, and which was the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Book(BTreeMap<NodeKey, (u64, u64)>);

impl Absences {
    /// Takes in who answered in a window and who did not; gives those that were never reached for as long as is waited.
    pub(crate) async fn hear(
        &self,
        storage: &impl Storage,
        network: &B256,
        window: u64,
        heard: &[(NodeKey, bool)],
    ) -> BTreeSet<NodeKey> {
        let mut known = self.0.lock().await;
        let name = mark(network);
        let book = match &mut *known {
            Some(book) => book,
            none => none.insert(read(storage, &name).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "who was away before is not remembered");
                Book::default()
            })),
        };
        if book.hear(window, heard)
            && let Err(error) = write(storage, &name, book).await
        {
            tracing::warn!(%error, "who is away is not remembered by the next process");
        }
        book.unreached()
    }
}

impl Book {
    /// Whether anything is otherwise than before.
    fn hear(&mut self, window: u64, heard: &[(NodeKey, bool)]) -> bool {
        let before = self.clone();
        self.0.retain(|_, (_, last)| last.saturating_add(FORGOTTEN_WINDOWS) >= window);
        let is_cut_off = heard.iter().all(|(_, answers)| !answers);
        for (node, answers) in heard {
            let has_room = self.0.len() < NODES_MAX;
            match self.0.get_mut(node) {
                _ if *answers => _ = self.0.remove(node),
                _ if is_cut_off => {}
                Some((windows, last)) if *last < window => (*windows, *last) = (*windows + 1, window),
                None if has_room => _ = self.0.insert(*node, (1, window)),
                Some(_) | None => {}
            }
        }
        *self != before
    }

    fn unreached(&self) -> BTreeSet<NodeKey> {
        let is_long = |(_, (windows, _)): &(&NodeKey, &(u64, u64))| *windows >= UNREACHED_WINDOWS;
        self.0.iter().filter(is_long).map(|(node, _)| *node).collect()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(1 + self.0.len() * 3).uint(VERSION);
        for (node, (windows, last)) in &self.0 {
            out.bytes(&node.0).uint(*windows).uint(*last);
        }
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Reader::new(bytes);
        let count = input.array(1 + NODES_MAX * 3)?.saturating_sub(1) / 3;
        input.exactly("the version of who was away", VERSION)?;
        let mut book = Self::default();
        for _ in 0..count {
            let node = NodeKey(input.fixed()?);
            book.0.insert(node, (input.uint()?, input.uint()?));
        }
        Ok(book)
    }
}

async fn read(storage: &impl Storage, name: &[u8]) -> Result<Book, Error> {
    match storage.scan(PARTITION).await {
        Ok(names) if names.iter().any(|known| known == name) => {}
        Ok(_) | Err(Error::PartitionMissing(_)) => return Ok(Book::default()),
        Err(error) => return Err(error),
    }
    let (blob, len) = storage.open(PARTITION, name).await?;
    let len = len.min(FILE_BYTES_MAX) as usize;
    let mut bytes = blob.read_at(0, len, ReadOptions::default()).await?.freeze();
    let bytes = bytes.copy_to_bytes(len);
    // An older, longer one may stand behind it.
    Ok(body(&bytes).and_then(|body| Book::decode(body).ok()).unwrap_or_default())
}

async fn write(storage: &impl Storage, name: &[u8], book: &Book) -> Result<(), Error> {
    let (blob, _) = storage.open(PARTITION, name).await?;
    blob.write_at(0, IoBuf::from(framed(&book.encode())), WriteOptions::default()).await?;
    blob.sync().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_runtime::{Runner as _, deterministic::Runner};

    const AWAY: NodeKey = NodeKey([1; 32]);
    const THERE: NodeKey = NodeKey([2; 32]);

    fn hear(book: &mut Book, window: u64, answers: bool) -> bool {
        book.hear(window, &[(AWAY, answers), (THERE, true)]);
        book.unreached().contains(&AWAY)
    }

    #[test]
    fn who_is_asked_in_vain_is_expected_back_until_the_third_window_however_often_it_is_asked() {
        let mut book = Book::default();
        assert_eq!(
            [7, 7, 7, 7, 8, 8, 9].map(|window| hear(&mut book, window, false)),
            [false, false, false, false, false, false, true]
        );
        assert!(!hear(&mut book, 9, true), "it answers");
        assert_eq!(
            [10, 11, 12].map(|window| hear(&mut book, window, false)),
            [false, false, true],
            "from the beginning"
        );
        // What is older than a month is no word of now.
        assert!(!hear(&mut book, 12 + FORGOTTEN_WINDOWS + 1, false));
    }

    #[test]
    fn a_client_that_reaches_nobody_blames_nobody() {
        let mut book = Book::default();
        (0..9).for_each(|window| _ = book.hear(window, &[(AWAY, false), (THERE, false)]));
        assert_eq!((book.unreached(), book.0.len()), (BTreeSet::new(), 0));
    }

    #[test]
    fn the_next_process_remembers_and_what_is_torn_says_nothing() {
        Runner::default().start(|context| async move {
            let (network, heard) = (B256::repeat_byte(7), [(AWAY, false), (THERE, true)]);
            for window in [1, 2] {
                assert!(Absences::default().hear(&context, &network, window, &heard).await.is_empty());
            }
            let other = B256::repeat_byte(8);
            assert!(Absences::default().hear(&context, &other, 3, &heard).await.is_empty(), "of another network");
            let found = Absences::default().hear(&context, &network, 3, &heard).await;
            assert_eq!(found, BTreeSet::from([AWAY]));
            let (blob, _) = context.open(PARTITION, &mark(&network)).await.unwrap();
            blob.resize(20).await.unwrap();
            assert!(Absences::default().hear(&context, &network, 4, &heard).await.is_empty());
        });
    }
}
