//! Keep links open for a while, and while nobody can be asked.
//!
//! A folder is read file by file: its record is read once for many of them. Upon a question about a link that was opened
//! before: where the ledger or the record's keepers cannot be asked now, what was opened stays good until the link's own
//! end, for each provider still checks the grant itself. The passes that a process before this one opened the cloud keeps on
//! disk. A link that was taken back is open here for a few seconds more, a pass whose reads are paid for a minute.

use hodei_sdk::{
    Fault, Local,
    share::{Opened, Told},
};
use hodei_types::share::Link;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

/// Nobody is asked about a folder again for so long.
const FRESH: Duration = Duration::from_secs(5);
/// The same where what is read is paid for: each question costs the record once more, from several providers.
const PAID: Duration = Duration::from_secs(60);
/// The same where the last time nobody answered, or the ledger did not: that took its time.
const LEFT: Duration = Duration::from_secs(30);
/// Links kept: a record is some kilobytes, 1 MiB at most. One more forgets the one that was asked for first.
const OPEN_MAX: usize = 64;

struct Kept {
    opened: Arc<Opened>,
    until: Instant,
}

/// Links that were opened lately, by their words; clones share them.
#[derive(Clone, Default)]
pub(super) struct Shelf(Arc<Mutex<BTreeMap<String, Kept>>>);

impl Shelf {
    /// What a link tells of.
    pub(super) async fn open(&self, cloud: &Local, word: &str, link: &Link) -> Result<Arc<Opened>, Fault> {
        // Its end, its network and its reader are looked at each time.
        cloud.check_link(link)?;
        let kept = self.kept(word);
        if let Some((opened, true)) = &kept {
            return Ok(opened.clone());
        }
        match cloud.open_link(link).await {
            Ok(opened) => {
                let opened = Arc::new(opened);
                let fresh = match is_folder(&opened) {
                    _ if opened.is_kept => LEFT,
                    _ if link.purse.is_some() => PAID,
                    true => FRESH,
                    false => Duration::ZERO,
                };
                self.keep(word, &opened, fresh);
                Ok(opened)
            }
            Err(error) => match kept.filter(|_| error.is_temporary()) {
                Some((opened, _)) => {
                    tracing::info!(%error, "share: nobody can be asked, so a link stays open");
                    self.keep(word, &opened, LEFT);
                    Ok(opened)
                }
                None => {
                    self.0.lock().expect("no panic under this lock").remove(word);
                    Err(error)
                }
            },
        }
    }

    /// What was opened before, and whether it is fresh.
    fn kept(&self, word: &str) -> Option<(Arc<Opened>, bool)> {
        let mut shelf = self.0.lock().expect("no panic under this lock");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        shelf.retain(|_, kept| kept.opened.expires_ms > now);
        let kept = shelf.get(word)?;
        Some((kept.opened.clone(), kept.until > Instant::now()))
    }

    fn keep(&self, word: &str, opened: &Arc<Opened>, fresh: Duration) {
        let mut shelf = self.0.lock().expect("no panic under this lock");
        if shelf.len() >= OPEN_MAX && !shelf.contains_key(word) {
            let oldest = shelf.iter().min_by_key(|(_, kept)| kept.until).map(|(word, _)| word.clone());
            if let Some(oldest) = oldest {
                shelf.remove(&oldest);
            }
        }
        let kept = Kept { opened: opened.clone(), until: Instant::now() + fresh };
        shelf.insert(word.to_owned(), kept);
    }
}

fn is_folder(opened: &Opened) -> bool {
    matches!(opened.told, Told::Many(_))
}
