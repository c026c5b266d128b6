//! Look through the newest blocks for what stands in them, a page at a time.

use super::Cursor;
use hodei_types::chain::{Chain, ChainError, LOG_BLOCKS_MAX};

/// Blocks of one question; fewer where a validator refuses as many.
pub(crate) const PIECE_BLOCKS: u64 = 10_000;

/// What is listed by its block.
pub(crate) trait Dated {
    fn height(&self) -> u64;
}

/// The newest of what was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Newest first.
    pub rows: Vec<T>,
    /// The blocks looked through: none is left out of them, but where `is_more` says so.
    pub from: u64,
    pub to: u64,
    /// Whether rows in these blocks were left out, since as many as asked for were found.
    pub is_more: bool,
    /// Why no older blocks were looked through, where there are some.
    pub cut: Option<String>,
    /// Where older ones are to be asked for; `None` if there are none, or none are kept.
    pub next: Option<Cursor>,
}

/// The `last` newest rows, out of the last [`LOG_BLOCKS_MAX`] blocks or as many as are kept; where `before` is said, of
/// those that are older. `piece` gives all rows of some blocks, newest first.
pub(crate) async fn newest<T: Dated>(
    chain: &dyn Chain,
    last: usize,
    before: Option<Cursor>,
    mut piece: impl AsyncFnMut(u64, u64) -> Result<Vec<T>, ChainError>,
) -> Result<Page<T>, ChainError> {
    let head = chain.head().await?.height;
    let highest = before.map_or(head, |before| before.newest().min(head));
    let oldest = highest.saturating_sub(LOG_BLOCKS_MAX - 1).max(1);
    let mut found = Page { rows: Vec::new(), from: highest + 1, to: highest, is_more: false, cut: None, next: None };
    let mut width = PIECE_BLOCKS;
    let most = last.saturating_add(before.map_or(0, |before| before.skip()));
    while found.from > oldest && found.rows.len() <= most {
        let to = found.from - 1;
        let from = (to + 1).saturating_sub(width).max(oldest);
        match piece(from, to).await {
            Ok(rows) => {
                found.rows.extend(rows);
                found.from = from;
                width = PIECE_BLOCKS.min(width * 2);
            }
            // Too many for one answer, or the oldest are no longer kept: fewer at once, to the block.
            Err(ChainError::Refused(_)) if from < to => width = (to - from).div_ceil(2),
            Err(ChainError::Refused(reason)) if to < head => {
                found.cut = Some(reason);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    if found.cut.is_none() && found.from == oldest && oldest > 1 {
        found.cut = Some(format!("{LOG_BLOCKS_MAX} blocks are looked through at a time"));
        found.next = Some(Cursor::below(oldest));
    }
    if let Some(before) = before {
        found.rows.drain(..before.shown(&found.rows));
    }
    found.is_more = found.rows.len() > last;
    if found.is_more {
        let (shown, more) = found.rows.split_at(last);
        found.next = Some(Cursor::behind(before, shown, &more[0]));
    }
    found.rows.truncate(last);
    Ok(found)
}
